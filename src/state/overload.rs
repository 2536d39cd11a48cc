//! Requests that were refused because the process had as many in flight as it may have.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long after the last one it is told that there are such.
const FRESH: Duration = Duration::from_secs(15);

/// Counts them, over all workers. All times are since the process started.
#[derive(Debug, Default)]
pub struct Overload {
    refused: AtomicU64,
    /// In milliseconds.
    last: AtomicU64,
}

impl Overload {
    /// One was refused at `now`.
    pub fn refuse(&self, now: Duration) {
        self.last.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether some were lately.
    pub fn is_fresh(&self, now: Duration) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.refused() > 0 && now.saturating_sub(last) < FRESH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_for_a_while() {
        let overload = Overload::default();
        assert!(!overload.is_fresh(Duration::from_secs(1)), "nobody was refused");
        overload.refuse(Duration::from_secs(10));
        assert!(overload.is_fresh(Duration::from_secs(24)));
        assert!(!overload.is_fresh(Duration::from_secs(25)));
        assert_eq!(overload.refused(), 1);
    }
}
