//! One client connection: handshake, HTTP by its version, the timeouts around it, its end.
//!
//! [`http1`] and [`http2`] serve the requests; [`drive`](super::drive) polls them and ends what must
//! end.

mod counts;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::body::Upload;
use super::farewell::Leftovers;
use super::framing::Scanner;
use super::headers::forwarded::{Connection as Asker, ConnectionHeaders};
use super::io::{ClientStream, IoState, Peer, RawStream};
use super::permit::Permit;
use super::rare::boxed;
use super::room::Leaving;
use super::timer::Timer;
use super::tls::{self, Settled};
use super::tunnel;
use super::worker::{Registered, Worker};
use super::{http1, http2, sniff};
use crate::state::{Listener, ListenerState, Snapshot, SocketId};

/// What the requests of a connection, and the worker, share about it.
#[derive(Debug)]
pub struct ConnectionState {
    /// The worker that it lives on.
    pub worker: Rc<Worker>,
    /// Who is at the other end.
    pub peer: Peer,
    /// The socket that it was accepted on.
    pub socket: SocketId,
    /// What the TLS handshake settled; absent in plain text, and until then.
    pub tls: OnceCell<Settled>,
    /// A protocol switch that was agreed on: what the connection becomes behind the answer.
    pub tunnel: RefCell<Option<Box<tunnel::Start>>>,
    pub(super) listener: RefCell<Arc<Listener>>,
    /// Where its place is counted, whatever listener its socket belongs to by now.
    pub(super) counted: Arc<ListenerState>,
    /// With the generation that they are of; absent while no request needs them.
    headers: RefCell<Option<(u64, Rc<ConnectionHeaders>)>>,
    pub(super) opened: Instant,
    pub(super) io: Rc<IoState>,
    pub(super) timer: Timer,
    pub(super) idle_since: Cell<Instant>,
    /// When it is to be parked, if it is still idle then.
    pub(super) park_at: Cell<Option<Instant>>,
    pub(super) active: Cell<u32>,
    pub(super) spoken: Cell<bool>,
    h2: Cell<bool>,
    /// Its wait for the next request has become shorter while it had one under way.
    shortened: Cell<bool>,
    /// A request was answered before its body had come in full.
    unread: Cell<bool>,
    /// The uploads of such requests, under HTTP/2.
    pub(super) leftovers: Leftovers,
    pub(super) closing: Cell<bool>,
    /// It was asked to leave, to make room for others.
    pub(super) leaving: RefCell<Option<Leaving>>,
    cut: Cell<bool>,
    /// It ends because its client takes nothing, by what limit.
    untaken: Cell<Option<&'static str>>,
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The worker that it lives on.
    pub worker: Rc<Worker>,
    /// The listener as it is now.
    pub listener: Arc<Listener>,
    /// The socket that it was accepted on.
    pub socket: SocketId,
    /// The connection.
    pub stream: RawStream,
    /// Its right to be.
    pub permit: Permit,
}

/// A connection on which HTTP can be spoken, and its version.
enum Open {
    Http1(Registered, http1::SharedLink),
    Http2(Registered, Box<http2::Wire>),
}

/// Serves a connection from its first byte to its last.
///
/// This is the task that a connection has as long as it lives, and it has room for the largest of
/// its parts. So what is large and does not last, or is another version's, is boxed.
pub async fn serve(accepted: Box<Accepted>) {
    let open = match accepted.listener.tls.is_some() || accepted.listener.h2c {
        true => boxed(|| open(accepted)).await,
        false => Some(accepted.open()),
    };
    match open {
        Some(Open::Http1(connection, link)) => http1::serve(&connection, link).await,
        Some(Open::Http2(connection, wire)) => boxed(|| http2::serve(&connection, wire)).await,
        None => {}
    }
}

