//! The client's end of a connection, wrapped for everything that hyper does not look after.
//!
//! hyper reads and writes through a [`ClientIo`]. On the way the wrapper shows every byte of an
//! HTTP/1.1 connection to the [`Scanner`], which knows where heads begin and end and refuses what
//! is not to be normalised, and of an HTTP/2 connection to the [`Meter`], which keeps accounts of
//! its frames. And it keeps the few facts that timeouts hang on: since when a head has been
//! arriving, since when the client takes nothing. The facts are in an [`IoState`] shared with
//! the task that drives the connection, which acts on them; the wrapper itself only observes.

mod stream;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub use self::stream::{ClientStream, Peer, RawStream};
use super::framing::{Phase, Scanner};
use super::h2::Meter;
use crate::framing::Violation;
use crate::state::H2Abuse;

/// Bytes that may wait behind a request to switch protocols until it is answered.
const HELD_BYTES: usize = 16 * 1024;
/// The largest read while the first head is being waited for.
const FIRST_READ_BYTES: usize = 16 * 1024;

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
    /// Why an HTTP/2 connection was broken off.
    pub abuse: Cell<Option<H2Abuse>>,
    /// What was read waits to be told whose it is: a request, or what follows a switch of protocols.
    pub undecided: Cell<bool>,
    /// No request is being served: the answer to the last one has been decided in full.
    pub resumable: Cell<bool>,
}

/// The wrapper.
#[derive(Debug)]
pub struct ClientIo {
    stream: ClientStream,
    watch: Watch,
    state: Rc<IoState>,
    /// Bytes that were read before: to tell the version of HTTP; or behind a request to switch
    /// protocols, whose answer decides whose they are.
    held: Vec<u8>,
    /// The first head and what came with it, scanned already.
    first: Vec<u8>,
}

/// Who looks at the bytes of a connection.
#[derive(Debug)]
pub enum Watch {
    /// Of HTTP/1.1.
    Http1(Scanner),
    /// Of HTTP/2.
    Http2(Box<Meter>),
}

impl ClientIo {
    /// Wraps a connection of which these bytes were read already.
    pub fn new(stream: ClientStream, held: Vec<u8>, watch: Watch, state: Rc<IoState>) -> Self {
        ClientIo { stream, watch, state, held, first: Vec::new() }
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

    /// Reads until the first head of an HTTP/1.1 connection is there, and gives whether it is: if
    /// not, the client has left. What was read waits in here, so that a connection takes no
    /// buffers, and those who are slow or silent none at all, before there is a request. `scratch`
    /// is lent for the reads.
    pub fn poll_first_head(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<bool> {
        let sniffed = std::mem::take(&mut self.held);
        self.take_in_first(&sniffed);
        let scratch = &mut scratch[..FIRST_READ_BYTES];
        loop {
            match &self.watch {
                Watch::Http1(scanner) if scanner.heads_completed() == 0 => {
                    if scanner.phase() == Phase::Refused {
                        // The task that drives the connection answers.
                        return Poll::Pending;
                    }
                }
                _ => return Poll::Ready(true),
            }
            let mut buf = ReadBuf::new(scratch);
            let read = std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(false);
            }
            self.take_in_first(buf.filled());
        }
    }

    fn take_in_first(&mut self, bytes: &[u8]) {
        let Watch::Http1(scanner) = &mut self.watch else { return };
        let accepted = Self::scan(scanner, &self.state, bytes);
        self.first.extend_from_slice(&bytes[..accepted]);
        if scanner.phase() != Phase::Refused {
            self.held.extend_from_slice(&bytes[accepted..]);
        }
    }

    /// Shows new bytes to the scanner; gives how many may be passed on.
    fn scan(scanner: &mut Scanner, state: &IoState, bytes: &[u8]) -> usize {
        let heads = scanner.heads_completed();
        let scan = scanner.feed(bytes);
        let phase = scanner.phase();
        if phase != Phase::Head || heads != scanner.heads_completed() {
            state.head_since.set(None);
        }
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
        let ClientIo { stream, watch: Watch::Http1(scanner), state, held, first } = self else {
            return self.poll_metered(cx, buf);
        };
        if !first.is_empty() {
            let length = first.len().min(buf.remaining());
            buf.put_slice(&first[..length]);
            first.drain(..length);
            if first.is_empty() {
                *first = Vec::new();
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
                return Poll::Ready(Ok(()));
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

    fn poll_metered(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.held.is_empty() {
            std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let length = self.held.len().min(buf.remaining());
            buf.put_slice(&self.held[..length]);
            self.held.drain(..length);
        }
        let Watch::Http2(meter) = &mut self.watch else { return Poll::Ready(Ok(())) };
        let now = Instant::now();
        let verdict = meter.received(&buf.filled()[before..], now);
        if meter.within_fields() {
            let since = self.state.head_since.get().unwrap_or(now);
            self.state.head_since.set(Some(since));
        } else {
            self.state.head_since.set(None);
        }
        Poll::Ready(verdict.map_err(|abuse| self.break_off(cx, abuse)))
    }

    /// Notes what was written, and what it says about the client.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.note_write(&result);
        let (Watch::Http2(meter), &Poll::Ready(Ok(written))) = (&mut self.watch, &result) else {
            return result;
        };
        let now = Instant::now();
        let mut left = written;
        let verdict = slices.iter().try_for_each(|slice| {
            let part = &slice[..slice.len().min(left)];
            left -= part.len();
            meter.sent(part, now)
        });
        if let Some(calmed) = meter.calmed() {
            self.state.abuse.set(Some(calmed));
        }
        match verdict {
            Ok(()) => result,
            Err(abuse) => Poll::Ready(Err(self.break_off(cx, abuse))),
        }
    }

    /// Ends an HTTP/2 connection: hyper is told by an error, the client by a GOAWAY if the
    /// connection takes one at once.
    fn break_off(&mut self, cx: &mut Context<'_>, abuse: H2Abuse) -> io::Error {
        self.state.abuse.set(Some(abuse));
        if let Watch::Http2(meter) = &self.watch
            && let Some(farewell) = meter.farewell()
        {
            // Whether the client gets it is its own affair.
            let _ = Pin::new(&mut self.stream).poll_write(cx, &farewell);
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
        io::Error::other(abuse.label())
    }

    fn poll_refused(scanner: &Scanner) -> Poll<io::Result<()>> {
        if scanner.refused_in_body() {
            Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
        } else {
            Poll::Pending
        }
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => {
                let now = Instant::now();
                self.state.last_blocked.set(Some(now));
                if self.state.blocked_since.get().is_none() {
                    self.state.blocked_since.set(Some(now));
                }
            }
            Poll::Ready(_) => self.state.blocked_since.set(None),
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
        this.wrote(cx, result, &[io::IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.wrote(cx, result, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
