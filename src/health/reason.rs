//! Why a backend's state changed, in words.

use std::fmt;
use std::time::Duration;

use super::expect::ProbeFailure;

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
}

impl Reason {
    /// A word for a metric's label: few and fixed.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Passed { .. } => "probe_passed",
            Self::Failed { .. } => "probe_failed",
            Self::Ejected { reason, .. } => reason.label(),
            Self::EjectionOver => "ejection_over",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { passes: 1 } => f.write_str("passed its check"),
            Self::Passed { passes } => write!(f, "passed {passes} checks in a row"),
            Self::Failed { failures: 1, last } => write!(f, "failed its check: {last}"),
            Self::Failed { failures, last } => {
                write!(f, "failed {failures} checks in a row, the last: {last}")
            }
            Self::Ejected { reason, length } => {
                write!(f, "ejected for {}: {reason}", Words(*length))
            }
            Self::EjectionOver => f.write_str("the time of its ejection is over"),
        }
    }
}

/// What real traffic showed of a backend that is ejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EjectionReason {
    /// So many requests in a row failed.
    ConsecutiveFailures(u32),
}

impl EjectionReason {
    /// A word for a metric's label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ConsecutiveFailures(_) => "consecutive_failures",
        }
    }
}

impl fmt::Display for EjectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(1) => f.write_str("a request failed"),
            Self::ConsecutiveFailures(n) => write!(f, "{n} requests in a row failed"),
        }
    }
}

/// A duration as people write it: `1 s`, `250 ms`, `1.5 s`.
pub(super) struct Words(pub(super) Duration);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            // Millisecond precision, and an `f64` prints no needless zeros.
            write!(f, "{} s", self.0.as_millis() as f64 / 1000.0)
        }
    }
}
