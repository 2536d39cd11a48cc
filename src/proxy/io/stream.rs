//! The sockets of clients, as they were accepted and once they are secured.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

use super::secured::Secured;
use super::socket::{Socket, readiness};
use crate::state::mail::HandoverStream;
use crate::upstream::delegate::delegate_io;

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
    Tcp(Socket, SocketAddr),
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
                stream.release().map(|stream| HandoverStream::Tcp(stream, peer))
            }
            RawStream::Unix(stream) => stream.into_std().map(HandoverStream::Unix),
        }
    }

    /// Takes a stream from another worker.
    ///
    /// # Errors
    /// What the reactor says.
    pub fn adopt(stream: HandoverStream) -> io::Result<Self> {
        match stream {
            HandoverStream::Tcp(stream, peer) => Ok(RawStream::Tcp(Socket::new(stream), peer)),
            HandoverStream::Unix(stream) => UnixStream::from_std(stream).map(RawStream::Unix),
        }
    }
}

impl RawStream {
    /// See [`Socket::poll_readable`].
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            RawStream::Tcp(stream, _) => stream.poll_readable(cx),
            RawStream::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// See [`Socket::end_with_this`].
    pub fn end_with_this(&mut self) {
        if let RawStream::Tcp(stream, _) = self {
            stream.end_with_this();
        }
    }

    /// See [`Socket::end`].
    pub fn end(&self) {
        if let RawStream::Tcp(stream, _) = self {
            stream.end();
        }
    }

    fn is_hung_up(&self) -> bool {
        match self {
            RawStream::Tcp(stream, _) => stream.is_hung_up(),
            RawStream::Unix(stream) => readiness(stream.ready(Interest::READABLE)).is_read_closed(),
        }
    }

    fn is_broken(&self) -> bool {
        match self {
            RawStream::Tcp(stream, _) => stream.is_broken(),
            RawStream::Unix(stream) => {
                readiness(stream.ready(Interest::WRITABLE)).is_write_closed()
            }
        }
    }

    fn has_unread(&self) -> bool {
        match self {
            RawStream::Tcp(stream, _) => stream.has_unread(),
            RawStream::Unix(stream) => readiness(stream.ready(Interest::READABLE)).is_readable(),
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
            RawStream::Tcp(stream, _) => stream.poll_read(cx, buf),
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
            RawStream::Tcp(stream, _) => stream.poll_write(cx, bytes),
            RawStream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have nothing of their own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RawStream::Tcp(stream, _) => Poll::Ready(stream.shutdown()),
            RawStream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [slice] = slices {
            return self.poll_write(cx, slice);
        }
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length <= FLAT_BYTES {
            let mut flat = SmallVec::<[u8; FLAT_BYTES]>::new();
            slices.iter().for_each(|slice| flat.extend_from_slice(slice));
            return self.poll_write(cx, &flat);
        }
        match self.get_mut() {
            RawStream::Tcp(stream, _) => stream.poll_write_vectored(cx, slices),
            RawStream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Up to here the kernel takes one copied piece faster than several where they lie.
const FLAT_BYTES: usize = 4096;

/// Plain text or TLS.
#[derive(Debug)]
pub enum ClientStream {
    /// Plain text.
    Plain(RawStream),
    /// TLS.
    Tls(Box<Secured>),
}

impl ClientStream {
    /// Waits until there may be something to be read; of TLS it may be part of a record.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ClientStream::Plain(stream) => stream.poll_readable(cx),
            ClientStream::Tls(stream) => stream.session_mut().poll_readable(cx),
        }
    }

    /// Whether something is put off that an answer which comes soon saves: the reactor does not watch
    /// it yet (see [`Socket`]), or a ticket is held back (see [`Session`](super::Session)).
    pub fn puts_off(&self) -> bool {
        match self {
            ClientStream::Plain(RawStream::Tcp(socket, _)) => socket.is_unwatched(),
            ClientStream::Plain(RawStream::Unix(_)) => false,
            ClientStream::Tls(stream) => stream.session().holds_ticket(),
        }
    }

    /// Does what was put off.
    ///
    /// # Errors
    /// What the reactor says, or the socket.
    pub fn catch_up(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self {
            ClientStream::Plain(RawStream::Tcp(socket, _)) => socket.watch().map(drop),
            ClientStream::Plain(RawStream::Unix(_)) => Ok(()),
            ClientStream::Tls(stream) => match stream.session_mut().poll_send(cx) {
                Poll::Ready(sent) => sent,
                // It goes with the answer, or with the next attempt.
                Poll::Pending => Ok(()),
            },
        }
    }

    /// What is written next is the last of an answer, and the end of the connection follows at once:
    /// both go out together if they are short.
    pub fn end_with_this(&mut self) {
        match self {
            ClientStream::Plain(stream) => stream.end_with_this(),
            ClientStream::Tls(stream) => stream.end_with_this(),
        }
    }

    /// The end that was announced follows now.
    pub fn end(&self) {
        match self {
            ClientStream::Plain(stream) => stream.end(),
            ClientStream::Tls(stream) => stream.end(),
        }
    }

    /// Whether TLS has said its last word.
    pub fn has_said_goodbye(&self) -> bool {
        matches!(self, ClientStream::Tls(stream) if stream.has_said_goodbye())
    }

    /// TLS may hold no more than this of what is to be written, in bytes.
    pub fn hold_to(&mut self, most: usize) {
        if let ClientStream::Tls(stream) = self {
            stream.hold_to(most);
        }
    }

    /// What the socket has taken, in bytes, where this much was written. Under TLS what is written is
    /// only sealed: there it is what was sent since this was last asked.
    pub fn taken(&mut self, written: usize) -> usize {
        match self {
            ClientStream::Plain(_) => written,
            ClientStream::Tls(stream) => stream.session_mut().take_sent(),
        }
    }

    /// What TLS holds of what is to be written, at most, in bytes.
    pub fn sealed(&self) -> usize {
        match self {
            ClientStream::Plain(_) => 0,
            ClientStream::Tls(stream) => stream.sealed(),
        }
    }

    /// Whether the other side has closed the connection, or its sending side, whatever is still to be
    /// read.
    pub fn is_hung_up(&self) -> bool {
        match self {
            ClientStream::Plain(stream) => stream.is_hung_up(),
            ClientStream::Tls(stream) => stream.session().raw().is_hung_up(),
        }
    }

    /// See [`Socket::is_broken`](super::Socket::is_broken).
    pub fn is_broken(&self) -> bool {
        match self {
            ClientStream::Plain(stream) => stream.is_broken(),
            ClientStream::Tls(stream) => stream.session().raw().is_broken(),
        }
    }

    /// Whether something can be read, the end included, as far as the kernel has told. Half a record
    /// is nothing.
    pub fn has_unread(&self) -> bool {
        match self {
            ClientStream::Plain(stream) => stream.has_unread(),
            ClientStream::Tls(stream) => {
                let session = stream.session();
                session.has_unread() || session.raw().has_unread()
            }
        }
    }
}

delegate_io!(ClientStream { Plain, Tls });
