//! What one backend's traffic was like lately: a window in slices, fed with running totals.
//!
//! Rates are asked for over the whole window and over its latest slices only, as many as hold
//! enough requests: at 200 requests a second an illness shows after one slice, at two a second
//! after the whole window. A slice exists only if something happened in it, so that a backend
//! without traffic costs next to nothing.

use std::collections::VecDeque;
use std::time::Duration;

use super::latency::{BUCKETS, Latencies, bucket};
use super::pace::{Pace, Trial};

/// Into so many slices the window is cut.
pub(super) const SLICES: u64 = 16;

/// How long a finding that led to nothing is not reported again.
const QUIET: Duration = Duration::from_secs(10);

/// What a backend's attempts came to since the process started, summed over all workers.
///
/// Attempts count when they have ended, by the rules of [`Outcome`](super::Outcome); times to the
/// response head count when the head comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Attempts of any outcome.
    pub requests: u64,
    /// Of these, all that failed: no answer, an answer of 500 or above, one that broke off.
    pub failures: u64,
    /// Of these, all whose answer had a body, broken off or whole.
    pub bodies: u64,
    /// Of these, all whose answer broke off.
    pub broken_off: u64,
    /// Times to a response head below 500, by [`bucket`], but for attempts in `overdue`: those were
    /// counted before, and an error page that comes fast is no sign of speed.
    pub heads: [u64; BUCKETS],
    /// Attempts that waited for their head for longer than [`Traffic::late_after`], counted when
    /// they passed that age, not when the head came.
    pub overdue: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self { requests: 0, failures: 0, bodies: 0, broken_off: 0, heads: [0; BUCKETS], overdue: 0 }
    }
}

/// Counts over a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) bodies: u64,
    pub(super) broken_off: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.bodies += other.bodies;
        self.broken_off += other.broken_off;
    }

    /// What is left without another, which was added before.
    pub(super) fn without(self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            failures: self.failures.saturating_sub(other.failures),
            bodies: self.bodies.saturating_sub(other.bodies),
            broken_off: self.broken_off.saturating_sub(other.broken_off),
        }
    }
}

/// A part of the window.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    /// Its number since the process started.
    pub(super) slot: u64,
    pub(super) tally: Tally,
    pub(super) latencies: Latencies,
}

/// The latest response heads, as far back as all of them were late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LateRun {
    pub(super) late: u64,
    /// The slot of the first.
    pub(super) since: u64,
}

impl LateRun {
    /// More heads came, or are overdue, in a slot; in which order is not known, so that one in time is
    /// taken for the last.
    fn add(&mut self, latencies: &Latencies, limit: Duration, slot: u64) {
        let (late, count) = (latencies.above(limit), latencies.count());
        if late < count as f64 {
            *self = Self::default();
        } else {
            self.since = if self.late == 0 { slot } else { self.since };
            self.late += count;
        }
    }
}

/// The recent traffic of one backend, and what follows from it for its share.
///
/// Kept by the control plane for as long as the backend exists.
#[derive(Clone, Debug)]
pub struct Traffic {
    seen: Box<Totals>,
    observed: Duration,
    length: Duration,
    /// The present one.
    slot: u64,
    /// The oldest first.
    slices: VecDeque<Slice>,
    pub(super) in_service: bool,
    pub(super) pace: Pace,
    pub(super) trial: Trial,
    pub(super) late_run: LateRun,
    pub(super) late_after: Option<Duration>,
    pub(super) siblings_well: bool,
    pub(super) quiet_until: Duration,
    pub(super) enforced: bool,
}

impl Traffic {
    /// A backend whose totals are these now: what happened before does not count.
    #[must_use]
    pub fn new(totals: &Totals) -> Self {
        Self {
            seen: Box::new(totals.clone()),
            observed: Duration::ZERO,
            length: Duration::ZERO,
            slot: 0,
            slices: VecDeque::new(),
            in_service: false,
            pace: Pace::default(),
            trial: Trial::default(),
            late_run: LateRun::default(),
            late_after: None,
            siblings_well: true,
            quiet_until: Duration::ZERO,
            enforced: false,
        }
    }

    /// A backend that takes part, or does not, from the beginning: what is observed before the first
    /// judgement counts for one that does.
    #[must_use]
    pub fn taking_part(mut self, takes_part: bool) -> Self {
        self.in_service = takes_part;
        self
    }

    /// Takes in what has happened since the last time. Before every judgement, for every peer.
    pub fn observe(&mut self, now: Duration, window: Duration, totals: &Totals) {
        self.slot = self.forget(now, window);
        if *self.seen != *totals {
            self.take_in(totals);
        }
        self.observed = now;
    }

