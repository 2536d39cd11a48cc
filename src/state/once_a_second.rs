//! Saying the same thing at most once in a while, however many threads want to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Lets one through each second and counts the others.
pub type OnceASecond = OnceIn<1000>;

/// Lets one through in so many milliseconds and counts the others.
#[derive(Debug, Default)]
pub struct OnceIn<const MILLIS: u64> {
    /// When the next may go through, in milliseconds since the process started.
    next_ms: AtomicU64,
    held_back: AtomicU64,
}

impl<const MILLIS: u64> OnceIn<MILLIS> {
    /// If this one goes through: how many were held back since the last that did. `now` is the time
    /// since the process started.
    pub fn admit(&self, now: Duration) -> Option<u64> {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let after = now_ms.saturating_add(MILLIS);
        let first = now_ms >= next_ms
            && self
                .next_ms
                .compare_exchange(next_ms, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !first {
            self.held_back.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.held_back.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_second_goes_through_and_tells_of_the_others() {
        let once = OnceASecond::default();
        let at = |ms| once.admit(Duration::from_millis(ms));
        let let_through = [0, 1, 999, 1000, 1999, 2500, 3400, 3500].map(at);
        let expected = [Some(0), None, None, Some(2), None, Some(1), None, Some(1)];
        assert_eq!(let_through, expected);
    }
}
