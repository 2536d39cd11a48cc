//! The retry budget of a pool: retries are a share of recent requests plus a small fixed rate, so
//! that retries help against one sick backend and cannot become a storm when all are sick.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Unspent budget is kept this long.
const MEMORY_SECONDS: f64 = 10.0;

/// A token bucket that is filled lazily, when somebody wants a retry: a request that needs none
/// pays nothing for it.
#[derive(Debug)]
pub struct RetryBudget {
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// `None` until the first spending: then the bucket is full.
    tokens: Option<f64>,
    requests_seen: u64,
    updated: Duration,
}

impl RetryBudget {
    /// A budget as of `now`, as if the pool had been quiet for a while.
    pub fn new(now: Duration) -> Self {
        let bucket = Bucket { tokens: None, requests_seen: 0, updated: now };
        RetryBudget { bucket: Mutex::new(bucket) }
    }

    /// Takes one retry out of the budget, or says that it is exhausted.
    ///
    /// `share` is the allowed share of requests (0.2 is 20 %) and `floor` the retries allowed a
    /// second however little traffic there is; `requests` is the number that the pool has had since
    /// it exists, `now` the time since the process started.
    pub fn try_spend(&self, share: f64, floor: f64, requests: u64, now: Duration) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = now.saturating_sub(bucket.updated).as_secs_f64();
        let arrived = requests.saturating_sub(bucket.requests_seen) as f64;
        // Of a long quiet stretch only the last seconds count, at its mean rate.
        let remembered = if seconds > MEMORY_SECONDS { MEMORY_SECONDS / seconds } else { 1.0 };
        let earned = share * arrived * remembered + floor * seconds.min(MEMORY_SECONDS);
        let full = floor * MEMORY_SECONDS;
        let held = bucket.tokens.unwrap_or(full);
        let ceiling = (full + share * arrived * remembered).max(held);
        let tokens = (held + earned).min(ceiling);
        bucket.requests_seen = requests;
        bucket.updated = now;
        let granted = tokens >= 1.0;
        bucket.tokens = Some(if granted { tokens - 1.0 } else { tokens });
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend_all(budget: &RetryBudget, requests: u64, now: Duration) -> usize {
        (0..100_000).take_while(|_| budget.try_spend(0.2, 10.0, requests, now)).count()
    }

    #[test]
    fn without_traffic_ten_seconds_of_the_free_rate_are_there() {
        let budget = RetryBudget::new(Duration::ZERO);
        assert_eq!(spend_all(&budget, 0, Duration::ZERO), 100);
    }

    #[test]
    fn an_empty_budget_earns_the_free_rate() {
        let budget = RetryBudget::new(Duration::ZERO);
        spend_all(&budget, 0, Duration::ZERO);
        assert_eq!(spend_all(&budget, 0, Duration::from_secs(1)), 10);
    }

    #[test]
    fn traffic_earns_its_share() {
        let budget = RetryBudget::new(Duration::ZERO);
        spend_all(&budget, 0, Duration::ZERO);
        assert_eq!(spend_all(&budget, 1_000, Duration::from_secs(1)), 210);
    }

    #[test]
    fn old_traffic_is_forgotten() {
        let budget = RetryBudget::new(Duration::ZERO);
        spend_all(&budget, 0, Duration::ZERO);
        // 1,000 requests in 100 seconds: the last ten of them earn for 100 requests.
        assert_eq!(spend_all(&budget, 1_000, Duration::from_secs(100)), 120);
    }
}
