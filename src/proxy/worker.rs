//! A worker: one thread, one single-threaded runtime, its own sockets and its own connections to
//! the backends.
//!
//! Everything in here is `!Send` and borrows from one [`Worker`]; what reaches it from outside
//! comes as mail.

mod registered;
mod thread;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Cache};
use http::HeaderValue;
use slab::Slab;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::registered::Registered;
pub use self::thread::spawn;
use super::clock::{Clock, InTurn};
use super::connection::ConnectionState;
use super::date::Date;
use super::headers::identity::RequestIds;
use super::listener::{self, Acceptor};
use super::received::Received;
use super::room;
use super::timer::Wheel;
use super::tunnels::{self, Tunnels};
use super::waiting::WaitingRoom;
use super::warmth;
use crate::health::outliers::{Alarm, Outcome};
use crate::memory;
use crate::state::shared::WorkerCells;
use crate::state::{
    Backend, Listener, ListeningSocket, Mail, Notice, Shared, Snapshot, SocketId, WorkerId,
};
use crate::telemetry::AccessLog;
use crate::upstream::{COMMON_SHARE_BYTES, Upstreams};

/// How often unused upstream connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How often memory is given back. What is freed with that is due a second later: were this a second
/// too, a worker would always be the first to find what a reload has left behind, and would be busy with
/// it for milliseconds, ahead of who does it in the pauses.
const TIDY: Duration = Duration::from_millis(1500);
/// Mails handled before connections get their turn again.
const MAIL_BATCH: usize = 32;
/// One read of a tunnel; tunnels share it, so an idle one holds no buffer.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What keeps the sockets that a worker accepts on over a panic.
type Sockets = Vec<(SocketId, ListeningSocket)>;

/// What everything on a worker shares.
#[derive(Debug)]
pub struct Worker {
    /// Its index.
    pub id: WorkerId,
    /// The meeting place with the control plane.
    pub shared: Arc<Shared>,
    /// Connections to backends.
    pub upstreams: Upstreams,
    /// Tunnels, to be closed if need be.
    pub tunnels: Tunnels,
    /// Timeouts.
    pub wheel: Rc<Wheel>,
    /// Attempts that wait for a response head.
    pub waiting: WaitingRoom,
    /// Tells this process from others in a loop of proxies.
    pub instance: HeaderValue,
    /// Where requests are logged, if it is on.
    pub access_log: AccessLog,
    /// How long a connection is idle before it is parked.
    pub park_after: Duration,
    /// For one read at a time, never across an await.
    pub scratch: RefCell<Box<[u8]>>,
    rng: RefCell<fastrand::Rng>,
    request_ids: RefCell<RequestIds>,
    received: RefCell<Option<Box<Received>>>,
    date: RefCell<Date>,
    clock: Clock,
    in_force: RefCell<Cache<InForce, Arc<Snapshot>>>,
    snapshot: RefCell<Rc<HeldSnapshot>>,
    pub(super) connections: RefCell<Slab<Rc<ConnectionState>>>,
    pub(super) in_vain: room::InVain,
    acceptors: RefCell<Vec<(SocketId, Acceptor)>>,
    /// Tasks that it cannot do without.
    duties: RefCell<JoinSet<()>>,
    deadline: Cell<Option<Instant>>,
    drained: tokio::sync::Notify,
}

/// The snapshot as one worker holds it: its requests count their references among themselves, so
/// that the workers do not fight over one counter.
#[derive(Debug)]
pub struct HeldSnapshot(Arc<Snapshot>);

impl std::ops::Deref for HeldSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// Where the snapshot in force stands.
#[derive(Debug)]
struct InForce(Arc<Shared>);

impl std::ops::Deref for InForce {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &ArcSwap<Snapshot> {
        &self.0.snapshot
    }
}

/// What workers are told at their start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where requests are logged, if it is on.
    pub access_log: AccessLog,
    /// How long a connection is idle before it is parked.
    pub park_after: Duration,
}

