//! The client's end of a connection, wrapped for everything that hyper does not look after.
//!
//! hyper reads and writes through a [`ClientIo`]. On the way the wrapper shows every byte of an
//! HTTP/1.1 connection to the [`Scanner`], which knows where heads begin and end and refuses what
//! is not to be normalised, and of an HTTP/2 connection to the [`Meter`], which keeps accounts of
//! its frames. And it keeps the few facts that timeouts hang on: since when a head has been
//! arriving, since when the client takes nothing. The facts are in an [`IoState`] shared with
//! the task that drives the connection, which acts on them; the wrapper itself only observes.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::framing::{Phase, Scanner};
use super::h2::Meter;
use crate::framing::Violation;
use crate::state::H2Abuse;
use crate::state::mail::HandoverStream;

/// Bytes that may wait behind a request to switch protocols until it is answered.
const HELD_BYTES: usize = 16 * 1024;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// Somebody on this machine, over a Unix socket.
    Unix,
}

impl Peer {
    /// The address, if there is one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip().to_canonical()),
            Peer::Unix => None,
        }
    }
}

/// A connection as it was accepted.
#[derive(Debug)]
pub enum RawStream {
    /// TCP.
    Tcp(TcpStream, SocketAddr),
    /// A Unix socket.
    Unix(UnixStream),
}

impl RawStream {
    /// Who connected.
    pub fn peer(&self) -> Peer {
        match self {
            RawStream::Tcp(_, address) => Peer::Tcp(*address),
            RawStream::Unix(_) => Peer::Unix,
        }
    }

    /// Takes the stream off this worker's reactor.
    ///
    /// # Errors
    /// What the reactor says.
    pub fn release(self) -> io::Result<HandoverStream> {
        match self {
            RawStream::Tcp(stream, peer) => {
                stream.into_std().map(|stream| HandoverStream::Tcp(stream, peer))
            }
            RawStream::Unix(stream) => stream.into_std().map(HandoverStream::Unix),
        }
    }

    /// Puts a stream from another worker on this one's reactor.
    ///
    /// # Errors
    /// What the reactor says.
    pub fn adopt(stream: HandoverStream) -> io::Result<Self> {
        match stream {
            HandoverStream::Tcp(stream, peer) => {
                TcpStream::from_std(stream).map(|stream| RawStream::Tcp(stream, peer))
            }
            HandoverStream::Unix(stream) => UnixStream::from_std(stream).map(RawStream::Unix),
        }
    }
}

impl AsyncRead for RawStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RawStream::Tcp(stream, _) => Pin::new(stream).poll_read(cx, buf),
            RawStream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for RawStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            RawStream::Tcp(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            RawStream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have nothing of their own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RawStream::Tcp(stream, _) => Pin::new(stream).poll_shutdown(cx),
            RawStream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            RawStream::Tcp(stream, _) => Pin::new(stream).poll_write_vectored(cx, slices),
            RawStream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Plain text or TLS.
#[derive(Debug)]
pub enum ClientStream {
    /// Plain text.
    Plain(RawStream),
    /// TLS.
    Tls(Box<TlsStream<RawStream>>),
}

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
        ClientIo { stream, watch, state, held }
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
        let ClientIo { stream, watch: Watch::Http1(scanner), state, held } = self else {
            return self.poll_metered(cx, buf);
        };
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

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            ClientStream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            ClientStream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            ClientStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            ClientStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            ClientStream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            ClientStream::Plain(stream) => stream.is_write_vectored(),
            ClientStream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
