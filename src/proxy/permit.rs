//! The count of client connections: who may open one more, and that each is counted once.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::io::Peer;
use super::worker::Worker;
use crate::state::{ClientFile, Listener, Place};

/// The right to one more connection, counted everywhere until dropped.
#[derive(Debug)]
pub struct Permit {
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    address: Option<IpAddr>,
    _place: Place,
    _file: ClientFile,
}

impl Permit {
    /// Lets one more connection in, unless it passes a limit of the listener. It was counted when it
    /// was accepted, by the process and on its listener.
    pub fn take(
        worker: &Rc<Worker>,
        listener: &Arc<Listener>,
        peer: Peer,
        (file, place): (ClientFile, Place),
    ) -> Option<Self> {
        let cells = listener.state.cells.cell(worker.id);
        let over = place.over;
        let mut permit = Permit {
            worker: Rc::clone(worker),
            listener: Arc::clone(listener),
            address: None,
            _place: place,
            _file: file,
        };
        worker.shared.workers[worker.id.index()].connections.fetch_add(1, Ordering::Relaxed);
        cells.accepted.add(1);
        let per_address = listener.limits.max_connections_per_address;
        if over {
            cells.refused.add(1);
            tell_refusal(worker, listener, peer, "max_connections");
            return None;
        }
        if let Some(ip) = peer.ip()
            && per_address < usize::MAX
            && !permit.enter(ip, per_address)
        {
            cells.refused_address.add(1);
            tell_refusal(worker, listener, peer, "max_connections_per_address");
            return None;
        }
        Some(permit)
    }

    fn enter(&mut self, ip: IpAddr, limit: usize) -> bool {
        let mut addresses =
            self.listener.state.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(ip).or_insert(0);
        if *count >= limit {
            return false;
        }
        *count += 1;
        self.address = Some(ip);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ip) = self.address {
            let mut addresses =
                self.listener.state.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = addresses.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&ip);
                }
            }
        }
        self.listener.state.cells.cell(self.worker.id).closed.add(1);
        let port = &self.worker.shared.workers[self.worker.id.index()];
        port.connections.fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            port.cells.panics.add(1);
        }
        self.worker.something_ended();
    }
}

/// Says that a limit is reached, at most once a second for the whole process.
fn tell_refusal(worker: &Worker, listener: &Listener, peer: Peer, reason: &'static str) {
    if let Some(also) = worker.shared.refusal_complaints.admit(worker.shared.uptime()) {
        tracing::warn!(listener = %listener.name, ?peer, reason, also,
            "closed a connection at the listener's limit");
    }
}
