//! A histogram of latencies that is fine enough to compare versions by: each bucket is at most a
//! thirty-second of its value wide (3.1 %), so a percentile read from it is off by no more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::statistics::{quantile_ranks, upper_rank};

/// Buckets of a histogram. Above 134 s all is one.
pub const BUCKETS: usize = 736;

/// Buckets in each doubling.
const STEPS: u64 = 32;

/// The bucket that a latency falls into. A few shifts: cheap enough for every response.
#[must_use]
pub fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    if micros < STEPS {
        return micros as usize;
    }
    let shift = u64::from(micros.ilog2() - STEPS.ilog2());
    ((shift * STEPS + (micros >> shift)) as usize).min(BUCKETS - 1)
}

/// Where a bucket ends: every latency in it is shorter.
#[must_use]
pub fn bucket_end(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    Duration::from_micros((bucket - shift * STEPS + 1) << shift)
}

/// How often which latency occurred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    counts: Box<[u32]>,
    count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), count: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        self.add_to_bucket(bucket(latency), 1);
    }

    /// Counts `n` in a bucket of [`bucket`]; one that does not exist counts as the last.
    pub fn add_to_bucket(&mut self, bucket: usize, n: u32) {
        let count = &mut self.counts[bucket.min(BUCKETS - 1)];
        *count = count.saturating_add(n);
        self.count += u64::from(n);
    }

    /// Adds all of another histogram.
    pub fn add(&mut self, other: &Latencies) {
        if other.count == 0 {
            return;
        }
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum = sum.saturating_add(*count);
        }
        self.count += other.count;
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.count = 0;
    }

    /// The quantile `q` (0.0 to 1.0) with its interval; `None` without samples.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Quantile> {
        let (low, high) = quantile_ranks(q, self.count);
        let middle = ((q * self.count as f64).ceil() as u64).max(1);
        Some(Quantile {
            value: self.at_rank(middle)?,
            low: self.at_rank(low)?,
            high: self.at_rank(high),
        })
    }

    /// A latency that the quantile `q` is below with 95 % certainty; `None` if there are too few
    /// samples to say.
    #[must_use]
    pub fn quantile_at_most(&self, q: f64) -> Option<Duration> {
        self.at_rank(upper_rank(q, self.count))
    }

    /// The end of the bucket that holds the latency of this rank, the shortest being 1.
    fn at_rank(&self, rank: u64) -> Option<Duration> {
        let mut seen = 0;
        let holds = |count: &u32| {
            seen += u64::from(*count);
            seen >= rank.max(1)
        };
        self.counts.iter().position(holds).map(bucket_end)
    }
}

/// A percentile of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantile {
    /// Its best estimate.
    pub value: Duration,
    /// It is above this with 97.5 % certainty ...
    pub low: Duration,
    /// ... and below this; `None`: too few samples to say.
    pub high: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn buckets_are_narrow_and_leave_no_gap() {
        let mut start = micros(0);
        for index in 0..BUCKETS {
            let end = bucket_end(index);
            assert_eq!(bucket(start), index, "{start:?}");
            assert_eq!(bucket(end - micros(1)), index, "{end:?}");
            let width = (end - start).as_micros();
            assert!(width == 1 || width * 32 <= start.as_micros(), "{start:?} to {end:?}");
            start = end;
        }
        assert_eq!(bucket(Duration::from_secs(1000)), BUCKETS - 1);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_come_with_an_interval() {
        let mut latencies = Latencies::default();
        for n in 1..=1000 {
            latencies.record(micros(n * 100));
        }
        let median = latencies.quantile(0.5).unwrap();
        assert!(median.value.abs_diff(micros(50_000)) < micros(1_600), "{median:?}");
        assert!(median.low < micros(48_600) && median.high.unwrap() > micros(53_000), "{median:?}");
        let bound = latencies.quantile_at_most(0.95).unwrap();
        assert!(bound > micros(96_200) && bound < micros(99_400), "{bound:?}");
    }

    #[test]
    fn few_samples_have_no_upper_bound() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        latencies.record(micros(10));
        assert_eq!(latencies.quantile(0.5).unwrap().high, None);
        assert_eq!(latencies.quantile_at_most(0.95), None);
    }

    #[test]
    fn sums_and_forgets() {
        let mut sum = Latencies::default();
        let mut one = Latencies::default();
        one.record(micros(10));
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.count(), 2);
        sum.clear();
        assert_eq!(sum, Latencies::default());
    }
}
