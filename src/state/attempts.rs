//! What becomes of the attempts on a backend: counted by each worker in cells of its own, summed by
//! the control plane, which judges backends ([`totals`](Backend::totals)) and new versions
//! ([`since`](Backend::since)) by it.
//!
//! The other way the control plane says in a [`Yardstick`] what the workers are to measure by, so
//! that an attempt that takes too long counts at the moment in which it does, and once. All times
//! are since the process started.

use std::array::from_fn;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::backend::Backend;
use super::counters::Counter;
use super::shared::WorkerId;
use crate::deploy::{self, Counts, Latencies, Slow};
use crate::health::outliers::{self, Alarm, Outcome, Streak, Totals};
use crate::health::suspicion::Silence;

/// What one worker counts of the attempts on one backend.
#[derive(Debug)]
pub struct AttemptCells {
    /// As [`Totals`] has them.
    requests: Counter,
    failures: Counter,
    bodies: Counter,
    broken_off: Counter,
    overdue: Counter,
    heads: [Counter; outliers::BUCKETS],
    /// As [`Counts`] has them.
    sampled: Counter,
    failed: Counter,
    timed: Counter,
    slow: Counter,
    /// By [`deploy::bucket`]; only where versions are compared, as there are hundreds.
    latencies: OnceLock<Box<[Counter]>>,
    last_head: Moment,
    /// Attempts that began to wait for [long](deploy::LONG_WAIT), and those of them that ceased to.
    long_waits: Counter,
    long_waits_over: Counter,
}

impl Default for AttemptCells {
    fn default() -> Self {
        AttemptCells {
            requests: Counter::default(),
            failures: Counter::default(),
            bodies: Counter::default(),
            broken_off: Counter::default(),
            overdue: Counter::default(),
            heads: from_fn(|_| Counter::default()),
            sampled: Counter::default(),
            failed: Counter::default(),
            timed: Counter::default(),
            slow: Counter::default(),
            latencies: OnceLock::new(),
            last_head: Moment::default(),
            long_waits: Counter::default(),
            long_waits_over: Counter::default(),
        }
    }
}

/// By what the attempts on one backend are measured. Written by the control plane, but for the runs
/// of failures.
#[derive(Debug)]
pub struct Yardstick {
    /// Failures in a row, over all workers.
    pub streak: Streak,
    /// Whether the other backends of its pool are well enough to be asked what it answered 500 to.
    pub siblings_well: AtomicBool,
    consecutive_failures: AtomicU32,
    late_after: Moment,
    slow_limit: Moment,
    slow_from: Moment,
    compared: AtomicBool,
    patience: Moment,
    cleared: Moment,
}

impl Default for Yardstick {
    fn default() -> Self {
        Yardstick {
            streak: Streak::default(),
            siblings_well: AtomicBool::new(true),
            consecutive_failures: AtomicU32::new(0),
            late_after: Moment::never(),
            slow_limit: Moment::never(),
            slow_from: Moment::never(),
            compared: AtomicBool::new(false),
            patience: Moment::never(),
            cleared: Moment::default(),
        }
    }
}

impl Yardstick {
    /// Failures in a row that raise an alarm; 0: none do.
    pub fn set_consecutive_failures(&self, limit: u32) {
        if self.consecutive_failures.swap(limit, Ordering::Relaxed) != limit {
            // A run that is beyond the new limit already would never reach it.
            self.streak.reset();
        }
    }

    /// The age at which an attempt without a response head counts in [`Totals::overdue`].
    pub fn set_late_after(&self, age: Option<Duration>) {
        self.late_after.set(age.unwrap_or(Duration::MAX));
    }

    /// From when on attempts without a response head are too slow for a verdict, see
    /// [`Command::CountSlow`](deploy::Command::CountSlow).
    pub fn count_slow(&self, slow: Option<Slow>) {
        // Nobody is to find the new limit with the old beginning.
        self.slow_from.set(Duration::MAX);
        self.slow_limit.set(slow.map_or(Duration::MAX, |slow| slow.limit));
        self.slow_from.set(slow.map_or(Duration::MAX, |slow| slow.from));
    }

