//! What traffic showed of a backend in a short time.

use std::ops::AddAssign;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What became of attempts in a stretch of time. Attempts whose client left, 4xx, and answers that
/// we made ourselves for lack of room (429, 503) are none of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts of which the outcome is known.
    pub requests: u64,
    /// Those of `requests` that failed: 5xx, reset, broken off, timeout, connect error, or gRPC
    /// status 2, 4, 13, 14 or 15.
    pub failed: u64,
    /// Attempts that got a response head or are older than the limit, and began after `grace`.
    pub timed: u64,
    /// Those of `timed` that are older than the limit, counted when their age passed it.
    pub slow: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.timed += other.timed;
        self.slow += other.slow;
    }
}

/// What one backend did since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSample {
    /// Its address.
    pub backend: Arc<str>,
    /// Whether it takes traffic: its probes pass and it is not ejected. Backends that somebody
    /// drained or disabled by hand must be left out altogether.
    pub usable: bool,
    /// Its attempts.
    pub counts: Counts,
}

/// Which property of an attempt a test looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// Whether it failed.
    Errors,
    /// Whether it was too slow.
    Latency,
}

impl Measure {
    /// A word for it, for labels and for JSON.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
        }
    }

    /// The numbers of this test.
    #[must_use]
    pub fn of(self, counts: &Counts) -> Tally {
        match self {
            Self::Errors => Tally { n: counts.requests, bad: counts.failed },
            Self::Latency => Tally { n: counts.timed, bad: counts.slow },
        }
    }
}

/// Samples of one test, and how many of them are bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub n: u64,
    /// The bad ones; at most `n`.
    pub bad: u64,
}

impl Tally {
    /// The share of bad ones; 0.0 of nothing.
    #[must_use]
    pub fn share(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.bad as f64 / self.n as f64 }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.n += other.n;
        self.bad += other.bad;
    }
}
