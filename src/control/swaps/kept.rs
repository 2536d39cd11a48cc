//! What survives a restart: which version serves, the swaps that run, the latest reports.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::guarded::{Kind, Left};
use crate::control::Store;
use crate::control::store::PATIENCE;
use crate::deploy::{Report, Resume, Standing};

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
/// one takes the place of one that has not been begun with.
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
    swaps: Option<KeptSwaps>,
    reports: Option<Vec<Report>>,
    /// Whoever waits for it.
    done: Vec<oneshot::Sender<()>>,
}

impl Next {
    /// Puts a newer state in its place.
    fn replace(&mut self, swaps: KeptSwaps, reports: Option<Vec<Report>>) {
        self.swaps = Some(swaps);
        self.reports = reports.or(self.reports.take());
        // Who waited may have lost patience.
        self.done.retain(|done| !done.is_closed());
    }
}

impl Writer {
    /// Needs the control runtime around it.
    pub(super) fn new(store: &Store) -> Self {
        let store = store.clone();
        Self::saving(store.keeps(), move |swaps, reports| {
            let store = store.clone();
            async move {
                if let Some(reports) = reports {
                    store.save_beside(REPORTS, reports).await;
                }
                store.save_beside(SWAPS, swaps).await;
            }
        })
    }

    fn saving<S, F>(keeps: bool, save: S) -> Self
    where
        S: Fn(KeptSwaps, Option<Vec<Report>>) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let (filled, mut wakes) = mpsc::channel(1);
        let next = Arc::new(Mutex::new(Next::default()));
        let to_write = Arc::clone(&next);
        tokio::spawn(async move {
            while let Some(()) = wakes.recv().await {
                let Next { swaps, reports, done } = std::mem::take(&mut *lock(&to_write));
                if let Some(swaps) = swaps {
                    save(swaps, reports).await;
                }
                // Who waited may have lost patience.
                for done in done {
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
    use super::*;

    fn swaps(next_id: u64) -> KeptSwaps {
        KeptSwaps { next_id, ..KeptSwaps::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_disk_hangs_only_the_latest_state_waits() {
        let (tell, mut written) = mpsc::unbounded_channel();
        let disk = Arc::new(tokio::sync::Semaphore::new(0));
        let works = Arc::clone(&disk);
        let writer = Writer::saving(true, move |swaps, reports| {
            let (works, tell) = (Arc::clone(&works), tell.clone());
            async move {
                works.acquire().await.unwrap().forget();
                tell.send((swaps.next_id, reports.is_some())).unwrap();
            }
        });
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
}