    /// Whether times to the response head are counted as finely as comparing versions needs it.
    pub fn compare(&self, compared: bool) {
        self.compared.store(compared, Ordering::Relaxed);
    }

    /// How long the backend may be [silent](crate::health::suspicion).
    pub fn set_patience(&self, patience: Duration) {
        self.patience.set(patience);
    }

    /// See [`set_patience`](Self::set_patience).
    pub fn patience(&self) -> Duration {
        self.patience.get()
    }

    /// A probe has cleared it of suspicion.
    pub fn set_cleared(&self, now: Duration) {
        self.cleared.set(now);
    }
}

/// The head of an answer has come.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// When.
    pub at: Duration,
    /// How long it was waited for, from the request fully sent.
    pub age: Duration,
    /// Its status.
    pub status: u16,
}

/// As what an attempt has been counted while it waited for its response head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    overdue: bool,
    slow: bool,
    long: bool,
}

/// By a worker; only for its own cells.
impl Backend {
    /// An attempt that waits for its response head at `now` has waited since `began`.
    pub fn note_waiting(
        &self,
        worker: WorkerId,
        now: Duration,
        began: Duration,
        marks: &mut Marks,
    ) {
        let (age, yardstick) = (now.saturating_sub(began), &self.yardstick);
        if !marks.overdue && age > yardstick.late_after.get() {
            marks.overdue = true;
            self.cells.cell(worker).attempts.overdue.add(1);
        }
        if !marks.slow && age > yardstick.slow_limit.get() && began >= yardstick.slow_from.get() {
            marks.slow = true;
            let cells = &self.cells.cell(worker).attempts;
            cells.timed.add(1);
            cells.slow.add(1);
        }
        if !marks.long && age > deploy::LONG_WAIT {
            marks.long = true;
            self.cells.cell(worker).attempts.long_waits.add(1);
        }
    }

    /// An attempt does not wait any more, whatever became of it.
    pub fn note_waited(&self, worker: WorkerId, marks: Marks) {
        if marks.long {
            self.cells.cell(worker).attempts.long_waits_over.add(1);
        }
    }

    /// The head of an answer has come.
    pub fn note_head(&self, worker: WorkerId, head: Head, marks: Marks) {
        let (cells, yardstick) = (&self.cells.cell(worker).attempts, &self.yardstick);
        cells.last_head.set(head.at);
        if head.status < 500 && !marks.overdue {
            cells.heads[outliers::bucket(head.age)].add(1);
        }
        let from = yardstick.slow_from.get();
        if from < Duration::MAX
            && !marks.slow
            && !is_client_error(head.status)
            && head.at.saturating_sub(head.age) >= from
        {
            cells.timed.add(1);
            cells.slow.add(u64::from(head.age > yardstick.slow_limit.get()));
        }
        if yardstick.compared.load(Ordering::Relaxed) {
            let new = || (0..deploy::BUCKETS).map(|_| Counter::default()).collect();
            cells.latencies.get_or_init(new)[deploy::bucket(head.age)].add(1);
        }
    }

    /// An attempt has ended; `status` is that of its answer, if it had one. What is given back is to
    /// be told to the control plane.
    pub fn note_end(
        &self,
        worker: WorkerId,
        outcome: Outcome,
        status: Option<u16>,
    ) -> Option<Alarm> {
        let cells = &self.cells.cell(worker).attempts;
        let (failed, body, broken_off) = match outcome {
            Outcome::Success { body } => (false, body, false),
            Outcome::ServerError { body } => (true, body, false),
            Outcome::Failure => (true, false, false),
            Outcome::BrokeOff => (true, true, true),
        };
        cells.requests.add(1);
        if body {
            cells.bodies.add(1);
        }
        if failed {
            cells.failures.add(1);
            cells.broken_off.add(u64::from(broken_off));
        }
        if !status.is_some_and(is_client_error) {
            cells.sampled.add(1);
            cells.failed.add(u64::from(failed));
        }
        let limit = self.yardstick.consecutive_failures.load(Ordering::Relaxed);
        self.yardstick.streak.count(outcome, limit)
    }

