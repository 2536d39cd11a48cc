//! What one thread last saw of a pool.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::pool::PoolState;
use super::split::Split;
use super::version::{UsableSet, Version};

/// A pool's split, and the usable set of the version that was picked from last, as one thread saw
/// them. It looks whether they are still in force, which is a load: to get hold of them is more.
#[derive(Debug)]
pub struct PoolView {
    split: Cache<SplitOf, Arc<Split>>,
    usable: Option<Cache<UsableOf, Arc<UsableSet>>>,
}

#[derive(Debug)]
struct SplitOf(Arc<PoolState>);

#[derive(Debug)]
struct UsableOf(Arc<Version>);

impl Deref for SplitOf {
    type Target = ArcSwap<Split>;

    fn deref(&self) -> &ArcSwap<Split> {
        &self.0.split
    }
}

impl Deref for UsableOf {
    type Target = ArcSwap<UsableSet>;

    fn deref(&self) -> &ArcSwap<UsableSet> {
        &self.0.usable
    }
}

impl PoolView {
    /// A view of a pool.
    pub fn new(pool: &Arc<PoolState>) -> Self {
        PoolView { split: Cache::new(SplitOf(Arc::clone(pool))), usable: None }
    }

    /// The split in force, and the usable sets of its versions.
    pub(super) fn split(&mut self) -> (&Split, UsableView<'_>) {
        (self.split.load(), UsableView(&mut self.usable))
    }
}

/// The usable sets of versions.
pub(super) struct UsableView<'a>(&'a mut Option<Cache<UsableOf, Arc<UsableSet>>>);

impl<'a> UsableView<'a> {
    /// Who of a version may be picked now.
    pub(super) fn of(self, version: &Arc<Version>) -> &'a UsableSet {
        let seen = self.0.take().filter(|seen| std::ptr::eq(seen.arc_swap(), &version.usable));
        let seen = seen.unwrap_or_else(|| Cache::new(UsableOf(Arc::clone(version))));
        self.0.insert(seen).load()
    }
}