/// Finds out what is to be spoken: by a TLS handshake, or by the first bytes.
async fn open(accepted: Box<Accepted>) -> Option<Open> {
    let Accepted { worker, listener, socket, stream, permit } = *accepted;
    let connection = ConnectionState::new(&worker, Arc::clone(&listener), socket, stream.peer());
    let connection = connection.enter(permit);
    let Some(tls) = &listener.tls else {
        let mut stream = ClientStream::Plain(stream);
        let sniffed = sniff::sniff(&connection, &mut stream).await?;
        connection.h2.set(sniffed.h2);
        return Some(connection.open(stream, sniffed.held));
    };
    let (stream, settled) = tls::handshake(&connection, &listener, tls, stream).await?;
    connection.secured(settled);
    Some(connection.open(ClientStream::Tls(stream), Vec::new()))
}

impl Accepted {
    /// Where only HTTP/1.1 is spoken.
    fn open(self) -> Open {
        let Accepted { worker, listener, socket, stream, permit } = self;
        let connection = ConnectionState::new(&worker, listener, socket, stream.peer());
        connection.enter(permit).open(ClientStream::Plain(stream), Vec::new())
    }
}

impl Registered {
    fn open(self, stream: ClientStream, held: Vec<u8>) -> Open {
        let state = Rc::clone(&self.io);
        if !self.is_h2() {
            let scanner = Scanner::new(http1::head_limits(&self));
            let link = http1::Link::new(stream, held, scanner, state);
            return Open::Http1(self, Rc::new(RefCell::new(link)));
        }
        Open::Http2(self, Box::new(http2::Wire::new(stream, held, state)))
    }
}

