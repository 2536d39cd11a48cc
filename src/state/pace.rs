//! A bounded rate that all workers keep together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Hands out moments that follow each other at a rate.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    /// 0: all at once.
    per_second: u32,
    taken: AtomicU64,
}

impl Pace {
    /// So many a second from `began` on; 0 is no bound.
    pub fn new(began: Instant, per_second: u32) -> Self {
        Pace { began, per_second, taken: AtomicU64::new(0) }
    }

    /// The next moment, somewhere in its share of the time: `random` is uniform in 0.0..1.0. Moments
    /// that nobody took while they were to come have passed, and are handed out all the same.
    pub fn next(&self, random: f64) -> Instant {
        if self.per_second == 0 {
            return self.began;
        }
        let place = self.taken.fetch_add(1, Ordering::Relaxed) as f64 + random.clamp(0.0, 1.0);
        let after = Duration::try_from_secs_f64(place / f64::from(self.per_second));
        self.began + after.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_follow_each_other_at_the_rate() {
        let began = Instant::now();
        let pace = Pace::new(began, 50);
        let moments: Vec<u128> =
            (0..4).map(|n| (pace.next(f64::from(n) / 4.0) - began).as_millis()).collect();
        assert_eq!(moments, [0, 25, 50, 75]);
    }

    #[test]
    fn without_a_rate_it_is_at_once() {
        let began = Instant::now();
        let pace = Pace::new(began, 0);
        assert_eq!([pace.next(0.9), pace.next(0.9)], [began, began]);
    }
}
