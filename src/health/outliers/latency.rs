//! Times to the response head as counts in buckets: small enough to be kept per backend and slice
//! of a window, fine enough for medians and for a p99.
//!
//! The buckets are those of an HDR histogram with two bits of precision: four of equal width in
//! every doubling, so that a bucket's bounds are at most a quarter apart.

use std::time::Duration;

/// How many buckets there are.
pub const BUCKETS: usize = 68;
/// The finest step, as a power of two of microseconds: 256 µs.
const UNIT_BITS: u32 = 8;
/// The largest value told apart, in units: what takes longer than 67 s is in the last bucket too.
const LARGEST: u64 = (1 << 18) - 1;

/// The bucket of a time, an index below [`BUCKETS`]: for the workers to count into.
#[must_use]
pub fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let units = (micros >> UNIT_BITS).min(LARGEST);
    if units < 4 {
        return units as usize;
    }
    let octave = units.ilog2() - 2;
    (octave as usize + 1) * 4 + ((units >> octave) & 3) as usize
}

/// Where a bucket begins, in microseconds.
fn begin(bucket: usize) -> f64 {
    let units = if bucket < 4 { bucket } else { (4 + bucket % 4) << (bucket / 4 - 1) };
    (units << UNIT_BITS) as f64
}

/// So many times fell into each bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies([u32; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Latencies {
    /// Counts `n` more times in a bucket; one beyond the last counts in the last.
    pub(super) fn add(&mut self, bucket: usize, n: u32) {
        let count = &mut self.0[bucket.min(BUCKETS - 1)];
        *count = count.saturating_add(n);
    }

    /// Adds all of another's.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
        }
    }

    /// Takes all of another's away again.
    pub(super) fn remove(&mut self, other: &Self) {
        for (count, less) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_sub(*less);
        }
    }

    /// How many times there are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }

    /// The time below which a share of them lies, 0.0 to 1.0; `None` if there are none.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let mut left = share.clamp(0.0, 1.0) * self.count() as f64;
        let last = self.0.iter().rposition(|&count| count > 0)?;
        for (bucket, &count) in self.0.iter().enumerate() {
            let count = f64::from(count);
            if count > 0.0 && (left <= count || bucket == last) {
                let (from, to) = (begin(bucket), begin(bucket + 1));
                let micros = from + (to - from) * (left / count).min(1.0);
                return Some(Duration::from_micros(micros as u64));
            }
            left -= count;
        }
        None
    }

    /// How many are above a limit, as if those of a bucket lay evenly in it.
    pub(super) fn above(&self, limit: Duration) -> f64 {
        let limit = limit.as_secs_f64() * 1e6;
        let part = |bucket: usize| {
            let (from, to) = (begin(bucket), begin(bucket + 1));
            ((to - limit) / (to - from)).clamp(0.0, 1.0)
        };
        self.0.iter().enumerate().map(|(i, &count)| f64::from(count) * part(i)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn of(times: &[(u64, u32)]) -> Latencies {
        let mut latencies = Latencies::default();
        for &(millis, count) in times {
            latencies.add(bucket(ms(millis)), count);
        }
        latencies
    }

    #[test]
    fn every_time_lies_within_its_bucket() {
        for micros in (0..67_000_000).step_by(997) {
            let bucket = bucket(Duration::from_micros(micros));
            let range = begin(bucket)..begin(bucket + 1);
            assert!(range.contains(&(micros as f64)), "{micros} µs in {bucket}: {range:?}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_a_quarter_off_at_most() {
        assert_eq!(Latencies::default().quantile(0.5), None);
        for millis in [1, 2, 7, 30, 250, 1_000, 30_000] {
            for share in [0.0, 0.5, 0.99, 1.0] {
                let got = of(&[(millis, 10)]).quantile(share).unwrap().as_secs_f64() * 1e3;
                let want = millis as f64;
                assert!((got - want).abs() <= want * 0.26, "{got} ms for {want} ms");
            }
        }
        let mixed = of(&[(2, 98), (2_000, 2)]);
        assert!(mixed.quantile(0.5).unwrap() < ms(3));
        assert!(mixed.quantile(0.99).unwrap() > ms(1_500));
    }

    #[test]
    fn what_is_above_a_limit() {
        let mixed = of(&[(2, 98), (2_000, 2)]);
        assert_eq!(mixed.above(ms(250)), 2.0);
        assert_eq!(mixed.above(Duration::ZERO), 100.0);
        assert_eq!(mixed.above(Duration::from_secs(100)), 0.0);
        // Half of a bucket that the limit cuts in two: 8192 to 10240 µs.
        let cut = of(&[(9, 10)]).above(Duration::from_micros(9_216));
        assert!((cut - 5.0).abs() < 1e-9, "{cut}");
    }

    #[test]
    fn what_is_merged_can_be_removed() {
        let mut sum = of(&[(2, 98)]);
        sum.merge(&of(&[(2, 2), (70_000, 1)]));
        assert_eq!(sum.count(), 101);
        sum.remove(&of(&[(2, 98)]));
        assert_eq!(sum, of(&[(2, 2), (70_000, 1)]));
    }
}
