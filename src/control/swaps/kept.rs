//! What survives a restart: which version serves, the swaps that run, the latest reports.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::guarded::{Kind, Left};
use crate::control::Store;
use crate::control::state_dir::StateDirError;
use crate::control::store::{AGAIN, PATIENCE, Trouble};
use crate::deploy::{Report, Resume, Standing};
use crate::state::Shared;

/// Where swaps are kept ...
const SWAPS: &str = "swaps";
/// ... and reports.
const REPORTS: &str = "reports";

/// All swaps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct KeptSwaps {
    /// Number of the next swap.
    pub(super) next_id: u64,
    pub(super) pools: BTreeMap<String, KeptPool>,
}

/// One pool.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptPool {
    pub(super) standing: Standing,
    pub(super) before: Option<String>,
    #[serde(default)]
    pub(super) left: Option<Left>,
    pub(super) last: Option<u64>,
    pub(super) running: Option<KeptSwap>,
}

/// A swap that runs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptSwap {
    pub(super) kind: Kind,
    pub(super) resume: Resume,
}

/// What was kept of the last run. `Err`: there was something about the swaps, and it is of no use.
pub(super) fn load(store: &Store) -> (Result<KeptSwaps, ()>, Vec<Report>) {
    let was_there = store.has(SWAPS);
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
        let tell = move |unsaved| shared.state_unsaved.store(unsaved, Ordering::Relaxed);
        Self::saving(store.keeps(), tell, move |swaps, reports| {
            let store = store.clone();
            async move {
                if let Some(reports) = reports {
                    store.save_beside(REPORTS, reports).await?;
                }
                store.save_beside(SWAPS, swaps).await
            }
        })
    }

    /// `tell` is told whether what was to be written could not be.
    fn saving<S, F>(keeps: bool, tell: impl Fn(bool) + Send + 'static, save: S) -> Self
    where
        S: Fn(Arc<KeptSwaps>, Option<Arc<Vec<Report>>>) -> F + Send + 'static,
        F: Future<Output = Result<(), StateDirError>> + Send,
    {
        let (filled, mut wakes) = mpsc::channel(1);
        let next = Arc::new(Mutex::new(Next::default()));
        let to_write = Arc::clone(&next);
        tokio::spawn(async move {
            let mut trouble = Trouble::default();
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
                    trouble.note(SWAPS, &saved);
                    failed = saved.is_err();
                    tell(failed);
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

fn lock(next: &Mutex<Next>) -> MutexGuard<'_, Next> {
    // Nothing that holds it can panic halfway.
    next.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

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
            |_| {},
            move |swaps, reports| {
                let (works, tell) = (Arc::clone(&works), tell.clone());
                async move {
                    works.acquire().await.unwrap().forget();
                    tell.send((swaps.next_id, reports.is_some())).unwrap();
                    Ok(())
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
        let unsaved = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&unsaved);
        let note = move |is| told.store(is, Ordering::Relaxed);
        let writer = Writer::saving(true, note, move |swaps, reports| {
            let result = match is_full.load(Ordering::Relaxed) {
                true => Err(StateDirError::Locked("state".into())),
                false => Ok(()),
            };
            tell.send((swaps.next_id, reports.is_some(), result.is_ok())).unwrap();
            async { result }
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
        assert!(unsaved.load(Ordering::Relaxed));
        full.store(false, Ordering::Relaxed);
        assert_eq!(tried.recv().await, Some((2, true, true)));
        // And that was all.
        tokio::time::sleep(10 * AGAIN).await;
        assert!(!unsaved.load(Ordering::Relaxed));
        assert!(tried.try_recv().is_err());
    }
}