impl Worker {
    fn new(id: WorkerId, shared: Arc<Shared>, settings: Settings) -> Rc<Self> {
        let snapshot = shared.snapshot.load_full();
        let instance = HeaderValue::from_str(&shared.instance);
        let worker = Rc::new(Worker {
            id,
            instance: instance.unwrap_or(HeaderValue::from_static("unnamed")),
            upstreams: Upstreams::new(id, shared.workers.len(), Arc::clone(&shared.files)),
            tunnels: Tunnels::default(),
            wheel: Wheel::new(),
            waiting: WaitingRoom::default(),
            access_log: settings.access_log,
            park_after: settings.park_after,
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            rng: RefCell::default(),
            request_ids: RefCell::default(),
            received: RefCell::default(),
            date: RefCell::default(),
            clock: Clock::new(Instant::now()),
            in_force: RefCell::new(Cache::new(InForce(Arc::clone(&shared)))),
            snapshot: RefCell::new(Rc::new(HeldSnapshot(snapshot))),
            connections: RefCell::default(),
            in_vain: room::InVain::default(),
            acceptors: RefCell::default(),
            duties: RefCell::default(),
            deadline: Cell::new(None),
            drained: tokio::sync::Notify::new(),
            shared,
        });
        worker.allow(&worker.snapshot());
        // Whoever had it to do before may have panicked.
        worker.shared.workers[id.index()].room_is_made();
        worker
    }

