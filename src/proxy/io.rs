//! The client's end of a connection, wrapped for everything that hyper does not look after.
//!
//! hyper reads and writes an HTTP/1.1 connection through a [`ClientIo`]; HTTP/2 has a wrapper of its
//! own, in [`h2::io`](super::h2::io). On the way the wrapper shows every byte to the [`Scanner`],
//! which knows where heads begin and end and refuses what is not to be normalised. And it keeps the few facts that timeouts hang on: since when a head has been
//! arriving, since when the client takes nothing. The facts are in an [`IoState`] shared with
//! the task that drives the connection, which acts on them; the wrapper itself only observes.

mod secured;
mod stream;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use memchr::memrchr;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub use self::secured::Secured;
pub use self::stream::{ClientStream, Peer, RawStream};
use super::framing::{Phase, Scanner};
use crate::framing::Violation;
use crate::framing::line::Lines;
use crate::state::H2Abuse;

/// Bytes that may wait behind a request to switch protocols until it is answered.
const HELD_BYTES: usize = 16 * 1024;
/// The largest read while a head is being waited for.
const PARKED_READ_BYTES: usize = 16 * 1024;

/// By so much, at least, grows what has come of a head.
const GROWTH_BYTES: usize = 1024;

/// What the wrapper has seen.
#[derive(Debug, Default)]
pub struct IoState {
    /// A head has begun to arrive at this time and has not ended.
    pub head_since: Cell<Option<Instant>>,
    /// The client has taken nothing since.
    pub blocked_since: Cell<Option<Instant>>,
    /// When the client last had to be waited for.
    pub last_blocked: Cell<Option<Instant>>,
    /// What must not be passed on was found, in place of a head.
    pub violation: Cell<Option<Violation>>,
    /// Heads that were passed on.
    heads: Cell<u64>,
    /// Which of them, counted from 1, is the latest of OPTIONS for the server as a whole.
    for_server: Cell<u64>,
    /// Streams of the HTTP/2 connection have been reset.
    pub resets: Cell<bool>,
    /// HTTP/2 streams that were reset for the client's mistakes and are not counted yet.
    pub malformed: Cell<u32>,
    /// Why an HTTP/2 connection was broken off.
    pub abuse: Cell<Option<H2Abuse>>,
    /// What was read waits to be told whose it is: a request, or what follows a switch of protocols.
    pub undecided: Cell<bool>,
    /// The client has closed its sending side and waits for answers: since when, or since when it
    /// was last sent something.
    pub half_closed_since: Cell<Option<Instant>>,
    /// It has its answers, or has waited for too long: it has left.
    pub left: Cell<bool>,
    /// Heads that were passed on and whose requests have not ended.
    pub unanswered: Cell<u64>,
    /// No request is being served: the answer to the last one has been decided in full.
    pub resumable: Cell<bool>,
    /// Something was written that may still be on this side of the socket.
    pub unflushed: Cell<bool>,
    /// A request's body has not come in full.
    pub within_body: Cell<bool>,
}

impl IoState {
    /// The client has closed its sending side. To hyper that is the end of the connection; but
    /// behind a whole request it may be no more than the end of the requests, and until those are
    /// answered hyper is not told. In a body it is the end of that.
    fn poll_end(&self, phase: Phase) -> Poll<io::Result<()>> {
        if self.unanswered.get() == 0 || self.left.get() || phase == Phase::Body {
            return Poll::Ready(Ok(()));
        }
        if self.half_closed_since.get().is_none() {
            self.half_closed_since.set(Some(Instant::now()));
        }
        Poll::Pending
    }
}

/// The wrapper.
#[derive(Debug)]
pub struct ClientIo {
    stream: ClientStream,
    scanner: Scanner,
    state: Rc<IoState>,
    /// Bytes that were read before: to tell the version of HTTP; or behind a request to switch
    /// protocols, whose answer decides whose they are.
    held: Vec<u8>,
    /// What has come of the next head, and with it, while nobody read.
    next: Vec<u8>,
    /// How much of that the scanner has seen: all but a line without its end.
    scanned: usize,
    /// Heads that were complete when the connection was last parked.
    served: u64,
}

