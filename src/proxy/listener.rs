//! Accepting connections.
//!
//! The loop never ends by itself: errors that concern one connection are passed over, errors that
//! concern the process (no file descriptors, no memory) make it pause and say so at most once a
//! second. A socket is emptied before it is closed, since what the kernel has queued on it would be
//! reset with it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

use super::connection;
use super::io::{self as streams, RawStream};
use super::permit::Permit;
use super::room;
use super::worker::Worker;
use crate::state::shared::WorkerPort;
use crate::state::{ClientFile, Handover, Listener, ListeningSocket, Mail, Place, SocketId};

/// After an error of the process, and while a connection limit is reached.
const PAUSE: Duration = Duration::from_millis(20);
/// So long somebody is waited for who makes room on a listener: even if all have just come, there is
/// time for some of them to have had their own.
const PATIENCE: Duration = room::WELCOME.saturating_mul(2);
/// So long nobody is waited for after that was in vain.
const HOPELESS: Duration = Duration::from_millis(100);
/// A closing socket is emptied once more after this long: a handshake may just be completing.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// A socket that is being accepted on.
#[derive(Debug)]
pub struct Acceptor(Rc<State>);

#[derive(Debug)]
struct State {
    closing: Cell<bool>,
    closed: Cell<bool>,
    /// The loop's, while it waits for a connection.
    waiting: RefCell<Option<Waker>>,
    /// Kept for the last connections of a socket that left the configuration.
    listener: RefCell<Arc<Listener>>,
    /// Nobody could make room on it, and nobody is asked until then.
    hopeless_until: Cell<Option<Instant>>,
}

enum Socket {
    /// As if it were a stream, so that the reactor tells when there is somebody to accept, and does
    /// not enter whom we accept, as it does for its own listeners.
    Tcp(TcpStream),
    Unix(UnixListener),
}

impl Acceptor {
    /// Begins to accept.
    ///
    /// # Errors
    /// If this thread's reactor cannot take the socket.
    pub fn start(
        worker: &Rc<Worker>,
        id: SocketId,
        listener: Arc<Listener>,
        socket: ListeningSocket,
    ) -> io::Result<Self> {
        let socket = match socket {
            ListeningSocket::Tcp(socket) => {
                Socket::Tcp(TcpStream::from_std(OwnedFd::from(socket).into())?)
            }
            ListeningSocket::Unix(socket) => Socket::Unix(UnixListener::from_std(socket)?),
        };
        let state = Rc::new(State {
            closing: Cell::new(false),
            closed: Cell::new(false),
            waiting: RefCell::new(None),
            listener: RefCell::new(listener),
            hopeless_until: Cell::new(None),
        });
        worker.on_duty(accept(Rc::clone(worker), id, socket, Rc::clone(&state)));
        Ok(Acceptor(state))
    }

    /// Empties the socket and closes it, in a moment.
    pub fn close(&self) {
        self.0.closing.set(true);
        if let Some(waiting) = self.0.waiting.take() {
            waiting.wake();
        }
    }

    /// Whether the socket is closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }
}