    async fn run(self: &Rc<Self>, mail: &mut UnboundedReceiver<Mail>, sockets: &mut Sockets) {
        let mut batch = Vec::with_capacity(MAIL_BATCH);
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tidy = tokio::time::interval(TIDY);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let deadline = self.deadline.get();
            let cut = async move {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = mail.recv_many(&mut batch, MAIL_BATCH) => {
                    if received == 0 {
                        return;
                    }
                    for mail in batch.drain(..) {
                        self.handle(mail, sockets);
                    }
                    tokio::task::yield_now().await;
                }
                now = sweep.tick() => {
                    self.upstreams.close_expired(now.into_std());
                    warmth::look_after(self, now.into_std());
                }
                _ = tidy.tick() => memory::give_back(),
                () = self.watch_duties() => {}
                () = self.drained.notified() => {}
                () = cut => {
                    let left = self.shared.workers[self.id.index()].connections.load(Ordering::Relaxed);
                    if left > 0 {
                        tracing::warn!(worker = %self.id, connections = left,
                            "shutdown_timeout is over: cutting what is still open");
                    }
                    return;
                }
            }
            if self.is_drained() {
                // A connection may have been handed over at the last moment.
                let Ok(mail) = mail.try_recv() else { return };
                self.handle(mail, sockets);
            }
        }
    }

    /// Runs a task that the worker cannot do without: should it panic, so does the worker.
    pub(super) fn on_duty(&self, task: impl Future<Output = ()> + 'static) {
        self.duties.borrow_mut().spawn_local(task);
    }

    /// Panics as soon as a task on duty has; ready where one is done.
    async fn watch_duties(&self) {
        let next = poll_fn(|cx| self.duties.borrow_mut().poll_join_next(cx));
        if let Some(Err(ended)) = next.await
            && let Ok(panic) = ended.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }

    fn is_drained(&self) -> bool {
        self.deadline.get().is_some()
            // Those whose TLS handshake is still going on count too.
            && self.shared.workers[self.id.index()].connections.load(Ordering::Relaxed) == 0
            && self.acceptors.borrow().iter().all(|(_, acceptor)| acceptor.is_closed())
    }

    fn handle(self: &Rc<Self>, mail: Mail, sockets: &mut Sockets) {
        match mail {
            Mail::Listen(id, listener, socket) => {
                sockets.push((id, socket.spare));
                self.listen(id, listener, socket.accepting);
            }
            Mail::StopListening(id) => {
                self.acceptors
                    .borrow()
                    .iter()
                    .filter(|(of, _)| *of == id)
                    .for_each(|(_, acceptor)| acceptor.close());
                self.acceptors.borrow_mut().retain(|(of, _)| *of != id);
                sockets.retain(|(of, _)| *of != id);
                let connections = self.connections.borrow();
                connections
                    .iter()
                    .filter(|(_, connection)| connection.socket == id)
                    .for_each(|(_, connection)| connection.drain());
            }
            Mail::SnapshotChanged => drop(self.snapshot()),
            Mail::KeepaliveShortened => {
                let (snapshot, connections) = (self.snapshot(), self.connections.borrow());
                connections.iter().for_each(|(_, it)| it.shorten_keepalive(&snapshot));
            }
            #[cfg(test)]
            Mail::Panic => panic!("a test asked for it"),
            #[cfg(test)]
            Mail::PanicOnDuty => self.on_duty(async { panic!("a test asked for it") }),
            Mail::BackendDown(backend) => self.upstreams.close_idle(backend),
            Mail::Rescue(backend) => self.waiting.rescue(self, backend),
            Mail::CutRequests(backend) => {
                self.waiting.rescue(self, backend);
                self.wheel.wake_all();
            }
            Mail::BackendGone(backend) => self.upstreams.forget(backend),
            Mail::WarmUp(order) => warmth::warm_up(self, order),
            Mail::CloseTunnels(order) => tunnels::close(self, &order),
            Mail::MakeRoom => room::make(self),
            Mail::Adopt(handover) => listener::adopt(self, handover),
            Mail::Drain { deadline } => {
                let deadline = Instant::from_std(deadline);
                self.deadline.set(Some(deadline));
                self.acceptors.borrow().iter().for_each(|(_, acceptor)| acceptor.close());
                sockets.clear();
                self.connections.borrow().iter().for_each(|(_, connection)| connection.drain());
                tunnels::close_websockets(self, Instant::now(), deadline);
            }
        }
    }

    fn listen(self: &Rc<Self>, id: SocketId, listener: Arc<Listener>, socket: ListeningSocket) {
        match Acceptor::start(self, id, listener, socket) {
            Ok(acceptor) => self.acceptors.borrow_mut().push((id, acceptor)),
            Err(error) => tracing::error!(worker = %self.id, %error, "cannot accept on a socket"),
        }
    }

    /// The snapshot in force. A request takes it once and keeps it.
    pub fn snapshot(&self) -> Rc<HeldSnapshot> {
        let mut in_force = self.in_force.borrow_mut();
        let live = in_force.load();
        let mut held = self.snapshot.borrow_mut();
        if !Arc::ptr_eq(live, &held.0) {
            *held = Rc::new(HeldSnapshot(Arc::clone(live)));
            self.allow(live);
        }
        Rc::clone(&held)
    }

    /// Its share of what may be held for clients.
    fn allow(&self, snapshot: &Snapshot) {
        let share = snapshot.max_buffered.map(|all| all / self.shared.workers.len());
        self.upstreams.spare.slow_clients.allow(share.unwrap_or(COMMON_SHARE_BYTES));
    }

    /// A request that nothing is known of.
    pub fn take_received(&self) -> Box<Received> {
        self.received.take().unwrap_or_default()
    }

    /// Keeps a request of which everything has been taken out, for the next.
    pub fn keep_received(&self, received: Box<Received>) {
        self.received.replace(Some(received));
    }

    /// What the worker counts for the process.
    pub fn cells(&self) -> &WorkerCells {
        &self.shared.workers[self.id.index()].cells
    }

    /// See [`Clock::tick`].
    pub fn tick(&self) -> Instant {
        self.clock.tick()
    }

    /// See [`Clock::latest`].
    pub fn now(&self) -> Instant {
        self.clock.latest()
    }

    /// See [`Clock::of_turn`].
    pub fn time_of_turn(&self) -> Instant {
        self.clock.of_turn()
    }

    /// See [`Clock::turn`].
    pub fn turn(&self) -> InTurn<'_> {
        self.clock.turn()
    }

    /// The same moment as the time since the process started.
    pub fn uptime_at(&self, moment: Instant) -> Duration {
        moment.into_std().saturating_duration_since(self.shared.started)
    }

    /// Lends the date for an answer that is given now.
    pub fn with_date<T>(&self, take: impl FnOnce(&[u8]) -> T) -> T {
        take(self.date.borrow_mut().at(self.now(), SystemTime::now))
    }

    /// A name for a request that came without one.
    pub fn new_request_id(&self) -> HeaderValue {
        self.request_ids.borrow_mut().next(&mut self.rng.borrow_mut())
    }

    /// Draws from the worker's random numbers. Not for secrets.
    pub fn with_rng<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.rng.borrow_mut())
    }

    /// Whether the worker is finishing what it has.
    pub fn is_draining(&self) -> bool {
        self.deadline.get().is_some()
    }

    /// Tells the control plane that a backend may be ill: others are preferred until a probe, which
    /// is made at once, has said what it is worth.
    pub fn suspect(&self, backend: &Arc<Backend>) {
        if !backend.suspected.swap(true, Ordering::Relaxed) {
            self.shared.notify(Notice::Suspect(Arc::clone(backend)));
        }
    }

    /// An attempt on a backend has ended; `status` is that of its answer, if it had one.
    pub fn attempt_ended(&self, backend: &Arc<Backend>, outcome: Outcome, status: Option<u16>) {
        let Some(alarm) = backend.note_end(self.id, outcome, status) else { return };
        if matches!(alarm, Alarm::BrokeOff | Alarm::BrokenOff(_)) {
            self.suspect(backend);
        }
        self.shared.notify(Notice::Alarm(Arc::clone(backend), alarm));
    }

    /// Called when an acceptor has closed its socket, and when a connection has ended.
    pub(super) fn something_ended(&self) {
        if self.is_draining() {
            self.drained.notify_one();
        }
    }
}
