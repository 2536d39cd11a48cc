//! The circuit breaker: when everything fails, failing at once is the kinder answer, to clients and
//! to what is behind.
//!
//! Closed, everything flows. After so many failures in a row it opens, and everything is refused
//! without being tried. After a while it is half-open: a few trials at a time may pass; enough
//! good ones in a row close it, one bad one opens it again. A backend that its probes find healthy
//! again ends the wait early.
//!
//! It does not know what it stands before. Before a pool it counts requests, with all their
//! attempts; before one backend, the open time is the length of its ejection (see
//! [`trip`](Breaker::trip)).

use std::fmt;
use std::time::Duration;

use super::reason::Words;

/// `[pools.X.circuit_breaker]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it; 0 counts as 1.
    pub failures: u32,
    /// How long it stays open.
    pub open_for: Duration,
    /// Trials at a time while it is half-open; 0 counts as 1.
    pub trials: u32,
    /// Good trials in a row that close it; 0 counts as 1.
    pub successes: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(60), trials: 1, successes: 2 }
    }
}

/// What a breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets everything through.
    Closed,
    /// Refuses everything.
    Open {
        /// When trials may begin, since the process started.
        until: Duration,
    },
    /// Lets a trial through.
    HalfOpen,
}

impl BreakerState {
    /// The word for it in metrics, logs and answers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
        }
    }

    /// The word for it in sentences.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open",
            other => other.label(),
        }
    }
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerReason {
    /// So many requests in a row failed.
    Failures {
        /// How many.
        failures: u32,
        /// How long it is open now.
        open_for: Duration,
    },
    /// A trial failed.
    TrialFailed {
        /// How long it is open now.
        open_for: Duration,
    },
    /// Somebody else decided.
    Tripped {
        /// How long it is open now.
        open_for: Duration,
    },
    /// The time that it is open is over.
    Waited,
    /// Something behind it became well.
    Recovered,
    /// So many trials in a row went well.
    Passed {
        /// How many.
        successes: u32,
    },
}

impl BreakerReason {
    /// A word for a metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Failures { .. } => "failures",
            Self::TrialFailed { .. } => "trial_failed",
            Self::Tripped { .. } => "tripped",
            Self::Waited => "waited",
            Self::Recovered => "recovered",
            Self::Passed { .. } => "trials_passed",
        }
    }
}

impl fmt::Display for BreakerReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { failures, open_for } => {
                write!(f, "{failures} requests in a row failed; open for {}", Words(*open_for))
            }
            Self::TrialFailed { open_for } => {
                write!(f, "a trial failed; open for {}", Words(*open_for))
            }
            Self::Tripped { open_for } => write!(f, "open for {}", Words(*open_for)),
            Self::Waited => f.write_str("its time is over; trials may pass"),
            Self::Recovered => f.write_str("a backend is healthy again; trials may pass"),
            Self::Passed { successes: 1 } => f.write_str("a trial went well"),
            Self::Passed { successes } => write!(f, "{successes} trials in a row went well"),
        }
    }
}

/// A change of state, to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerTransition {
    /// What it was.
    pub from: BreakerState,
    /// What it is.
    pub to: BreakerState,
    /// Why.
    pub reason: BreakerReason,
}

/// That a request is a trial. Its outcome is to be told, or that there will be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial(u64);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may pass.
    Pass,
    /// It may pass, as a trial.
    Trial(Trial),
    /// It is refused.
    Refused {
        /// When it makes sense to ask again: for `Retry-After`.
        retry_after: Duration,
    },
}

/// When to ask again while trials run: they may be over at any moment.
const MOMENT: Duration = Duration::from_secs(1);

