//! How long everything takes: short, as in CI, or in full.

use std::time::Duration;

/// When a fault begins and ends, and when the load does, from the begin of the load.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub strike: Duration,
    pub heal: Duration,
    pub end: Duration,
}

/// The measure of a run.
#[derive(Clone, Debug)]
pub struct Form {
    pub times: Times,
    /// For what takes its time to be found.
    pub long: Times,
    /// Keys of the pool.
    pub pool: &'static str,
    /// The `slow_start` that this makes.
    pub slow_start: Duration,
    /// How many changes of the status to print.
    pub told: usize,
    /// How many swaps back and forth.
    pub swaps: usize,
    /// How often a version turns bad.
    pub runs: usize,
    /// How long to wait for a backend's return.
    pub until_back: Duration,
}

impl Form {
    /// The measure by which the figures are published, with the default configuration.
    pub fn full() -> Form {
        let times = times(4000, 10_000, 16_000);
        Form {
            times,
            long: times,
            pool: "",
            slow_start: Duration::from_secs(10),
            told: 100,
            swaps: 200,
            runs: 20,
            until_back: Duration::from_secs(40),
        }
    }

    /// As short as it can be. Ejections last 4 s instead of 10 s: longer than the
    /// fault, and short enough to wait for their end.
    pub fn short() -> Form {
        Form {
            times: times(1000, 4000, 5000),
            long: times(1000, 6000, 7000),
            pool: "slow_start = \"2s\"\noutliers.base_ejection = \"4s\"",
            slow_start: Duration::from_secs(2),
            told: 6,
            swaps: 6,
            runs: 1,
            until_back: Duration::from_secs(15),
        }
    }
}

const fn times(strike: u64, heal: u64, end: u64) -> Times {
    let millis = Duration::from_millis;
    Times { strike: millis(strike), heal: millis(heal), end: millis(end) }
}