async fn accept(worker: Rc<Worker>, id: SocketId, socket: Socket, state: Rc<State>) {
    while let Some(accepted) = poll_fn(|cx| state.poll_next(&socket, cx)).await {
        match accepted {
            Ok(stream) => {
                wait_for_room(&worker, &state).await;
                let listener = state.listener(&worker, id);
                let place = place_on(&worker, &listener, &state).await;
                take(&worker, id, listener, stream, place);
                room::look_ahead(&worker, &state.listener.borrow());
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                worker.cells().accept_errors.add(1);
                complain(&worker, &error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    empty(&worker, id, &state, &socket);
    tokio::time::sleep(LAST_LOOK).await;
    empty(&worker, id, &state, &socket);
    drop(socket);
    state.closed.set(true);
    worker.something_ended();
}

/// At the process's limit of connections, or of files, waiting is better than a refusal: one
/// connection in our hand, so that workers which accept at the same time do not pass the limit
/// together, and the others in the kernel's queue. Idle connections are asked to leave meanwhile.
async fn wait_for_room(worker: &Worker, state: &State) {
    if let Some(scarce) = scarce(worker) {
        worker.cells().accept_pauses.add(1);
        let waiting = worker.shared.files.clients.wait();
        let mut scarce = Some(scarce);
        worker.shared.make_room();
        while let Some(reason) = scarce
            && !state.closing.get()
        {
            if tokio::time::timeout(PAUSE, waiting.until_somebody_leaves()).await.is_err() {
                complain(worker, &reason);
            }
            worker.shared.remind_of_room();
            scarce = self::scarce(worker);
        }
    }
}

/// Why no more clients can come in, if they cannot.
fn scarce(worker: &Worker) -> Option<&'static str> {
    let files = &worker.shared.files;
    if files.spare_for_clients() == 0 {
        return Some("client connections hold as many files as they may");
    }
    (files.clients.taken() >= worker.snapshot().max_connections)
        .then_some("there are as many connections as server.max_connections allows")
}

/// At the limit of a listener who comes is refused, but for those for whom idle connections make room
/// before our patience ends. Once the socket is to be closed, nobody is waited for.
async fn place_on(worker: &Worker, listener: &Listener, state: &State) -> Place {
    let (limit, places) = (listener.limits.max_connections, &listener.state.connections);
    let hopeless = state.hopeless_until.get().is_some_and(|until| Instant::now() < until);
    if places.taken() >= limit && (!hopeless || places.is_anybody_leaving()) {
        let (waiting, until) = (places.wait(), Instant::now() + PATIENCE);
        worker.shared.make_room();
        while Instant::now() < until && !state.closing.get() {
            // Over or not, there may be a place.
            let _ = tokio::time::timeout(PAUSE, waiting.until_somebody_leaves()).await;
            if let Some(place) = Place::take_free(&listener.state, limit) {
                return place;
            }
            worker.shared.remind_of_room();
        }
        state.hopeless_until.set(Some(Instant::now() + HOPELESS));
    }
    Place::take(&listener.state, limit)
}

/// Serves what the kernel has queued. Asks the kernel itself: the reactor may not know yet.
fn empty(worker: &Rc<Worker>, id: SocketId, state: &State, socket: &Socket) {
    loop {
        match socket.accept_now() {
            Ok(stream) => {
                let listener = state.listener(worker, id);
                let place = Place::take(&listener.state, listener.limits.max_connections);
                take(worker, id, listener, stream, place);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(_) => return,
        }
    }
}

impl State {
    /// The next connection; none once the socket is to be closed.
    fn poll_next(
        &self,
        socket: &Socket,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<RawStream>>> {
        if self.closing.get() {
            return Poll::Ready(None);
        }
        let accepted = socket.poll_accept(cx).map(Some);
        if accepted.is_pending() {
            self.waiting.replace(Some(cx.waker().clone()));
        }
        accepted
    }

    /// The listener as it is now.
    fn listener(&self, worker: &Worker, id: SocketId) -> Arc<Listener> {
        if let Some(listener) = worker.snapshot().listener_at(id) {
            self.listener.replace(Arc::clone(listener));
        }
        Arc::clone(&self.listener.borrow())
    }
}

/// A connection that is to be served.
struct Accepted {
    socket: SocketId,
    listener: Arc<Listener>,
    stream: RawStream,
    file: ClientFile,
    place: Place,
}

fn take(
    worker: &Rc<Worker>,
    id: SocketId,
    listener: Arc<Listener>,
    stream: RawStream,
    place: Place,
) {
    // Counted before it may go to another worker, or this one would accept on and on until then.
    let file = worker.shared.files.for_client();
    let accepted = Accepted { socket: id, listener, stream, file, place };
    match less_busy(worker) {
        Some(other) => hand_over(worker, other, accepted),
        None => start(worker, accepted),
    }
}

/// Serves a connection that a busier worker has accepted.
pub fn adopt(worker: &Rc<Worker>, handover: Handover) {
    let Handover { socket, listener, stream, file, place } = handover;
    match RawStream::adopt(stream) {
        Ok(stream) => start(worker, Accepted { socket, listener, stream, file, place }),
        Err(error) => tracing::warn!(%error, "cannot adopt a connection"),
    }
}

fn start(worker: &Rc<Worker>, accepted: Accepted) {
    let Accepted { socket, listener, stream, file, place } = accepted;
    if let Some(permit) = Permit::take(worker, &listener, stream.peer(), (file, place)) {
        let accepted =
            connection::Accepted { worker: Rc::clone(worker), listener, socket, stream, permit };
        tokio::task::spawn_local(connection::serve(Box::new(accepted)));
    }
}

/// The least busy worker, if this one is so much busier that the next connection should not be its.
///
/// The kernel spreads connections by a hash, which is fair only over many: of ten long ones, one
/// worker may get nine.
fn less_busy(worker: &Worker) -> Option<usize> {
    let loads = || worker.shared.workers.iter().map(Load::of).enumerate();
    let (least, load) = loads().min_by_key(|(_, load)| *load)?;
    let own = Load::of(&worker.shared.workers[worker.id.index()]);
    let is_another = least != worker.id.index();
    (is_another && own.is_much_above(load) && !worker.is_draining()).then_some(least)
}

/// How busy a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    /// Connections that are not parked: they have a request, or had one a moment ago.
    at_work: usize,
    /// All connections. Where few are at work, most of those that will be are to be expected where
    /// most connections are.
    all: usize,
}

impl Load {
    fn of(port: &WorkerPort) -> Self {
        let all = port.connections.load(Ordering::Relaxed);
        let parked = usize::try_from(port.parked()).unwrap_or(usize::MAX);
        Load { at_work: all.saturating_sub(parked), all }
    }

    fn is_much_above(self, other: Self) -> bool {
        let much_above = |own, other| own > other + other / 4 + 1;
        much_above(self.at_work, other.at_work)
            || self.at_work >= other.at_work && much_above(self.all, other.all)
    }
}

fn hand_over(worker: &Rc<Worker>, other: usize, accepted: Accepted) {
    let Accepted { socket, listener, stream, file, place } = accepted;
    let stream = match stream.release() {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "cannot hand a connection over"),
    };
    let handover = Handover { socket, listener, stream, file, place };
    match worker.shared.workers[other].send(Mail::Adopt(handover)) {
        Ok(()) => worker.cells().handovers.add(1),
        // The other worker has ended: it is ours after all.
        Err(Mail::Adopt(handover)) => adopt(worker, handover),
        Err(_) => {}
    }
}

impl Socket {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<RawStream>> {
        match self {
            Socket::Tcp(socket) => loop {
                ready!(socket.poll_read_ready(cx))?;
                match socket.try_io(Interest::READABLE, || accept_tcp(socket)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    accepted => return Poll::Ready(accepted),
                }
            },
            Socket::Unix(socket) => {
                socket.poll_accept(cx).map_ok(|(stream, _)| RawStream::Unix(stream))
            }
        }
    }

    fn accept_now(&self) -> io::Result<RawStream> {
        match self {
            Socket::Tcp(socket) => accept_tcp(socket),
            Socket::Unix(socket) => {
                let (stream, _) = SockRef::from(socket).accept()?;
                stream.set_nonblocking(true)?;
                Ok(RawStream::Unix(UnixStream::from_std(stream.into())?))
            }
        }
    }
}

/// A connection from the kernel's queue, not yet in the reactor.
fn accept_tcp(socket: &TcpStream) -> io::Result<RawStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (stream, peer) = acceptfrom_with(socket, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let peer = peer.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(RawStream::Tcp(streams::Socket::new(stream.into()), peer))
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

/// Says what is wrong, at most once a second for the whole process.
fn complain(worker: &Worker, error: &dyn std::fmt::Display) {
    if let Some(also) = worker.shared.accept_complaints.admit(worker.shared.uptime()) {
        tracing::error!(
            reason = %error,
            also,
            "accepting pauses until connections end; if files ran out, raise LimitNOFILE or lower \
             server.max_connections; otherwise raise that, or lower keepalive_timeout"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_at_work_tell_who_is_busy_before_all_connections_do() {
        let load = |at_work, all| Load { at_work, all };
        assert!(load(3, 3).is_much_above(load(1, 1)));
        assert!(!load(2, 2).is_much_above(load(1, 1)), "one more is not much");
        assert!(load(9, 159).is_much_above(load(1, 151)), "beside many that are idle");
        assert!(load(0, 9).is_much_above(load(0, 1)), "nothing has been asked yet");
        assert!(!load(1, 900).is_much_above(load(4, 100)), "the other has more to do");
        assert!(load(1, 900) < load(4, 100));
        assert!(load(1, 100) < load(1, 900));
    }
}
