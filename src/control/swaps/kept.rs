//! What survives a restart: which version serves, the swaps that run, the latest reports.
//!
//! Where the disk is full the reports of swaps that are over may not be kept, nor what a swap that runs
//! has seen so far. But for which version serves, and how far a swap is, there is a place held on the
//! disk: no restart undoes a rollback.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::guarded::{Kind, Left};
use crate::control::Store;
use crate::control::state_dir::StateDirError;
use crate::control::store::{AGAIN, PATIENCE, Trouble, Written};
use crate::deploy::{Report, Resume, Standing};
use crate::state::{Document, Shared};

/// Where swaps are kept ...
const SWAPS: &str = "swaps";
/// ... and reports.
const REPORTS: &str = "reports";

/// All swaps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct KeptSwaps {
    /// Number of the next swap.
    pub(super) next_id: u64,
    pub(super) pools: BTreeMap<String, KeptPool>,
}

/// One pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptPool {
    pub(super) standing: Standing,
    pub(super) before: Option<String>,
    #[serde(default)]
    pub(super) left: Option<Left>,
    pub(super) last: Option<u64>,
    pub(super) running: Option<KeptSwap>,
}

/// A swap that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct KeptSwap {
    pub(super) kind: Kind,
    pub(super) resume: Resume,
}

impl KeptSwaps {
    /// Without what the swaps that run have seen: that may be much.
    fn in_brief(&self) -> Self {
        let mut brief = self.clone();
        for running in brief.pools.values_mut().filter_map(|pool| pool.running.as_mut()) {
            running.resume.forget_details();
        }
        brief
    }
}

/// What was kept of the last run. `Err`: there was something about the swaps, and it is of no use.
pub(super) fn load(store: &Store) -> (Result<KeptSwaps, ()>, Vec<Report>) {
    // Reports without how swaps stood are what is left of it.
    let was_there = store.has(SWAPS) || store.has(REPORTS);
    let swaps = match store.load::<KeptSwaps>(SWAPS) {
        Some(kept) => Ok(kept.document),
        None if was_there => Err(()),
        None => Ok(KeptSwaps::default()),
    };
    let reports = store.load::<Vec<Report>>(REPORTS).map(|kept| kept.document);
    (swaps, reports.unwrap_or_default())
}

/// Writes how swaps stand, one state after another. While the disk is slow they do not queue: a newer
/// one takes the place of one that has not been begun with. What cannot be written is tried again until
/// it is, or there is a newer one.
#[derive(Debug)]
pub(super) struct Writer {
    next: Arc<Mutex<Next>>,
    /// Says that there is something to write, and with its end that nothing will follow.
    filled: mpsc::Sender<()>,
    keeps: bool,
}

/// What is to be written next.
#[derive(Debug, Default)]
struct Next {
    swaps: Option<Arc<KeptSwaps>>,
    reports: Option<Arc<Vec<Report>>>,
    /// Whoever waits for it.
    done: Vec<oneshot::Sender<()>>,
}

impl Next {
    /// Puts a newer state in its place.
    fn replace(&mut self, swaps: KeptSwaps, reports: Option<Vec<Report>>) {
        self.swaps = Some(Arc::new(swaps));
        self.reports = reports.map(Arc::new).or(self.reports.take());
        // Who waited may have lost patience.
        self.done.retain(|done| !done.is_closed());
    }

    /// Puts a state back that could not be written, where there is no newer one.
    fn put_back(&mut self, swaps: Arc<KeptSwaps>, reports: Option<Arc<Vec<Report>>>) {
        self.swaps.get_or_insert(swaps);
        self.reports = self.reports.take().or(reports);
    }
}

impl Writer {
    /// Needs the control runtime around it.
    pub(super) fn new(store: &Store, shared: &Arc<Shared>) -> Self {
        let (store, shared) = (store.clone(), Arc::clone(shared));
        let tell = move |document, unsaved| shared.unsaved.set(document, unsaved);
        Self::saving(store.keeps(), tell, move |swaps, reports| {
            let store = store.clone();
            async move { save(store, swaps, reports).await }
        })
    }