impl ClientIo {
    /// Wraps a connection of which these bytes were read already.
    pub fn new(stream: ClientStream, held: Vec<u8>, scanner: Scanner, state: Rc<IoState>) -> Self {
        ClientIo { stream, scanner, state, held, next: Vec::new(), scanned: 0, served: 0 }
    }

    /// Gives the connection up to a tunnel: the bytes that came early, and the stream.
    pub fn into_tunnel(self) -> (Vec<u8>, ClientStream) {
        (self.held, self.stream)
    }

    /// Closes the connection with a reset. One with TLS ends without its last word, which says the
    /// same.
    pub fn reset(self) {
        if let ClientStream::Plain(RawStream::Tcp(stream, _)) = self.stream {
            // If it fails, it is a close like any other.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Takes back what was read and is part of no request yet, to wait for the rest of it.
    pub fn park(&mut self, unread: &[u8]) {
        // What asked for an upgrade has been answered: it was not made.
        self.scanner.resume();
        self.served = self.scanner.heads_completed();
        self.next.splice(..0, unread.iter().copied());
        self.scanned = self.next.len();
    }

    /// Reads until the next head of a parked HTTP/1.1 connection is there, and gives whether it is:
    /// if not, the client has left. What was read waits in here, so that a connection takes no
    /// buffers, and those who are slow or silent none at all, before there is a request. `scratch`
    /// is lent for the reads.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<bool> {
        let held = std::mem::take(&mut self.held);
        self.take_in(&held);
        let scratch = &mut scratch[..PARKED_READ_BYTES];
        loop {
            if self.scanner.heads_completed() != self.served {
                return Poll::Ready(true);
            }
            if self.scanner.phase() == Phase::Refused {
                // The task that drives the connection answers.
                return Poll::Pending;
            }
            let mut buf = ReadBuf::new(scratch);
            let read = std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(false);
            }
            self.take_in(buf.filled());
        }
    }

    /// Takes in what was read while a head is being waited for. A line without its end waits in here,
    /// and the scanner does not see it yet, since it would keep it too.
    fn take_in(&mut self, bytes: &[u8]) {
        let ClientIo { scanner, state, held, next, scanned, served, .. } = self;
        let room = next.capacity() - next.len();
        if room < bytes.len() {
            // What drips in takes no more than it is.
            next.reserve_exact(bytes.len().next_multiple_of(GROWTH_BYTES));
        }
        next.extend_from_slice(bytes);
        let fresh = &next[*scanned..];
        let lines = memrchr(b'\n', fresh).map_or(0, |last| last + 1);
        let too_long = scanner.over_limit(fresh.len()).is_some();
        let (lines, rest) = fresh.split_at(if too_long { fresh.len() } else { lines });
        // Without a line the scanner would see no head, and the clock of one would stop.
        let mut accepted = if lines.is_empty() { 0 } else { Self::scan(scanner, state, lines) };
        let refused = scanner.phase() == Phase::Refused;
        let complete = scanner.heads_completed() != *served;
        if complete && !refused && accepted == lines.len() {
            accepted += Self::scan(scanner, state, rest);
        }
        *scanned += accepted;
        if complete || refused {
            let behind = next.split_off(*scanned);
            if scanner.phase() != Phase::Refused {
                held.extend_from_slice(&behind);
            }
        } else if !rest.is_empty() && state.head_since.get().is_none() {
            state.head_since.set(Some(Instant::now()));
        }
    }