impl ConnectionState {
    fn new(worker: &Rc<Worker>, listener: Arc<Listener>, socket: SocketId, peer: Peer) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(ConnectionState {
            peer,
            socket,
            tls: OnceCell::new(),
            tunnel: RefCell::new(None),
            counted: Arc::clone(&listener.state),
            listener: RefCell::new(listener),
            headers: RefCell::new(None),
            io: IoState::among(&worker.upstreams.spare.slow_clients),
            timer: worker.wheel.timer(),
            opened: now,
            idle_since: Cell::new(now),
            park_at: Cell::new(None),
            active: Cell::new(0),
            spoken: Cell::new(false),
            h2: Cell::new(false),
            shortened: Cell::new(false),
            unread: Cell::new(false),
            leftovers: Leftovers::default(),
            closing: Cell::new(false),
            leaving: RefCell::new(None),
            cut: Cell::new(false),
            untaken: Cell::new(None),
            worker: Rc::clone(worker),
        })
    }

    /// Enters it into its worker's list.
    fn enter(self: Rc<Self>, permit: Permit) -> Registered {
        if self.worker.is_draining() || self.worker.snapshot().listener_at(self.socket).is_none() {
            // Accepted while its socket was being emptied: one request, then close.
            self.drain();
        }
        Registered::new(self, permit)
    }

    /// Takes its listener up as this snapshot has it. If it has left the configuration, it stays as it
    /// last was. Requests that are under way over HTTP/2 go by it from now on too.
    pub fn keep_up_with(&self, snapshot: &Snapshot) {
        let mut known = self.listener.borrow_mut();
        if let Some(current) = snapshot.listener_at(self.socket)
            && !Arc::ptr_eq(current, &known)
        {
            *known = Arc::clone(current);
        }
    }

    /// Takes up at once how long it may wait for its next request, should that be shorter now. One with
    /// a request under way does so when that has ended.
    pub fn shorten_keepalive(&self, snapshot: &Snapshot) {
        if self.active.get() > 0 {
            self.shortened.set(true);
        } else if self.spoken.get() {
            self.keep_up_with(snapshot);
            let keepalive = self.listener.borrow().limits.keepalive_timeout;
            self.timer.bring_forward(self.idle_since.get() + keepalive);
        }
    }

    /// What backends are told about this connection, prepared once per configuration.
    pub fn headers(&self, snapshot: &Snapshot) -> Rc<ConnectionHeaders> {
        let mut held = self.headers.borrow_mut();
        match &*held {
            Some((generation, headers)) if *generation == snapshot.generation => Rc::clone(headers),
            _ => {
                let headers = asker(snapshot, &self.listener.borrow(), self);
                let headers = Rc::new(headers);
                *held = Some((snapshot.generation, Rc::clone(&headers)));
                headers
            }
        }
    }

    /// Finish what has begun, then close.
    pub fn drain(&self) {
        self.closing.set(true);
        if !self.spoken.get() {
            // What it has sent may be known to the kernel only.
            self.idle_since.set(Instant::now());
        }
        // Wakes the task, at the next tick.
        self.timer.arm(Instant::now());
    }

    /// Whether it is older than its listener wants.
    pub fn is_aged(&self, now: Instant) -> bool {
        self.listener.borrow().limits.keepalive_max_age.is_some_and(|age| now - self.opened >= age)
    }

    /// The TLS version, for the log.
    pub fn tls_version(&self) -> Option<&'static str> {
        self.tls.get().map(|tls| tls.version)
    }

    /// The TLS handshake has come to its end: its time for the first request begins.
    fn secured(&self, settled: Settled) {
        self.h2.set(settled.h2);
        self.idle_since.set(Instant::now());
        // It is done once.
        let _ = self.tls.set(settled);
    }

    /// Whether the TLS handshake is going on.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.listener.borrow().tls.is_some() && self.tls.get().is_none()
    }

    /// Whether it speaks HTTP/2.
    pub fn is_h2(&self) -> bool {
        self.h2.get()
    }

    /// How long a client may take nothing.
    pub fn write_timeout(&self) -> Duration {
        self.listener.borrow().limits.write_timeout
    }

    /// A request has begun on it.
    pub fn request_began(&self) {
        self.active.set(self.active.get() + 1);
        self.spoken.set(true);
        self.io.resting.set(false);
        if !self.is_too_slow() {
            self.stay();
        }
        self.park_at.set(None);
    }

    /// A request has ended, whatever way; `unread` is its body if that did not come in full.
    pub fn request_ended(&self, unread: Option<Rc<Upload>>) {
        if let Some(upload) = unread {
            self.unread.set(true);
            if self.is_h2() {
                self.leftovers.keep(upload, self.worker.wheel.timer());
            }
        }
        let active = self.active.get() - 1;
        self.active.set(active);
        if active == 0 {
            if self.shortened.take() {
                self.keep_up_with(&self.worker.snapshot());
            }
            let now = self.worker.time_of_turn();
            self.idle_since.set(now);
            self.park_at.set(Some(now + self.worker.park_after));
            self.arm();
        }
    }

    /// Whether nothing is left to do on it: what was asked has been read and answered in full, and
    /// the answers are on their way.
    pub(super) fn may_be_parked(&self) -> bool {
        self.io.resting.get() && !self.closing.get()
    }

    /// Lets go of what can be made anew for the next request.
    pub(super) fn park(&self) {
        self.headers.replace(None);
    }

    /// A response broke off whose end only the connection's can tell: it is to end with a reset.
    pub fn cut(&self) {
        self.cut.set(true);
    }

    /// Whether [`ConnectionState::cut`] was asked for.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Why it ends, if that is because its client took nothing: for `write_timeout`, or while memory
    /// was short.
    pub(super) fn untaken(&self) -> Option<&'static str> {
        self.untaken.get()
    }

    /// Whether a request was answered before its body had come in full.
    pub(super) fn has_unread(&self) -> bool {
        self.unread.get()
    }
}

fn asker(
    snapshot: &Snapshot,
    listener: &Listener,
    connection: &ConnectionState,
) -> ConnectionHeaders {
    let (peer, secure) = (connection.peer.ip(), connection.tls.get().is_some());
    let trusted = match peer {
        Some(ip) => snapshot.trusted_proxies.contains(ip),
        None => snapshot.trusted_proxies.contains_unix(),
    };
    let asker = Asker { peer, secure, port: listener.port, trusted };
    ConnectionHeaders::new(asker, &connection.worker.instance, snapshot.forwarded)
}
