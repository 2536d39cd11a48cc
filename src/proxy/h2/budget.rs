//! Token buckets: what a client may do at no charge, refilled by time and by useful work.

use std::time::Duration;

use tokio::time::Instant;

/// How much of something is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// At once.
    pub(super) burst: f32,
    /// And so much more each second.
    pub(super) per_second: f32,
}

/// What is left of a budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    tokens: f32,
    /// Time is looked at only when the tokens run out; so far it has been paid for.
    paid_until: Instant,
}

impl Bucket {
    pub(super) fn full(budget: Budget, now: Instant) -> Bucket {
        Bucket { tokens: budget.burst, paid_until: now }
    }

    /// Takes tokens; false if there are not enough.
    pub(super) fn take(&mut self, budget: Budget, cost: f32, now: &impl Fn() -> Instant) -> bool {
        if self.tokens < cost {
            let now = now();
            let elapsed = now.saturating_duration_since(self.paid_until);
            self.give(budget, budget.per_second * elapsed.min(HOUR).as_secs_f32());
            self.paid_until = now;
        }
        if self.tokens < cost {
            return false;
        }
        self.tokens -= cost;
        true
    }

    /// Puts tokens back.
    pub(super) fn give(&mut self, budget: Budget, tokens: f32) {
        self.tokens = (self.tokens + tokens).min(budget.burst);
    }
}

/// Longer than any bucket takes to fill.
const HOUR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { burst: 10.0, per_second: 2.0 };

    fn takes(bucket: &mut Bucket, now: Instant) -> usize {
        std::iter::repeat_with(|| bucket.take(BUDGET, 1.0, &|| now))
            .take_while(|taken| *taken)
            .count()
    }

    #[test]
    fn a_burst_and_then_what_time_gives() {
        let start = Instant::now();
        let mut bucket = Bucket::full(BUDGET, start);
        assert_eq!(takes(&mut bucket, start), 10);
        assert_eq!(takes(&mut bucket, start + Duration::from_millis(400)), 0);
        assert_eq!(takes(&mut bucket, start + Duration::from_secs(2)), 4);
        // However long it was: no more than a burst.
        assert_eq!(takes(&mut bucket, start + Duration::from_secs(100_000)), 10);
    }

    #[test]
    fn work_refills_up_to_the_burst() {
        let now = Instant::now();
        let mut bucket = Bucket::full(BUDGET, now);
        bucket.give(BUDGET, 5.0);
        assert_eq!(takes(&mut bucket, now), 10);
        bucket.give(BUDGET, 3.0);
        assert_eq!(takes(&mut bucket, now), 3);
    }
}