    /// Shows new bytes to the scanner; gives how many may be passed on.
    fn scan(scanner: &mut Scanner, state: &IoState, bytes: &[u8]) -> usize {
        let heads = scanner.heads_completed();
        let scan = scanner.feed(bytes);
        let phase = scanner.phase();
        let completed = scanner.heads_completed().wrapping_sub(heads);
        if completed > 0 {
            state.unanswered.set(state.unanswered.get() + completed);
            state.heads.set(scanner.heads_completed());
            state.for_server.set(scanner.for_server());
        }
        if phase != Phase::Head || completed > 0 {
            state.head_since.set(None);
        }
        state.within_body.set(phase == Phase::Body);
        if phase == Phase::Head && state.head_since.get().is_none() {
            state.head_since.set(Some(Instant::now()));
        }
        if let Some(violation) = scan.violation {
            // In a body the next read fails, so that whoever reads the body knows. Instead of a
            // head, the task that drives the connection answers and closes it.
            if !scanner.refused_in_body() {
                state.violation.set(Some(violation));
            }
        }
        scan.accepted
    }

    fn poll_scanned(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ClientIo { stream, scanner, state, held, next, .. } = self;
        if !next.is_empty() {
            let length = next.len().min(buf.remaining());
            buf.put_slice(&next[..length]);
            next.drain(..length);
            if next.is_empty() {
                *next = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        if scanner.phase() == Phase::Refused {
            return Self::poll_refused(scanner);
        }
        if scanner.phase() == Phase::Upgrade && state.resumable.get() {
            // The upgrade was not made: what was held is the next request.
            scanner.resume();
        }
        loop {
            if !held.is_empty() && scanner.phase() != Phase::Upgrade {
                let length = held.len().min(buf.remaining());
                let accepted = Self::scan(scanner, state, &held[..length]);
                buf.put_slice(&held[..accepted]);
                held.drain(..accepted);
                if accepted > 0 {
                    return Poll::Ready(Ok(()));
                }
                if scanner.phase() == Phase::Refused {
                    return Self::poll_refused(scanner);
                }
                continue;
            }
            state.undecided.set(!held.is_empty());
            if held.len() >= HELD_BYTES {
                return Poll::Pending;
            }
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return state.poll_end(scanner.phase());
            }
            let accepted = Self::scan(scanner, state, &buf.filled()[before..]);
            let refused = scanner.phase() == Phase::Refused;
            if !refused {
                held.extend_from_slice(&buf.filled()[before + accepted..]);
            }
            buf.set_filled(before + accepted);
            if accepted > 0 {
                return Poll::Ready(Ok(()));
            }
            if refused {
                return Self::poll_refused(scanner);
            }
        }
    }

    fn poll_refused(scanner: &Scanner) -> Poll<io::Result<()>> {
        if scanner.refused_in_body() {
            Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
        } else {
            Poll::Pending
        }
    }
}

impl IoState {
    /// Whether the request that is being served is OPTIONS for the server as a whole (RFC 9112
    /// section 3.2.4). Of several that came together only the last is known as such.
    pub(super) fn is_for_server(&self) -> bool {
        let answered = self.heads.get().wrapping_sub(self.unanswered.get());
        self.for_server.get() != 0 && self.for_server.get() == answered.wrapping_add(1)
    }

    /// Notes what the client takes.
    pub(super) fn note_write(&self, result: &Poll<io::Result<usize>>) {
        self.unflushed.set(true);
        match result {
            Poll::Pending => {
                let now = Instant::now();
                self.last_blocked.set(Some(now));
                if self.blocked_since.get().is_none() {
                    self.blocked_since.set(Some(now));
                }
            }
            Poll::Ready(_) => {
                self.blocked_since.set(None);
                if self.half_closed_since.get().is_some() {
                    self.half_closed_since.set(Some(Instant::now()));
                }
            }
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll_scanned(cx, buf)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.state.note_write(&result);
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if flushed.is_ready() {
            this.state.unflushed.set(false);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            // The close that follows says the same to the client.
            ClientStream::Plain(_) => Poll::Ready(Ok(())),
            tls @ ClientStream::Tls(_) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.state.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
