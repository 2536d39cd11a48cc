//! The tunnels of a worker, so that they can be told to close: WebSockets and what else began with an
//! Upgrade, and the event streams and gRPC streams that are as long-lived.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use slab::Slab;
use tokio::time::{Instant, sleep_until};

use super::wakers::note;
use super::worker::Worker;
use crate::state::{Backend, CloseTunnels};

/// All tunnels of one worker.
#[derive(Debug, Default)]
pub struct Tunnels(RefCell<Slab<Rc<Told>>>);

/// What one tunnel is told.
#[derive(Debug)]
struct Told {
    backend: Arc<Backend>,
    /// Its time has been set.
    scheduled: Cell<bool>,
    /// Its time has come.
    to_close: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A tunnel in its worker's list, and counted, until dropped.
#[derive(Debug)]
pub struct OpenTunnel {
    worker: Rc<Worker>,
    key: usize,
    told: Rc<Told>,
}

impl OpenTunnel {
    /// Enters a tunnel to a backend into the list.
    pub fn new(worker: &Rc<Worker>, backend: &Arc<Backend>) -> Self {
        backend.cells.cell(worker.id).tunnels_opened.add(1);
        let told = Rc::new(Told {
            backend: Arc::clone(backend),
            scheduled: Cell::new(false),
            to_close: Cell::new(false),
            waker: RefCell::new(None),
        });
        let key = worker.tunnels.0.borrow_mut().insert(Rc::clone(&told));
        OpenTunnel { worker: Rc::clone(worker), key, told }
    }

    /// Whether it is to close now. If not, whoever asks is woken when it is.
    pub fn is_to_close(&self, cx: &Context<'_>) -> bool {
        if self.told.to_close.get() {
            return true;
        }
        note(&mut self.told.waker.borrow_mut(), cx.waker());
        false
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.told.backend.cells.cell(self.worker.id).tunnels_closed.add(1);
        self.worker.tunnels.0.borrow_mut().remove(self.key);
    }
}

/// Closes the tunnels that an order means and that no order has meant before, each in its time.
pub fn close(worker: &Rc<Worker>, order: &CloseTunnels) {
    let mut due: Vec<(Instant, Rc<Told>)> = Vec::new();
    for (_, told) in &*worker.tunnels.0.borrow() {
        if order.backends.contains(&told.backend.id) && !told.scheduled.replace(true) {
            let at = order.pace.next(worker.with_rng(fastrand::Rng::f64));
            due.push((Instant::from_std(at), Rc::clone(told)));
        }
    }
    if due.is_empty() {
        return;
    }
    due.sort_by_key(|(at, _)| *at);
    tokio::task::spawn_local(async move {
        for (at, told) in due {
            sleep_until(at).await;
            told.to_close.set(true);
            if let Some(waker) = told.waker.take() {
                waker.wake();
            }
        }
    });
}
