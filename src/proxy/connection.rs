//! One client connection: handshake, HTTP by its version, the timeouts around it, its end.
//!
//! hyper serves the requests; this task polls it, and between polls looks at what the IO wrapper
//! saw and at the clock. Everything that ends a connection from our side is decided here: a slow or
//! forbidden head, idleness, a client that takes nothing, age, drain.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::farewell::{linger, refuse};
use super::framing::{Limits, Scanner, Violation};
use super::headers::forwarded::{Connection as Asker, ConnectionHeaders};
use super::io::{ClientIo, ClientStream, IoState, Peer, RawStream};
use super::permit::Permit;
use super::timer::Timer;
use super::tls::{self, Settled};
use super::tunnel;
use super::worker::Worker;
use super::{error, service};
use crate::state::{Listener, Snapshot, SocketId};
use crate::upstream::http2::LocalExecutor;

/// HTTP/2 windows towards clients: enough for an upload over a fast network; per connection they
/// bound what we must hold for it.
const H2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What one HTTP/2 stream may have waiting to be written.
const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// A client that leaves a ping without answer for this long is gone.
const H2_PING: Duration = Duration::from_secs(30);
/// hyper's buffers, for a head that is being read or bodies that are being written.
const H1_BUFFER_BYTES: usize = 64 * 1024;
/// A new connection that is to close waits so long for its first request: it was just opened, so
/// one is probably on its way.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// What the requests of a connection, and the worker, share about it.
#[derive(Debug)]
pub struct ConnectionState {
    /// The worker that it lives on.
    pub worker: Rc<Worker>,
    /// Who is at the other end.
    pub peer: Peer,
    /// The socket that it was accepted on.
    pub socket: SocketId,
    /// What the TLS handshake settled; absent in plain text.
    pub tls: Option<Settled>,
    /// A protocol switch that was agreed on: what the connection becomes when hyper lets go of it.
    pub tunnel: RefCell<Option<tunnel::Start>>,
    listener: RefCell<Arc<Listener>>,
    headers: RefCell<(u64, Rc<ConnectionHeaders>)>,
    io: Rc<IoState>,
    timer: Timer,
    opened: Instant,
    idle_since: Cell<Instant>,
    active: Cell<u32>,
    spoken: Cell<bool>,
    /// A request was answered before its body had come in full.
    unread: Cell<bool>,
    closing: Cell<bool>,
}

enum Over {
    /// hyper is done with it.
    Done(Result<(), hyper::Error>),
    /// Something came that is not to be passed on.
    Refused(Violation),
    /// A head took too long.
    SlowHead,
    /// Nothing is to be said any more.
    Drop,
}

/// Serves a connection from its first byte to its last.
pub async fn serve(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    socket: SocketId,
    stream: RawStream,
    permit: Permit,
) {
    let peer = stream.peer();
    let (stream, settled) = match &listener.tls {
        None => (ClientStream::Plain(stream), None),
        Some(tls) => match tls::handshake(&worker, &listener, tls, stream).await {
            Some((stream, settled)) => (ClientStream::Tls(stream), Some(settled)),
            None => return,
        },
    };
    let state = ConnectionState::new(&worker, listener, socket, peer, settled);
    let _registered = worker.register(&state);
    if worker.is_draining() || worker.snapshot().listener_at(socket).is_none() {
        // Accepted while its socket was being emptied: one request, then close.
        state.drain();
    }
    // Boxed apart, so that a connection holds the state of its own HTTP version only.
    if state.tls.as_ref().is_some_and(|tls| tls.h2) {
        Box::pin(serve_h2(&state, stream)).await;
    } else {
        Box::pin(serve_h1(&state, stream)).await;
    }
    drop(permit);
}

async fn serve_h1(state: &Rc<ConnectionState>, stream: ClientStream) {
    let limits = state.listener.borrow().limits.clone();
    let scanner = Scanner::new(Limits {
        max_header_bytes: limits.max_header_bytes,
        max_headers: limits.max_headers,
    });
    let io = ClientIo::new(stream, Some(scanner), Rc::clone(&state.io));
    let serving = Rc::clone(state);
    let service = service_fn(move |request| service::handle(Rc::clone(&serving), request));
    let mut connection = http1::Builder::new()
        .keep_alive(!limits.keepalive_timeout.is_zero())
        .max_headers(usize::from(limits.max_headers))
        .max_buf_size(H1_BUFFER_BYTES.max(limits.max_header_bytes as usize + 8 * 1024))
        .serve_connection(TokioIo::new(io), service);
    let over = drive(state, |cx, wish| {
        if wish == Wish::Close {
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx)
    })
    .await;
    match over {
        Over::Done(result) => {
            let start = state.tunnel.borrow_mut().take();
            if let Some(start) = start {
                let parts = connection.into_parts();
                drop(parts.service);
                let (held, stream) = parts.io.into_inner().into_tunnel();
                let early = [&parts.read_buf[..], &held[..]].concat();
                if result.is_ok() {
                    tunnel::run(start, tunnel::ClientEnd::Http1(stream), early).await;
                }
                return;
            }
            if state.unread.get() {
                linger(connection.into_parts().io.into_inner()).await;
            }
            if let Err(error) = result {
                state.note_error(&error);
            }
        }
        Over::Refused(violation) => {
            state.note_refusal(violation.status(), violation.label());
            refuse(connection.into_parts().io.into_inner(), violation.status()).await;
        }
        Over::SlowHead => {
            state.note_refusal(error::SLOW_HEAD, "slow_head");
            refuse(connection.into_parts().io.into_inner(), error::SLOW_HEAD).await;
        }
        Over::Drop => {}
    }
}