    /// `tell` is told of each document whether it could not be written.
    fn saving<S, F>(keeps: bool, tell: impl Fn(Document, bool) + Send + 'static, save: S) -> Self
    where
        S: Fn(Arc<KeptSwaps>, Option<Arc<Vec<Report>>>) -> F + Send + 'static,
        F: Future<Output = Saved> + Send,
    {
        let (filled, mut wakes) = mpsc::channel(1);
        let next = Arc::new(Mutex::new(Next::default()));
        let to_write = Arc::clone(&next);
        tokio::spawn(async move {
            let mut troubles = Troubles::default();
            let mut failed = false;
            loop {
                let woken = match failed {
                    false => wakes.recv().await,
                    true => tokio::time::timeout(AGAIN, wakes.recv()).await.unwrap_or(Some(())),
                };
                let Some(()) = woken else { return };
                let Next { swaps, reports, done } = std::mem::take(&mut *lock(&to_write));
                if let Some(swaps) = swaps {
                    let saved = save(Arc::clone(&swaps), reports.clone()).await;
                    tell(Document::Swaps, saved.swaps.is_err());
                    tell(Document::Reports, saved.has_lost_reports());
                    failed = troubles.note(saved);
                    if failed {
                        lock(&to_write).put_back(swaps, reports);
                    }
                }
                for done in done {
                    // Who waited may have lost patience.
                    let _ = done.send(());
                }
            }
        });
        Writer { next, filled, keeps }
    }

    /// Writes, and returns when it is on the disk, or after a while all the same.
    pub(super) async fn write(&self, swaps: KeptSwaps, reports: Option<Vec<Report>>) {
        if !self.keeps {
            return;
        }
        let (done, written) = oneshot::channel();
        {
            let mut next = lock(&self.next);
            next.replace(swaps, reports);
            next.done.push(done);
        }
        self.wake();
        if tokio::time::timeout(PATIENCE, written).await.is_err() {
            tracing::error!(
                "the state of swaps is not on the disk after {} s; going on without waiting",
                PATIENCE.as_secs()
            );
        }
    }

    /// Writes in its own time.
    pub(super) fn write_later(&self, swaps: KeptSwaps) {
        if self.keeps {
            lock(&self.next).replace(swaps, None);
            self.wake();
        }
    }

    fn wake(&self) {
        // If it has not yet heard of an earlier one, it will find this when it does.
        let _ = self.filled.try_send(());
    }
}

/// How it went.
#[derive(Debug)]
struct Saved {
    swaps: Result<Option<Written>, StateDirError>,
    reports: Result<(), StateDirError>,
}

impl Saved {
    /// Whether a restart would forget what swaps came to, or have seen so far.
    fn has_lost_reports(&self) -> bool {
        let in_brief = |written: &Option<Written>| {
            written.as_ref().is_some_and(|written| written.in_full.is_err())
        };
        self.reports.is_err() || self.swaps.as_ref().is_ok_and(in_brief)
    }
}

async fn save(store: Store, swaps: Arc<KeptSwaps>, reports: Option<Arc<Vec<Report>>>) -> Saved {
    let saving = tokio::task::spawn_blocking(move || {
        // First what a swap that is over leaves behind: after that it is not among the swaps any more.
        let reports = reports.map_or(Ok(()), |reports| store.save(REPORTS, &reports));
        let brief = || Arc::new(swaps.in_brief());
        Saved { swaps: store.save_in_reserve(SWAPS, &swaps, brief), reports }
    });
    // It is cancelled only at the end of the process.
    saving.await.unwrap_or(Saved { swaps: Ok(None), reports: Ok(()) })
}

/// What the log was told of.
#[derive(Debug, Default)]
struct Troubles {
    swaps: Trouble,
    reports: Trouble,
    room: bool,
}

impl Troubles {
    /// Tells the log what has changed. Gives whether there is something to be tried again.
    fn note(&mut self, saved: Saved) -> bool {
        let Saved { swaps, reports } = saved;
        self.reports.note(REPORTS, &reports);
        let room = match &swaps {
            Ok(Some(Written { in_full, reserve })) => in_full.as_ref().and(reserve.as_ref()).err(),
            _ => None,
        };
        match room {
            Some(error) if !self.room => tracing::error!(
                "the state directory has no room for `{SWAPS}` to grow: {error}; which version serves \
                 is kept all the same, what swaps have seen may not be; it is tried again and again"
            ),
            None if self.room && swaps.is_ok() => tracing::info!("`{SWAPS}` has its room again"),
            _ => {}
        }
        let is_short = room.is_some();
        self.room = is_short || (self.room && swaps.is_err());
        let swaps = swaps.map(drop);
        self.swaps.note(SWAPS, &swaps);
        is_short || swaps.is_err() || reports.is_err()
    }
}

fn lock(next: &Mutex<Next>) -> MutexGuard<'_, Next> {
    // Nothing that holds it can panic halfway.
    next.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::state::Unsaved;

