//! Plain counters without names: one cell per worker, summed when somebody scrapes.
//!
//! A cell has a single writer (its worker), so adding is a load and a store and never a locked
//! instruction; readers on other threads see a value that is at most a moment old. The names that
//! Prometheus sees stand in `telemetry`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;

use super::shared::WorkerId;

/// A monotonic count with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call this; with several writers counts would be lost.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the histogram buckets, in microseconds. The last bucket is unbounded.
pub const BUCKET_BOUNDS_MICROS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// A latency histogram with fixed buckets and one writer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKET_BOUNDS_MICROS.len() + 1],
    sum_micros: Counter,
}

impl Histogram {
    /// Counts one observation.
    pub fn observe(&self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKET_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].add(1);
        self.sum_micros.add(micros);
    }

    /// Adds this histogram to a sum.
    pub fn add_to(&self, sum: &mut HistogramSum) {
        for (total, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.get();
        }
        sum.sum_micros += self.sum_micros.get();
    }
}

/// The sum of the same histogram over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramSum {
    /// Observations per bucket (not cumulative); the last is unbounded.
    pub buckets: [u64; BUCKET_BOUNDS_MICROS.len() + 1],
    /// Sum of all observations, in microseconds.
    pub sum_micros: u64,
}

impl HistogramSum {
    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The registered status codes (IANA registry) that get a series of their own.
pub const CODES: [u16; 63] = [
    100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304,
    305, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415,
    416, 417, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505,
    506, 507, 508, 509, 510, 511,
];

/// Requests by status code: one counter per registered code (and our own 499), one for the rest.
#[derive(Debug)]
pub struct CodeCounters([Counter; CODES.len() + 1]);

impl Default for CodeCounters {
    fn default() -> Self {
        CodeCounters(std::array::from_fn(|_| Counter::default()))
    }
}

impl CodeCounters {
    /// Counts one response with this status.
    pub fn count(&self, status: StatusCode) {
        let index = CODES.binary_search(&status.as_u16()).unwrap_or(CODES.len());
        self.0[index].add(1);
    }

    /// Adds the counts to `sums`, which is indexed like [`CODES`] with one more place for the rest.
    pub fn add_to(&self, sums: &mut [u64; CODES.len() + 1]) {
        for (sum, counter) in sums.iter_mut().zip(&self.0) {
            *sum += counter.get();
        }
    }
}

/// A change of a backend's state and the reason for it, as words from small fixed sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransitionKey {
    /// The state before.
    pub from: &'static str,
    /// The state after.
    pub to: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// Transitions by kind. They are rare and both planes make them, so a lock guards the counts.
#[derive(Debug, Default)]
pub struct TransitionCounters(Mutex<BTreeMap<TransitionKey, u64>>);

impl TransitionCounters {
    /// Counts one.
    pub fn count(&self, key: TransitionKey) {
        *self.lock().entry(key).or_default() += 1;
    }

    /// Every kind that occurred, and how often.
    pub fn counts(&self) -> Vec<(TransitionKey, u64)> {
        self.lock().iter().map(|(key, count)| (*key, *count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TransitionKey, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One lazily made cell per worker: a backend that a worker never used costs it one pointer.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[OnceLock<Box<T>>]>);

impl<T: Default> PerWorker<T> {
    /// Room for `workers` cells, none made yet.
    pub fn new(workers: usize) -> Self {
        PerWorker((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// The cell of this worker. Only that worker's thread may write into it.
    pub fn cell(&self, worker: WorkerId) -> &T {
        self.0[worker.index()].get_or_init(Box::default)
    }

    /// Every cell that was made so far.
    pub fn cells(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(|cell| cell.get().map(AsRef::as_ref))
    }

    /// The sum of one number over all cells.
    pub fn sum(&self, value: impl Fn(&T) -> u64) -> u64 {
        self.cells().map(value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_for_the_search() {
        assert!(CODES.is_sorted());
    }

    #[test]
    fn an_observation_on_a_bound_falls_into_that_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(500));
        let mut sum = HistogramSum::default();
        histogram.add_to(&mut sum);
        assert_eq!(sum.buckets[0], 1);
    }

    #[test]
    fn an_unregistered_code_counts_as_other() {
        let codes = CodeCounters::default();
        codes.count(StatusCode::from_u16(799).unwrap());
        let mut sums = [0; CODES.len() + 1];
        codes.add_to(&mut sums);
        assert_eq!(sums[CODES.len()], 1);
    }
}
