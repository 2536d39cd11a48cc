//! What is to happen, and what happened.

use std::time::Duration;

/// What may be wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Illness {
    Refuses,
    Hangs,
    Errors,
    Unavailable,
    Slow,
    BreaksOff,
}

pub(super) const ILLNESSES: [Illness; 6] = [
    Illness::Refuses,
    Illness::Hangs,
    Illness::Errors,
    Illness::Unavailable,
    Illness::Slow,
    Illness::BreaksOff,
];

/// What is to happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) backends: usize,
    /// Requests a second.
    pub(super) rate: f64,
    /// So many may be ill at a time.
    pub(super) together: usize,
    /// Only this, and it shows in nearly every answer.
    pub(super) only: Option<Illness>,
    /// The share of requests that are for a page that takes seconds, wherever it is asked for.
    pub(super) slow_pages: f64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) requests: u64,
    /// Requests whose client saw a failure.
    pub(super) failed: u64,
    /// The longest that a client waited for a response head.
    pub(super) slowest: Duration,
    /// Requests whose client waited longer than 300 ms for it.
    pub(super) slow: u64,
    pub(super) retries: u64,
    pub(super) faults: u64,
    pub(super) ejections: u64,
    pub(super) longest_ejection: Duration,
    /// Ejections that were shorter than the last one of the same backend: it had served well meanwhile.
    pub(super) forgiven: u64,
    pub(super) downs: u64,
    /// How often a backend came to lose of its share for being slow.
    pub(super) spared: u64,
}
