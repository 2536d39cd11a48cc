//! What survives a restart: which version serves, the swaps that run, the latest reports.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::guarded::Kind;
use crate::control::Store;
use crate::deploy::{Report, Resume, Standing};

/// Where swaps are kept ...
const SWAPS: &str = "swaps";
/// ... and reports.
const REPORTS: &str = "reports";

/// A swap does not wait longer than this for its state to be on the disk: a disk that hangs must not
/// keep a bad version in service.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Writes one document after another.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: mpsc::UnboundedSender<Job>,
    keeps: bool,
}

#[derive(Debug)]
struct Job {
    swaps: KeptSwaps,
    reports: Option<Vec<Report>>,
    done: Option<oneshot::Sender<()>>,
}

impl Writer {
    /// Needs the control runtime around it.
    pub(super) fn new(store: &Store) -> Self {
        let (jobs, mut waiting) = mpsc::unbounded_channel::<Job>();
        let keeps = store.keeps();
        let store = store.clone();
        tokio::spawn(async move {
            while let Some(Job { swaps, reports, done }) = waiting.recv().await {
                if let Some(reports) = reports {
                    store.save_beside(REPORTS, reports).await;
                }
                store.save_beside(SWAPS, swaps).await;
                // Who waited may have lost patience.
                let _ = done.map(|done| done.send(()));
            }
        });
        Writer { jobs, keeps }
    }

    /// Writes, and returns when it is on the disk, or after a while all the same.
    pub(super) async fn write(&self, swaps: KeptSwaps, reports: Option<Vec<Report>>) {
        if !self.keeps {
            return;
        }
        let (done, written) = oneshot::channel();
        // The writer lives as long as this.
        let _ = self.jobs.send(Job { swaps, reports, done: Some(done) });
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
            let _ = self.jobs.send(Job { swaps, reports: None, done: None });
        }
    }
}