    fn take_in(&mut self, totals: &Totals) {
        let slot = self.slot;
        let tally = Tally {
            requests: totals.requests.saturating_sub(self.seen.requests),
            failures: totals.failures.saturating_sub(self.seen.failures),
            bodies: totals.bodies.saturating_sub(self.seen.bodies),
            broken_off: totals.broken_off.saturating_sub(self.seen.broken_off),
        };
        let mut latencies = Latencies::default();
        for (bucket, (now, before)) in totals.heads.iter().zip(&self.seen.heads).enumerate() {
            latencies.add(bucket, few(now.saturating_sub(*before)));
        }
        if let Some(limit) = self.late_after {
            // How late they will be nobody knows yet: at least as much as the next bucket says.
            latencies.add(bucket(limit) + 1, few(totals.overdue.saturating_sub(self.seen.overdue)));
            self.trial.add(&latencies, limit, self.observed);
            self.late_run.add(&latencies, limit, slot);
        }
        (*self.seen).clone_from(totals);
        match self.slices.back_mut() {
            Some(slice) if slice.slot == slot => {
                slice.tally.add(&tally);
                slice.latencies.merge(&latencies);
            }
            _ => self.slices.push_back(Slice { slot, tally, latencies }),
        }
    }

    /// Whether something that leads to nothing is to be reported at `now`; then not again for a while.
    pub(super) fn speaks(&mut self, now: Duration) -> bool {
        let speaks = now >= self.quiet_until;
        if speaks {
            self.quiet_until = now + QUIET;
        }
        speaks
    }

    /// The part of its share that its slowness leaves it, 0.05 to 1.0: to be multiplied with that
    /// of slow start.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.enforced { self.pace.share() } else { 1.0 }
    }

    /// Whether it was found to be slow, and too few requests came since to say whether it is so still:
    /// it is to get its small share of them whatever waits on it.
    #[must_use]
    pub fn needs_trials(&self) -> bool {
        self.enforced && self.pace.is_slow() && !self.trial.is_complete()
    }

    /// The age at which an attempt without a response head is to be counted in
    /// [`Totals::overdue`]; `None` while there is nothing to compare with.
    #[must_use]
    pub fn late_after(&self) -> Option<Duration> {
        self.late_after
    }

    /// Whether the other backends of its pool are well enough for a request that it answered 500 to
    /// be tried there: less of their requests fail than would be held against one of them.
    #[must_use]
    pub fn siblings_well(&self) -> bool {
        self.siblings_well
    }

    /// A quantile (0.99 for a p99) of the times to the response head in the window.
    #[must_use]
    pub fn head_quantile(&self, share: f64) -> Option<Duration> {
        self.latencies_since(0).quantile(share)
    }

    /// The p99 of the window without its last eighth, so that an illness does not raise the
    /// measure that it is held against.
    #[must_use]
    pub fn usual_p99(&self) -> Option<Duration> {
        let mut sum = Latencies::default();
        let usual = self.slices.iter().filter(|slice| slice.slot + SLICES / 8 <= self.slot);
        usual.for_each(|slice| sum.merge(&slice.latencies));
        sum.quantile(0.99)
    }

    /// Whether nothing happened in the whole window.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.slices.is_empty()
    }

    /// It takes part again after a time out of service: what it did before does not count.
    pub(super) fn come_back(&mut self) {
        self.slices.clear();
        self.trial = Trial::default();
        self.late_run = LateRun::default();
        self.pace.come_back();
    }

    /// The slices, the latest first.
    pub(super) fn latest_first(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter().rev()
    }

    pub(super) fn tally_since(&self, slot: u64) -> Tally {
        let mut sum = Tally::default();
        let slices = self.latest_first().take_while(|slice| slice.slot >= slot);
        slices.for_each(|slice| sum.add(&slice.tally));
        sum
    }

    pub(super) fn latencies_since(&self, slot: u64) -> Latencies {
        let mut sum = Latencies::default();
        let slices = self.latest_first().take_while(|slice| slice.slot >= slot);
        slices.for_each(|slice| sum.merge(&slice.latencies));
        sum
    }

    /// The first of the fewest latest slices that hold `enough` of something, if all together do.
    pub(super) fn slot_with(&self, enough: u64, count: impl Fn(&Slice) -> u64) -> Option<u64> {
        let mut sum = 0;
        self.latest_first().find_map(|slice| {
            sum += count(slice);
            (sum >= enough).then_some(slice.slot)
        })
    }

    /// Drops what is older than the window; gives the number of the present slice.
    fn forget(&mut self, now: Duration, window: Duration) -> u64 {
        let length = slice_length(window);
        if length != self.length {
            // Another window was configured: slices of two lengths cannot be compared.
            self.length = length;
            self.slices.clear();
            self.late_run = LateRun::default();
        }
        let slot = slot(now, length);
        while self.slices.front().is_some_and(|slice| slice.slot + SLICES <= slot) {
            self.slices.pop_front();
        }
        if self.late_run.since + SLICES <= slot {
            self.late_run = LateRun::default();
        }
        slot
    }
}

/// How long a slice of a window is.
pub(super) fn slice_length(window: Duration) -> Duration {
    (window / SLICES as u32).max(Duration::from_millis(1))
}

/// The number of the slice in which a moment lies: the same for all backends.
pub(super) fn slot(now: Duration, length: Duration) -> u64 {
    u64::try_from(now.as_nanos() / length.as_nanos().max(1)).unwrap_or(u64::MAX)
}

fn few(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