    /// What is known of its silence, by all workers.
    pub fn silence(&self) -> Silence {
        let heads = self.cells.cells().map(|cells| cells.attempts.last_head.get());
        Silence {
            last_head: heads.max().unwrap_or_default(),
            cleared: self.yardstick.cleared.get(),
        }
    }
}

/// What [`Backend::since`] has told already.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    counts: Counts,
    latencies: Vec<u64>,
}

/// By the control plane: sums over all workers.
impl Backend {
    /// What its attempts came to since the process started, for outlier detection.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for cells in self.cells.cells().map(|cells| &cells.attempts) {
            totals.requests += cells.requests.get();
            totals.failures += cells.failures.get();
            totals.bodies += cells.bodies.get();
            totals.broken_off += cells.broken_off.get();
            totals.overdue += cells.overdue.get();
            for (sum, count) in totals.heads.iter_mut().zip(&cells.heads) {
                *sum += count.get();
            }
        }
        totals
    }

    /// A number that changes with its [`totals`](Self::totals) and costs much less. 0 as long as it
    /// has had no attempt.
    pub fn activity(&self) -> u64 {
        let cells = self.cells.cells().map(|cells| &cells.attempts);
        let each = cells.map(|cells| {
            let heads = cells.last_head.0.load(Ordering::Relaxed);
            cells.requests.get().wrapping_add(cells.overdue.get()).wrapping_add(heads)
        });
        each.fold(0, u64::wrapping_add)
    }

    /// Attempts that have waited for a response head for [long](deploy::LONG_WAIT), at present.
    pub fn long_waits(&self) -> u64 {
        let cells = self.cells.cells().map(|cells| &cells.attempts);
        // Those that are over first: they must not outnumber those that they are among.
        let each = cells.map(|cells| (cells.long_waits_over.get(), cells.long_waits.get()));
        each.map(|(over, all)| all.saturating_sub(over)).sum()
    }

    /// What happened since the last call with the same `seen`, for a verdict on its version: the
    /// counts, and the times to the response head, which are added to `latencies`. The times are
    /// there only while it is told to [`compare`](Yardstick::compare), and those of `timed` and
    /// `slow` only while it is told to [`count_slow`](Yardstick::count_slow).
    ///
    /// To begin at a moment, call it once before and throw away what it gives.
    pub fn since(&self, seen: &mut Seen, latencies: &mut Latencies) -> Counts {
        let mut now = Counts::default();
        let mut buckets = Vec::new();
        for cells in self.cells.cells().map(|cells| &cells.attempts) {
            // Bad ones first: they must not outnumber those that they are among.
            let (failed, slow) = (cells.failed.get(), cells.slow.get());
            let (requests, timed) = (cells.sampled.get(), cells.timed.get());
            now += Counts { requests, failed, timed, slow };
            if let Some(counts) = cells.latencies.get() {
                buckets.resize(deploy::BUCKETS, 0);
                buckets.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.get());
            }
        }
        seen.latencies.resize(buckets.len(), 0);
        for (bucket, (sum, before)) in buckets.iter().zip(&seen.latencies).enumerate() {
            let more = sum.saturating_sub(*before);
            if more > 0 {
                latencies.add_to_bucket(bucket, u32::try_from(more).unwrap_or(u32::MAX));
            }
        }
        seen.latencies = buckets;
        let before = std::mem::replace(&mut seen.counts, now);
        Counts {
            requests: now.requests.saturating_sub(before.requests),
            failed: now.failed.saturating_sub(before.failed),
            timed: now.timed.saturating_sub(before.timed),
            slow: now.slow.saturating_sub(before.slow),
        }
    }
}

/// 4xx is the client's doing.
fn is_client_error(status: u16) -> bool {
    (400..500).contains(&status)
}

/// A time, or a length of time, that several threads read and one writes. Held in nanoseconds, of
/// which there is room for 584 years; what is longer is for ever.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn never() -> Self {
        Moment(AtomicU64::new(u64::MAX))
    }

    fn set(&self, time: Duration) {
        self.0.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            u64::MAX => Duration::MAX,
            nanos => Duration::from_nanos(nanos),
        }
    }
}

#[cfg(test)]
mod tests;
