//! What all workers together have learned of how long a backend keeps unused connections open.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::health::KeepAlive;

/// What was learned of one backend. Written when it closes an unused connection and when it says what
/// its limit is, read once a second by each worker: a lock is fine.
#[derive(Debug)]
pub struct LearnedKeepAlive {
    began: Instant,
    learned: Mutex<KeepAlive>,
}

impl Default for LearnedKeepAlive {
    fn default() -> Self {
        LearnedKeepAlive { began: Instant::now(), learned: Mutex::default() }
    }
}

impl LearnedKeepAlive {
    /// For how long a connection may lie unused and still be used; `None` if nothing is known.
    pub fn limit(&self, now: Instant) -> Option<Duration> {
        self.lock().limit(self.since(now))
    }

    /// It closed a connection that had lain unused for so long.
    pub fn on_closed(&self, now: Instant, idle: Duration) {
        self.lock().on_closed(self.since(now), idle);
    }

    /// It said in an answer how long it keeps them.
    pub fn on_announced(&self, now: Instant, timeout: Duration) {
        self.lock().on_announced(self.since(now), timeout);
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    fn lock(&self) -> MutexGuard<'_, KeepAlive> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
