//! Why a backend's state changed, in words.

use std::fmt;
use std::time::Duration;

use super::expect::ProbeFailure;
use super::flaps::Hold;
use super::machine::Hand;
use super::outliers::bucket;

/// Why a backend's state changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Enough probes passed in a row.
    Passed {
        /// How many.
        passes: u32,
    },
    /// Enough probes failed in a row.
    Failed {
        /// How many.
        failures: u32,
        /// What the last one found.
        last: ProbeFailure,
        /// It went up and down too often: it stays down for a while.
        hold: Option<Hold>,
    },
    /// Real traffic showed it to be ill.
    Ejected {
        /// What it showed.
        reason: EjectionReason,
        /// How long it is out.
        length: Duration,
    },
    /// The time of its ejection is over.
    EjectionOver,
    /// Its ejection ended before its time: the gate of a swap is to say whether it is fit.
    EjectionForgotten,
    /// It asked on its health page for no more requests.
    AsksToBeDrained,
    /// It asks so no more.
    AsksNoMore,
    /// An operator decided so; or that nothing is decided any more.
    ByHand(Option<Hand>),
    /// It was so before the restart.
    Restored {
        /// Whether its probes passed then.
        healthy: bool,
    },
}

impl Reason {
    /// A word for a metric's label: few and fixed.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Passed { .. } => "probe_passed",
            Self::Failed { hold: Some(_), .. } => "flapping",
            Self::Failed { .. } => "probe_failed",
            Self::Ejected { reason, .. } => reason.label(),
            Self::EjectionOver => "ejection_over",
            Self::EjectionForgotten => "ejection_forgotten",
            Self::AsksToBeDrained => "asks_to_be_drained",
            Self::AsksNoMore => "asks_no_more",
            Self::ByHand(_) => "by_hand",
            Self::Restored { .. } => "restored",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { passes: 1 } => f.write_str("passed its check"),
            Self::Passed { passes } => write!(f, "passed {passes} checks in a row"),
            Self::Failed { failures, last, hold } => {
                match failures {
                    1 => write!(f, "failed its check: {last}")?,
                    _ => write!(f, "failed {failures} checks in a row, the last: {last}")?,
                }
                match hold {
                    None => Ok(()),
                    Some(hold) => {
                        write!(f, "; up and down too often, held down for {}", Words(hold.length))
                    }
                }
            }
            Self::Ejected { reason, length } => {
                write!(f, "ejected for {}: {reason}", Words(*length))
            }
            Self::EjectionOver => f.write_str("the time of its ejection is over"),
            Self::EjectionForgotten => {
                f.write_str("its ejection ended with the gate of a swap, which checks it anew")
            }
            Self::AsksToBeDrained => f.write_str("asks to be drained"),
            Self::AsksNoMore => f.write_str("asks to be drained no more"),
            Self::ByHand(Some(Hand::Drained)) => f.write_str("drained by hand"),
            Self::ByHand(Some(Hand::Disabled)) => f.write_str("disabled by hand"),
            Self::ByHand(None) => f.write_str("put back by hand"),
            Self::Restored { healthy: true } => f.write_str("passed its checks before the restart"),
            Self::Restored { healthy: false } => {
                f.write_str("failed its checks before the restart")
            }
        }
    }
}

/// What real traffic showed of a backend that is ejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EjectionReason {
    /// So many requests in a row failed.
    ConsecutiveFailures(u32),
    /// So many responses in a row broke off.
    BrokenOffInARow(u32),
    /// It was on trial after an ejection, and the first failure ended that.
    FailedTrial {
        /// A response broke off; otherwise a request failed.
        broke_off: bool,
    },
    /// Too many of its latest responses broke off.
    BrokenOff {
        /// How many.
        broken_off: u64,
        /// Of how many with a body.
        bodies: u64,
    },
    /// Too many of its latest requests failed, and not so of its siblings'.
    FailureRate {
        /// How many.
        failed: u64,
        /// Of how many.
        requests: u64,
        /// How many of its siblings' failed in the same time.
        rest_failed: u64,
        /// Of how many.
        rest_requests: u64,
    },
    /// It takes much longer than its siblings, and a smaller share of the traffic did not help.
    Slow {
        /// Its median to the response head.
        median: Duration,
        /// That of its siblings.
        siblings: Duration,
        /// What it would have had to stay below.
        limit: Duration,
    },
    /// Its latest requests waited long for a response head, one after another, and not so its
    /// siblings': too few for a median, and enough all the same.
    LateInARow {
        /// How many.
        late: u64,
        /// Longer than this.
        limit: Duration,
        /// How many of its siblings' did so in the same time.
        rest_late: u64,
        /// Of how many.
        rest_heads: u64,
    },
    /// Beside the others of its version it looked bad after a swap; in words.
    Blamed(String),
}

