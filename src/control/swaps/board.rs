//! Where the swaps stand, for whoever asks: written by the governor, read by the API.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::view::{PoolSwaps, SwapId};
use crate::deploy::Report;

/// Reports that are kept.
pub const KEPT_REPORTS: usize = 100;

/// What is known of swaps at present.
#[derive(Debug, Default)]
pub struct Board(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pools: BTreeMap<Arc<str>, PoolSwaps>,
    /// The oldest first.
    reports: VecDeque<Arc<Report>>,
}

impl Board {
    /// How it stands with the swaps of this pool; `None` if it has no versions.
    pub fn pool(&self, name: &str) -> Option<PoolSwaps> {
        self.lock().pools.get(name).cloned()
    }

    /// All reports that are kept, those of running swaps among them; the latest first.
    pub fn reports(&self) -> Vec<Arc<Report>> {
        self.lock().reports.iter().rev().cloned().collect()
    }

    /// The report of one swap, as it stands.
    pub fn report(&self, id: SwapId) -> Option<Arc<Report>> {
        self.lock().reports.iter().find(|report| report.order.id == id.0).cloned()
    }

    /// Takes how it stands with all pools that have versions.
    pub fn set_pools(&self, pools: BTreeMap<Arc<str>, PoolSwaps>) {
        self.lock().pools = pools;
    }

    /// Takes a report, in place of an earlier one of the same swap.
    pub fn put_report(&self, report: Report) {
        let mut inner = self.lock();
        let report = Arc::new(report);
        match inner.reports.iter_mut().rev().find(|kept| kept.order.id == report.order.id) {
            Some(kept) => *kept = report,
            None => inner.reports.push_back(report),
        }
        while inner.reports.len() > KEPT_REPORTS {
            inner.reports.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
