//! The tunnels of a worker, so that they can be told to close: WebSockets and what else began with an
//! Upgrade, and the event streams and gRPC streams that are as long-lived.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::{Instant, sleep_until};

use super::wakers::note;
use super::worker::Worker;
use crate::state::{Backend, CloseTunnels};

/// A tunnel that is told to close has so long for it.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// How fast a worker closes its WebSockets at the stop, if there is time: their clients connect anew
/// elsewhere, and all at once would be a rush.
const AT_THE_STOP: Duration = Duration::from_millis(10);

/// All tunnels of one worker.
#[derive(Debug, Default)]
pub struct Tunnels(RefCell<Slab<Rc<Told>>>);

/// What one tunnel is told.
#[derive(Debug)]
struct Told {
    backend: Arc<Backend>,
    websocket: bool,
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
        OpenTunnel::enter(worker, backend, false)
    }

    /// Enters a WebSocket into the list. Begun while the worker drains, it is to close at once.
    pub fn websocket(worker: &Rc<Worker>, backend: &Arc<Backend>) -> Self {
        OpenTunnel::enter(worker, backend, true)
    }

    fn enter(worker: &Rc<Worker>, backend: &Arc<Backend>, websocket: bool) -> Self {
        backend.cells.cell(worker.id).tunnels_opened.add(1);
        let told = Rc::new(Told {
            backend: Arc::clone(backend),
            websocket,
            scheduled: Cell::new(false),
            to_close: Cell::new(websocket && worker.is_draining()),
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
    due.sort_by_key(|(at, _)| *at);
    close_in_time(due);
}

/// Closes the WebSockets at the stop, one after another and so that the last of them can say farewell
/// before the deadline. A request may still be answered, and who speaks another protocol may come to
/// its end: they have until then.
pub fn close_websockets(worker: &Worker, now: Instant, deadline: Instant) {
    let tunnels = worker.tunnels.0.borrow();
    let open = tunnels.iter().map(|(_, told)| told).filter(|told| told.websocket);
    let open: Vec<&Rc<Told>> = open.filter(|told| !told.to_close.get()).collect();
    let pause = pause(open.len(), deadline.saturating_duration_since(now));
    let due = (0..).zip(open).map(|(place, told): (u32, _)| {
        told.scheduled.set(true);
        (now + pause * place, Rc::clone(told))
    });
    close_in_time(due.collect());
}

/// Between two WebSockets of so many, all of which are to be over in this time.
fn pause(websockets: usize, time: Duration) -> Duration {
    let time = time.saturating_sub(CLOSE_PATIENCE);
    let each = time / u32::try_from(websockets.max(1)).unwrap_or(u32::MAX);
    each.min(AT_THE_STOP)
}

fn close_in_time(due: Vec<(Instant, Rc<Told>)>) {
    if due.is_empty() {
        return;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn websockets_close_one_after_another_and_the_last_of_them_in_time() {
        let seconds = Duration::from_secs;
        for (websockets, time, expected) in [
            (0, seconds(30), AT_THE_STOP),
            (100, seconds(30), AT_THE_STOP),
            (25_000, seconds(30), Duration::from_millis(1)),
            (1, seconds(5), Duration::ZERO),
            (1_000, seconds(1), Duration::ZERO),
            (1, Duration::ZERO, Duration::ZERO),
        ] {
            assert_eq!(pause(websockets, time), expected, "{websockets} in {time:?}");
        }
    }
}