/// One breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: BreakerState,
    since: Duration,
    /// Failures in a row while closed, good trials in a row while half-open.
    run: u32,
    trials: u32,
    last_trial: Duration,
    /// Counts the times that trials began: late news of older ones is none.
    episode: u64,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(settings: BreakerSettings, now: Duration) -> Self {
        Self {
            settings,
            state: BreakerState::Closed,
            since: now,
            run: 0,
            trials: 0,
            last_trial: now,
            episode: 0,
        }
    }

    /// Other settings from now on; it stays what it is.
    pub fn configure(&mut self, settings: BreakerSettings) {
        self.settings = settings;
    }

    /// What it does.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Since when.
    #[must_use]
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Whether it is closed and no failure was the last it heard of. Then it need not be asked, nor
    /// be told of successes: this is to be mirrored where no lock is needed to read it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.state == BreakerState::Closed && self.run == 0
    }

    /// Whether a request may pass.
    pub fn admit(&mut self, now: Duration) -> (Admission, Option<BreakerTransition>) {
        let mut transition = None;
        if let BreakerState::Open { until } = self.state {
            if now < until {
                return (Admission::Refused { retry_after: until - now }, None);
            }
            transition = self.half_open(now, BreakerReason::Waited);
        }
        if self.state == BreakerState::Closed {
            return (Admission::Pass, transition);
        }
        let lost = self.last_trial.saturating_add(self.settings.open_for);
        if self.trials >= self.settings.trials.max(1) {
            if now < lost {
                return (Admission::Refused { retry_after: MOMENT.min(lost - now) }, transition);
            }
            // Trials that say nothing for so long (a download, say) must not keep others from it.
            self.episode += 1;
            self.trials = 0;
        }
        self.trials += 1;
        self.last_trial = now;
        (Admission::Trial(Trial(self.episode)), transition)
    }

    /// Takes the outcome of a request that was let through; `trial` is what it was let through as.
    pub fn on_outcome(
        &mut self,
        now: Duration,
        trial: Option<Trial>,
        success: bool,
    ) -> Option<BreakerTransition> {
        match (self.state, trial) {
            (BreakerState::Closed, _) if success => {
                self.run = 0;
                None
            }
            (BreakerState::Closed, _) => {
                self.run = self.run.saturating_add(1);
                let (failures, open_for) = (self.run, self.settings.open_for);
                let enough = failures >= self.settings.failures.max(1);
                let reason = BreakerReason::Failures { failures, open_for };
                enough.then(|| self.open(now, open_for, reason)).flatten()
            }
            (BreakerState::HalfOpen, Some(Trial(episode))) if episode == self.episode => {
                self.trials = self.trials.saturating_sub(1);
                self.judge_trial(now, success)
            }
            // It was let through before the breaker opened: that says nothing new.
            _ => None,
        }
    }

    /// There will be no outcome of a trial: the client left, say.
    pub fn on_abandoned(&mut self, trial: Trial) {
        if self.state == BreakerState::HalfOpen && trial == Trial(self.episode) {
            self.trials = self.trials.saturating_sub(1);
        }
    }

    /// Opens it for so long, for a reason of the caller's.
    pub fn trip(&mut self, now: Duration, open_for: Duration) -> Option<BreakerTransition> {
        self.open(now, open_for, BreakerReason::Tripped { open_for })
    }

    /// Something behind it became well: if it is open, trials may begin now.
    pub fn on_recovery(&mut self, now: Duration) -> Option<BreakerTransition> {
        let open = matches!(self.state, BreakerState::Open { .. });
        open.then(|| self.half_open(now, BreakerReason::Recovered)).flatten()
    }

    fn judge_trial(&mut self, now: Duration, success: bool) -> Option<BreakerTransition> {
        if !success {
            let open_for = self.settings.open_for;
            return self.open(now, open_for, BreakerReason::TrialFailed { open_for });
        }
        self.run = self.run.saturating_add(1);
        let successes = self.run;
        let enough = successes >= self.settings.successes.max(1);
        let reason = BreakerReason::Passed { successes };
        enough.then(|| self.change(now, BreakerState::Closed, reason)).flatten()
    }

    fn open(
        &mut self,
        now: Duration,
        open_for: Duration,
        reason: BreakerReason,
    ) -> Option<BreakerTransition> {
        self.change(now, BreakerState::Open { until: now.saturating_add(open_for) }, reason)
    }

    fn half_open(&mut self, now: Duration, reason: BreakerReason) -> Option<BreakerTransition> {
        self.episode += 1;
        self.trials = 0;
        self.change(now, BreakerState::HalfOpen, reason)
    }

    fn change(
        &mut self,
        now: Duration,
        to: BreakerState,
        reason: BreakerReason,
    ) -> Option<BreakerTransition> {
        let from = std::mem::replace(&mut self.state, to);
        self.run = 0;
        self.since = now;
        (from != to).then_some(BreakerTransition { from, to, reason })
    }
}

#[cfg(test)]
mod tests;
