//! What one worker holds of a snapshot.
//!
//! Requests count their references to it, and to its pools, among themselves. To count with other
//! threads is to fight with them over a counter, and takes a locked instruction, which waits for all that
//! was written before.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use crate::state::view::PoolView;
use crate::state::{Pool, Snapshot};

/// Pools that are held at a time. Who has more of them under load makes some anew.
const PLACES: usize = 16;

/// A snapshot, as one worker holds it.
#[derive(Debug)]
pub struct HeldSnapshot {
    snapshot: Arc<Snapshot>,
    pools: RefCell<[Option<Rc<HeldPool>>; PLACES]>,
}

/// A pool, as one worker holds it.
#[derive(Debug)]
pub struct HeldPool {
    pool: Arc<Pool>,
    /// For picks.
    pub view: RefCell<PoolView>,
}

impl HeldSnapshot {
    /// Takes hold of a snapshot.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        HeldSnapshot { snapshot, pools: RefCell::default() }
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// One of its pools.
    pub fn pool(&self, pool: &Arc<Pool>) -> Rc<HeldPool> {
        // Pools are large, and lie apart.
        let place = Arc::as_ptr(pool).addr() / size_of::<Pool>() % PLACES;
        let held = &mut self.pools.borrow_mut()[place];
        if let Some(held) = held
            && Arc::ptr_eq(&held.pool, pool)
        {
            return Rc::clone(held);
        }
        Rc::clone(held.insert(HeldPool::new(pool)))
    }
}

impl Deref for HeldSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl HeldPool {
    /// Takes hold of a pool.
    pub fn new(pool: &Arc<Pool>) -> Rc<Self> {
        let view = RefCell::new(PoolView::new(&pool.state));
        Rc::new(HeldPool { pool: Arc::clone(pool), view })
    }
}

impl Deref for HeldPool {
    type Target = Arc<Pool>;

    fn deref(&self) -> &Arc<Pool> {
        &self.pool
    }
}
