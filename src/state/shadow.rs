//! Copies of live requests to a version that does not serve yet: whose they are, how many there may
//! be at a time, and what they came to.
//!
//! A [`Shadow`] stands in a pool's [`Split`](super::Split) while its requests are copied, so that the
//! pick of every attempt finds it where it looks anyway. What workers and the governor share of it is
//! its [`ShadowRun`], which stays the same over reloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::counters::{Counter, PerWorker};
use super::pool::PoolCells;
use super::version::Version;
pub use crate::deploy::{Answered, NoAnswer};
use crate::deploy::{Likeness, Rules, ShadowTally};

/// Copies under way at a time, over all workers: enough for thousands a second while the new version
/// answers, and little to bear when it does not.
pub const MAX_COPIES: u32 = 64;

/// That a share of a pool's requests is copied to one of its versions.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// The version that gets the copies.
    pub version: Arc<Version>,
    /// Which share of the requests, 0 to 1.
    pub share: f64,
    /// What stays the same as long as it goes on.
    pub run: Arc<ShadowRun>,
}

impl Shadow {
    /// The same for one of these versions, by name; `None` if it is not there any more.
    pub(super) fn carried(&self, versions: &[Arc<Version>]) -> Option<Arc<Self>> {
        let version = versions.iter().find(|version| version.name == self.version.name)?;
        Some(Arc::new(Shadow { version: Arc::clone(version), ..self.clone() }))
    }

    /// Draws whether a request is copied.
    pub(super) fn draw(self: &Arc<Self>, rng: &mut fastrand::Rng) -> Option<Arc<Self>> {
        (rng.f64() < self.share).then(|| Arc::clone(self))
    }
}

/// Copying to one version, from its beginning to its end.
#[derive(Debug)]
pub struct ShadowRun {
    /// What counts as different, and as slow.
    pub rules: Rules,
    /// Times of requests that were sent before this are not compared: the new version may have to
    /// warm up. Since the process started.
    pub timed_from: Duration,
    in_flight: AtomicU32,
    over: watch::Sender<bool>,
}

impl ShadowRun {
    /// One that begins.
    pub fn new(rules: Rules, timed_from: Duration) -> Arc<Self> {
        let (in_flight, over) = (AtomicU32::new(0), watch::Sender::new(false));
        Arc::new(ShadowRun { rules, timed_from, in_flight, over })
    }

    /// A place for one more copy, if there is any.
    pub fn begin(self: &Arc<Self>) -> Option<Copying> {
        let one_more = |count: u32| (count < MAX_COPIES).then(|| count + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Copying(Arc::clone(self)))
    }

    /// Copies under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Gives up the copies that are under way; nothing is compared any more.
    pub fn end(&self) {
        self.over.send_replace(true);
    }

    /// Whether that was done.
    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Waits until then.
    pub async fn ended(&self) {
        // It ends only with this, which holds the sender.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }
}

/// One copy under way, until dropped.
#[derive(Debug)]
pub struct Copying(Arc<ShadowRun>);

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What copies came to, since the process started.
#[derive(Debug, Default)]
pub struct ShadowCells {
    same: Counter,
    slower: Counter,
    different: Counter,
    timed: Counter,
    alone: Counter,
    skipped: Counter,
}

impl ShadowCells {
    /// Holds the answer to a copy, if there was one, beside that to its original; `timed` is whether
    /// their times count.
    pub fn compared(
        &self,
        run: &ShadowRun,
        original: Answered,
        copy: Result<Answered, NoAnswer>,
        timed: bool,
    ) {
        let likeness = Likeness::of(original, copy, &run.rules);
        match likeness {
            None => self.alone.add(1),
            Some(Likeness::Different) => self.different.add(1),
            Some(Likeness::Slower) if timed => self.slower.add(1),
            Some(Likeness::Slower | Likeness::Same) => self.same.add(1),
        }
        let has_times = matches!(likeness, Some(Likeness::Slower | Likeness::Same));
        self.timed.add(u64::from(timed && has_times));
    }

    /// A copy was made, and there is no answer to compare its with.
    pub fn alone(&self) {
        self.alone.add(1);
    }

    /// A request that was drawn was not copied.
    pub fn skipped(&self) {
        self.skipped.add(1);
    }
}

/// Sums over all workers.
impl PerWorker<PoolCells> {
    /// What the copies of a pool's requests came to since the process started.
    pub fn shadow_tally(&self) -> ShadowTally {
        let mut tally = ShadowTally::default();
        for cells in self.cells().map(|cells| &cells.shadow) {
            // Bad ones first: they must not outnumber those that they are among.
            let (different, slower) = (cells.different.get(), cells.slower.get());
            tally.differing += different;
            tally.slower += slower;
            tally.timed += cells.timed.get();
            tally.compared += different + slower + cells.same.get();
            tally.alone += cells.alone.get();
            tally.skipped += cells.skipped.get();
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::WorkerId;

    fn run() -> Arc<ShadowRun> {
        let rules = Rules {
            min_requests: 20,
            error_rate: 0.01,
            error_rate_factor: 2.0,
            latency_factor: Some(3.0),
            latency_floor: Duration::from_millis(100),
            confidence: 0.999,
        };
        ShadowRun::new(rules, Duration::ZERO)
    }

    #[test]
    fn copies_under_way_are_bounded() {
        let run = run();
        let mut places: Vec<_> = std::iter::repeat_with(|| run.begin()).take(64).collect();
        assert!(places.iter().all(Option::is_some) && run.begin().is_none());
        places.pop();
        assert!(run.begin().is_some());
        drop(places);
        assert_eq!(run.in_flight(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_hears_of_it_however_late_it_begins_to() {
        let run = run();
        let waits = run.ended();
        run.end();
        waits.await;
        run.ended().await;
        assert!(run.is_over());
    }

    #[test]
    fn what_the_workers_count_is_one_tally() {
        let cells: PerWorker<PoolCells> = PerWorker::new(2);
        let of = |worker| &cells.cell(WorkerId::new(worker)).shadow;
        let run = run();
        let answered = |status, ms| Answered { status, after: Duration::from_millis(ms) };
        let same = answered(200, 10);
        let slow = answered(200, 1_000);
        of(0).compared(&run, same, Ok(same), true);
        of(0).compared(&run, same, Ok(slow), true);
        of(1).compared(&run, same, Ok(slow), false);
        of(1).compared(&run, same, Err(NoAnswer::Failed), true);
        of(1).compared(&run, answered(500, 10), Err(NoAnswer::Failed), true);
        of(0).skipped();
        let tally = cells.shadow_tally();
        let wanted =
            ShadowTally { compared: 4, differing: 1, timed: 2, slower: 1, alone: 1, skipped: 1 };
        assert_eq!(tally, wanted);
        of(0).compared(&run, same, Ok(same), true);
        let more = ShadowTally { compared: 1, timed: 1, ..ShadowTally::default() };
        assert_eq!(cells.shadow_tally().since(tally), more);
    }
}
