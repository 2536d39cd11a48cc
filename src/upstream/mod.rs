//! Connections to backends, one set of them per worker.
//!
//! A [`Lane`] is what one worker has towards one backend: its unused HTTP/1.1 connections and its
//! HTTP/2 connections. A request first takes a [`Connection`] out of the lane (reusing one, or
//! dialling) and then sends on it; the connection finds its own way back when the response has been
//! read in full. Nothing in here tries twice: a second attempt is the caller's decision, and errors
//! say whether the request left us and, if not, give it back.

mod answer;
mod body;
pub(crate) mod delegate;
pub mod dial;
pub mod error;
pub mod framing;
pub mod http1;
pub mod http2;
mod lane;
mod request;
mod send;
mod slow_clients;
mod spare;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub use answer::{Answered, ResponseHead};
pub use body::Incoming;
pub use error::{Error, Failed};
pub use lane::{Connection, Lane, Lease, UpgradeAnswer};
pub use request::{Field, RequestHead, SharedFields};
pub use send::poll_send;
pub use slow_clients::{COMMON_SHARE_BYTES, SlowClients};
pub use spare::Spare;

use crate::state::pool::UpstreamSettings;
use crate::state::{Backend, BackendId, Files, WorkerId};

/// The lanes of one worker.
#[derive(Debug)]
pub struct Upstreams {
    /// What one exchange leaves for the next.
    pub spare: Rc<Spare>,
    worker: WorkerId,
    workers: usize,
    files: Arc<Files>,
    lanes: RefCell<HashMap<BackendId, Rc<Lane>, foldhash::fast::FixedState>>,
}

impl Upstreams {
    /// No lane yet. `workers` is the number of workers that share a backend's limit of unused
    /// connections.
    pub fn new(worker: WorkerId, workers: usize, files: Arc<Files>) -> Self {
        Upstreams { spare: Rc::default(), worker, workers, files, lanes: RefCell::default() }
    }

    /// The lane to this backend. Connections that were made under other settings are not used
    /// again.
    pub fn lane(&self, backend: &Arc<Backend>, settings: &Arc<UpstreamSettings>) -> Rc<Lane> {
        let mut lanes = self.lanes.borrow_mut();
        if let Some(lane) = lanes.get(&backend.id) {
            lane.adopt(settings);
            return Rc::clone(lane);
        }
        let lane = Rc::new(self.new_lane(backend, settings));
        // Of one that is gone nobody will say so again: its lane lives as long as it is used.
        if !backend.gone.load(Ordering::Relaxed) {
            lanes.insert(backend.id, Rc::clone(&lane));
        }
        lane
    }

    #[cold]
    fn new_lane(&self, backend: &Arc<Backend>, settings: &Arc<UpstreamSettings>) -> Lane {
        let (backend, settings) = (Arc::clone(backend), Arc::clone(settings));
        let (spare, files) = (Rc::clone(&self.spare), Arc::clone(&self.files));
        Lane::new(backend, settings, spare, (self.worker, self.workers), files)
    }

    /// Closes the unused connections to a backend; those in use are closed when they come back.
    pub fn close_idle(&self, backend: BackendId) {
        if let Some(lane) = self.lanes.borrow().get(&backend) {
            lane.retire_connections();
        }
    }

    /// Forgets a backend that is gone. Requests under way keep its lane alive until they are done.
    pub fn forget(&self, backend: BackendId) {
        if let Some(lane) = self.lanes.borrow_mut().remove(&backend) {
            lane.retire_connections();
        }
    }

    /// Closes whatever is unused: its files are needed.
    pub fn close_unused(&self) {
        for lane in self.lanes.borrow().values() {
            lane.close_unused();
        }
    }

    /// Closes what has been unused for longer than its pool allows.
    pub fn close_expired(&self, now: Instant) {
        for lane in self.lanes.borrow().values() {
            lane.close_expired(now);
        }
    }
}