    #[test]
    fn reports_without_how_swaps_stood_are_no_first_start() {
        let directory = tempfile::tempdir().unwrap();
        let state = crate::control::StateDir::open(directory.path()).unwrap();
        let store = Store::new(Some(Arc::new(state)));
        assert!(load(&store).0.is_ok());
        store.save(REPORTS, &Vec::<Report>::new()).unwrap();
        assert!(load(&store).0.is_err());
    }

    fn swaps(next_id: u64) -> KeptSwaps {
        KeptSwaps { next_id, ..KeptSwaps::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_disk_hangs_only_the_latest_state_waits() {
        let (tell, mut written) = mpsc::unbounded_channel();
        let disk = Arc::new(tokio::sync::Semaphore::new(0));
        let works = Arc::clone(&disk);
        let writer = Writer::saving(
            true,
            |_, _| {},
            move |swaps, reports| {
                let (works, tell) = (Arc::clone(&works), tell.clone());
                async move {
                    works.acquire().await.unwrap().forget();
                    tell.send((swaps.next_id, reports.is_some())).unwrap();
                    Saved { swaps: Ok(None), reports: Ok(()) }
                }
            },
        );
        writer.write_later(swaps(1));
        // Until the first has been begun with.
        tokio::task::yield_now().await;
        // Given up by whoever waited, and its reports are not in those after it.
        writer.write(swaps(2), Some(Vec::new())).await;
        (3..1_000).for_each(|id| writer.write_later(swaps(id)));
        assert_eq!(lock(&writer.next).done.len(), 0);
        disk.add_permits(9);
        writer.write(swaps(1_000), None).await;
        drop(writer);
        let mut all = Vec::new();
        while let Some(one) = written.recv().await {
            all.push(one);
        }
        assert_eq!(all, [(1, false), (1_000, true)]);
    }
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_is_tried_again_until_it_is_or_something_newer_is_there() {
        let (tell, mut tried) = mpsc::unbounded_channel();
        let full = Arc::new(AtomicBool::new(true));
        let is_full = Arc::clone(&full);
        let unsaved = Arc::new(Unsaved::default());
        let told = Arc::clone(&unsaved);
        let note = move |document, is| told.set(document, is);
        let writer = Writer::saving(true, note, move |swaps, reports| {
            let result = match is_full.load(Ordering::Relaxed) {
                true => Err(StateDirError::Locked("state".into())),
                false => Ok(()),
            };
            tell.send((swaps.next_id, reports.is_some(), result.is_ok())).unwrap();
            async { Saved { swaps: result.map(|()| None), reports: Ok(()) } }
        });
        writer.write(swaps(1), Some(Vec::new())).await;
        assert_eq!(tried.recv().await, Some((1, true, false)));
        assert_eq!(tried.recv().await, Some((1, true, false)), "again");
        writer.write(swaps(2), None).await;
        assert_eq!(
            tried.recv().await,
            Some((2, true, false)),
            "with the reports that were not written"
        );
        assert!(unsaved.has(Document::Swaps));
        full.store(false, Ordering::Relaxed);
        assert_eq!(tried.recv().await, Some((2, true, true)));
        // And that was all.
        tokio::time::sleep(10 * AGAIN).await;
        assert!(!unsaved.has(Document::Swaps));
        assert!(tried.try_recv().is_err());
    }
}