async fn serve_h2(state: &Rc<ConnectionState>, stream: ClientStream) {
    let limits = state.listener.borrow().limits.clone();
    let io = ClientIo::new(stream, None, Rc::clone(&state.io));
    let serving = Rc::clone(state);
    let service = service_fn(move |request| service::handle(Rc::clone(&serving), request));
    let mut connection = pin!(
        http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams)
            .max_header_list_size(limits.max_header_bytes)
            .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(H2_SEND_BUFFER_BYTES)
            .keep_alive_interval(H2_PING)
            .keep_alive_timeout(H2_PING)
            .enable_connect_protocol()
            .serve_connection(TokioIo::new(io), service)
    );
    let over = drive(state, |cx, wish| {
        if wish == Wish::Close {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
    if let Over::Done(Err(error)) = over {
        state.note_error(&error);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    GoOn,
    /// Finish what has begun, then close. Said once.
    Close,
}

/// Polls hyper, and in between whatever may end the connection from our side.
async fn drive(
    state: &ConnectionState,
    mut poll: impl FnMut(&mut Context<'_>, Wish) -> Poll<Result<(), hyper::Error>>,
) -> Over {
    let mut told = false;
    state.arm();
    poll_fn(|cx| {
        loop {
            // What has already arrived is read before a close is asked for, so that a request
            // which crossed our wish on its way is served.
            if let Poll::Ready(result) = poll(cx, Wish::GoOn) {
                return Poll::Ready(Over::Done(result));
            }
            if state.active.get() == 0
                && state.io.blocked_since.get().is_none()
                && let Some(violation) = state.io.violation.get()
            {
                return Poll::Ready(Over::Refused(violation));
            }
            if state.closing.get() && !told && state.may_be_told_to_close() {
                told = true;
                if let Poll::Ready(result) = poll(cx, Wish::Close) {
                    return Poll::Ready(Over::Done(result));
                }
            }
            state.arm_for_io();
            if state.timer.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
            match state.overdue(Instant::now()) {
                Some(Overdue::Head) => return Poll::Ready(Over::SlowHead),
                Some(Overdue::Write) => return Poll::Ready(Over::Drop),
                Some(Overdue::Silence) => return Poll::Ready(Over::Drop),
                Some(Overdue::Idle) if told => return Poll::Ready(Over::Drop),
                Some(Overdue::Idle) => {
                    state.closing.set(true);
                    // Should the close itself hang, the next expiry ends it.
                    state.idle_since.set(Instant::now());
                    state.arm();
                }
                None => state.arm(),
            }
        }
    })
    .await
}

enum Overdue {
    Head,
    Write,
    /// A new connection that has not sent a byte.
    Silence,
    Idle,
}

impl ConnectionState {
    fn new(
        worker: &Rc<Worker>,
        listener: Arc<Listener>,
        socket: SocketId,
        peer: Peer,
        tls: Option<Settled>,
    ) -> Rc<Self> {
        let now = Instant::now();
        let snapshot = worker.snapshot();
        let headers = Rc::new(asker(&snapshot, &listener, peer, tls.is_some()));
        Rc::new(ConnectionState {
            peer,
            socket,
            tls,
            tunnel: RefCell::new(None),
            listener: RefCell::new(listener),
            headers: RefCell::new((snapshot.generation, headers)),
            io: Rc::default(),
            timer: worker.wheel.timer(),
            opened: now,
            idle_since: Cell::new(now),
            active: Cell::new(0),
            spoken: Cell::new(false),
            unread: Cell::new(false),
            closing: Cell::new(false),
            worker: Rc::clone(worker),
        })
    }

    /// The listener as this snapshot has it, or as it last was if it has left the configuration.
    pub fn listener(&self, snapshot: &Snapshot) -> Arc<Listener> {
        let mut known = self.listener.borrow_mut();
        if let Some(current) = snapshot.listener_at(self.socket)
            && !Arc::ptr_eq(current, &known)
        {
            *known = Arc::clone(current);
        }
        Arc::clone(&known)
    }

    /// What backends are told about this connection, prepared once per configuration.
    pub fn headers(&self, snapshot: &Snapshot, listener: &Listener) -> Rc<ConnectionHeaders> {
        let mut held = self.headers.borrow_mut();
        if held.0 != snapshot.generation {
            let headers = asker(snapshot, listener, self.peer, self.tls.is_some());
            *held = (snapshot.generation, Rc::new(headers));
        }
        Rc::clone(&held.1)
    }

    /// Finish what has begun, then close.
    pub fn drain(&self) {
        self.closing.set(true);
        // Wakes the task, at the next tick.
        self.timer.arm(Instant::now());
    }

    /// Whether hyper may be told to close now. Under HTTP/1.1 it closes a connection of which it has
    /// seen no whole request, whatever is on its way; so a new one keeps its first request, and
    /// one whose next head has begun to come keeps that. Under HTTP/2 a GOAWAY loses nothing.
    fn may_be_told_to_close(&self) -> bool {
        let h2 = self.tls.as_ref().is_some_and(|tls| tls.h2);
        h2 || (self.spoken.get() && self.io.head_since.get().is_none())
    }

    /// How long to wait for the first byte.
    fn patience_for_first(&self) -> Duration {
        let limit = self.listener.borrow().limits.header_timeout;
        if self.closing.get() { limit.min(LAST_CHANCE) } else { limit }
    }

    /// Whether the next answer is to be the last.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether it is older than its listener wants.
    pub fn is_aged(&self, listener: &Listener, now: Instant) -> bool {
        listener.limits.keepalive_max_age.is_some_and(|age| now - self.opened >= age)
    }

    /// The TLS version, for the log.
    pub fn tls_version(&self) -> Option<&'static str> {
        self.tls.as_ref().map(|tls| tls.version)
    }

    /// A request has begun on it.
    pub fn request_began(&self) {
        self.active.set(self.active.get() + 1);
        self.spoken.set(true);
        self.io.resumable.set(false);
    }

    /// A request has ended, whatever way; `unread` if its body did not come in full.
    pub fn request_ended(&self, unread: bool) {
        if unread {
            self.unread.set(true);
        }
        let active = self.active.get() - 1;
        self.active.set(active);
        if active == 0 {
            self.io.resumable.set(true);
            self.idle_since.set(Instant::now());
            self.arm();
        }
    }

    /// Sets the timer for what can become overdue next.
    fn arm(&self) {
        if let Some(deadline) = self.next_deadline() {
            self.timer.arm(deadline);
        }
    }

    /// The wrapper has no timer: what it saw during a poll is taken up here. Both facts are rare.
    fn arm_for_io(&self) {
        if self.io.head_since.get().is_some() || self.io.blocked_since.get().is_some() {
            self.arm();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let limits = &self.listener.borrow().limits;
        let head = self.io.head_since.get().map(|since| since + limits.header_timeout);
        let write = self.io.blocked_since.get().map(|since| since + limits.write_timeout);
        let idle = (self.active.get() == 0 && head.is_none()).then(|| {
            let patience = if self.spoken.get() {
                limits.keepalive_timeout
            } else {
                self.patience_for_first()
            };
            self.idle_since.get() + patience
        });
        [head, write, idle].into_iter().flatten().min()
    }

    fn overdue(&self, now: Instant) -> Option<Overdue> {
        let limits = &self.listener.borrow().limits;
        let over = |since: Option<Instant>, limit| since.is_some_and(|since| now - since >= limit);
        if over(self.io.head_since.get(), limits.header_timeout) {
            return Some(Overdue::Head);
        }
        if over(self.io.blocked_since.get(), limits.write_timeout) {
            return Some(Overdue::Write);
        }
        if self.active.get() > 0 || self.io.head_since.get().is_some() {
            return None;
        }
        let idle = now - self.idle_since.get();
        if !self.spoken.get() {
            return (idle >= self.patience_for_first()).then_some(Overdue::Silence);
        }
        (idle >= limits.keepalive_timeout).then_some(Overdue::Idle)
    }

    fn note_error(&self, error: &hyper::Error) {
        if error.is_parse() {
            self.note_refusal(error::unreadable(error), "malformed");
        } else {
            tracing::debug!(peer = ?self.peer, %error, "a client connection ended");
        }
    }

    fn note_refusal(&self, status: StatusCode, reason: &'static str) {
        let listener = self.listener.borrow();
        let cells = listener.state.cells.cell(self.worker.id);
        cells.malformed.add(1);
        cells.codes.count(status);
        tracing::debug!(listener = %listener.name, peer = ?self.peer, %status, reason,
            "refused what a client sent");
    }
}

fn asker(snapshot: &Snapshot, listener: &Listener, peer: Peer, secure: bool) -> ConnectionHeaders {
    let trusted = match peer.ip() {
        Some(ip) => snapshot.trusted_proxies.contains(ip),
        None => snapshot.trusted_proxies.contains_unix(),
    };
    let asker = Asker { peer: peer.ip(), secure, port: listener.port, trusted };
    ConnectionHeaders::new(asker, snapshot.forwarded)
}