impl EjectionReason {
    /// The same, of a backend that was on trial: then it does not take a run of failures.
    #[must_use]
    pub fn on_trial(self) -> Self {
        match self {
            Self::ConsecutiveFailures(1) => Self::FailedTrial { broke_off: false },
            Self::BrokenOffInARow(1) => Self::FailedTrial { broke_off: true },
            other => other,
        }
    }

    /// Whether it is slow, rather than failing.
    #[must_use]
    pub fn is_slowness(&self) -> bool {
        matches!(self, Self::Slow { .. } | Self::LateInARow { .. })
    }

    /// A word for a metric's label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ConsecutiveFailures(_) => "consecutive_failures",
            Self::FailedTrial { .. } => "trial_failed",
            Self::BrokenOffInARow(_) | Self::BrokenOff { .. } => "broken_off",
            Self::FailureRate { .. } => "failure_rate",
            Self::Slow { .. } | Self::LateInARow { .. } => "latency",
            Self::Blamed(_) => "blamed",
        }
    }
}

impl fmt::Display for EjectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(1) => f.write_str("a request failed"),
            Self::ConsecutiveFailures(n) => write!(f, "{n} requests in a row failed"),
            Self::BrokenOffInARow(1) => f.write_str("a response broke off"),
            Self::BrokenOffInARow(n) => write!(f, "{n} responses in a row broke off"),
            Self::FailedTrial { broke_off: false } => {
                f.write_str("on trial after an ejection, and a request failed")
            }
            Self::FailedTrial { broke_off: true } => {
                f.write_str("on trial after an ejection, and a response broke off")
            }
            Self::BrokenOff { broken_off, bodies } => {
                write!(f, "{broken_off} of its latest {bodies} responses broke off")
            }
            Self::FailureRate { failed, requests, rest_failed, rest_requests } => write!(
                f,
                "{failed} of its latest {requests} requests failed, {rest_failed} of \
                 {rest_requests} on the other backends"
            ),
            Self::Slow { median, siblings, limit } => write!(
                f,
                "its median to the response head is {}{}, that of the other backends {} (the limit \
                 is {})",
                // Who waits still is counted as just above the limit.
                if bucket(*median) <= bucket(*limit) + 1 { "at least " } else { "" },
                Words(*median),
                Words(*siblings),
                Words(*limit)
            ),
            Self::LateInARow { late, limit, rest_late, rest_heads } => write!(
                f,
                "its latest {late} requests waited longer than {} for the response head, {rest_late} \
                 of {rest_heads} on the other backends",
                Words(*limit)
            ),
            Self::Blamed(words) => write!(f, "blamed in its version's stead: {words}"),
        }
    }
}

/// A duration as people write it: `1 s`, `250 ms`, `1.5 s`.
pub(super) struct Words(pub(super) Duration);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_millis(1) {
            write!(f, "{} µs", self.0.as_micros())
        } else if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            // Millisecond precision, and an `f64` prints no needless zeros.
            write!(f, "{} s", self.0.as_millis() as f64 / 1000.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn signs_in_words() {
        let rate = EjectionReason::FailureRate {
            failed: 180,
            requests: 200,
            rest_failed: 1,
            rest_requests: 400,
        };
        let slow = EjectionReason::Slow { median: ms(2_000), siblings: ms(3), limit: ms(250) };
        let waiting = EjectionReason::Slow { median: ms(260), siblings: ms(3), limit: ms(250) };
        let late =
            EjectionReason::LateInARow { late: 2, limit: ms(250), rest_late: 0, rest_heads: 1_343 };
        for (reason, words) in [
            (
                late,
                "its latest 2 requests waited longer than 250 ms for the response head, 0 of 1343 on \
                 the other backends",
            ),
            (rate, "180 of its latest 200 requests failed, 1 of 400 on the other backends"),
            (
                slow,
                "its median to the response head is 2 s, that of the other backends 3 ms (the limit \
                 is 250 ms)",
            ),
            (
                waiting,
                "its median to the response head is at least 260 ms, that of the other backends 3 ms \
                 (the limit is 250 ms)",
            ),
            (EjectionReason::BrokenOffInARow(5), "5 responses in a row broke off"),
            (
                EjectionReason::BrokenOff { broken_off: 5, bodies: 60 },
                "5 of its latest 60 responses broke off",
            ),
        ] {
            assert_eq!(reason.to_string(), words);
        }
    }
}
