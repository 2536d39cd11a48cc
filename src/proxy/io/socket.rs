//! A client's TCP connection, which is entered into the reactor only when it has to wait.
//!
//! That takes two calls of the kernel and a wake-up. A client that asks at once and is answered soon,
//! whose connection ends with that, needs none of it: its request is there when it is accepted.

use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::net::TcpStream as Bare;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::ioctl_fionread;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;

/// The socket of a TCP connection, non-blocking.
#[derive(Debug)]
pub struct Socket(State);

#[derive(Debug)]
enum State {
    /// The reactor does not know of it. It is read once; more is told by the reactor.
    Unwatched { socket: Bare, is_read: bool },
    /// The reactor tells when there is something to do.
    Watched(TcpStream),
    /// The reactor did not take it.
    Lost,
}

use State::{Lost, Unwatched, Watched};

impl Socket {
    /// One that was just accepted and does not block.
    pub fn new(socket: Bare) -> Self {
        Socket(Unwatched { socket, is_read: false })
    }

    /// Whether the reactor has not been asked to watch it.
    pub fn is_unwatched(&self) -> bool {
        matches!(self.0, Unwatched { .. })
    }

    /// Has the reactor watch it, if it does not yet.
    ///
    /// # Errors
    /// What the reactor says, to which the connection is lost.
    pub fn watch(&mut self) -> io::Result<&mut TcpStream> {
        if self.is_unwatched()
            && let Unwatched { socket, .. } = mem::replace(&mut self.0, Lost)
        {
            self.0 = Watched(TcpStream::from_std(socket)?);
        }
        match &mut self.0 {
            Watched(stream) => Ok(stream),
            Unwatched { .. } | Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Takes it off the reactor.
    ///
    /// # Errors
    /// What the reactor says.
    pub fn release(self) -> io::Result<Bare> {
        match self.0 {
            Unwatched { socket, .. } => Ok(socket),
            Watched(stream) => stream.into_std(),
            Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Waits until there may be something to be read.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch()?.poll_read_ready(cx)
    }

    /// Whether the other side has closed the connection, or its sending side, as far as the reactor
    /// has told.
    pub fn is_hung_up(&self) -> bool {
        match &self.0 {
            Watched(stream) => readiness(stream.ready(Interest::READABLE)).is_read_closed(),
            Unwatched { .. } => false,
            Lost => true,
        }
    }

    /// Whether something can be read: as far as the reactor has told, and then the end included, or as
    /// the kernel says.
    pub fn has_unread(&self) -> bool {
        match &self.0 {
            Watched(stream) => readiness(stream.ready(Interest::READABLE)).is_readable(),
            Unwatched { socket, .. } => ioctl_fionread(socket).map_or(true, |bytes| bytes > 0),
            Lost => true,
        }
    }

    /// Has it end with a reset when it is dropped.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn reset_on_drop(&self) -> io::Result<()> {
        let at_once = Some(Duration::ZERO);
        match &self.0 {
            Unwatched { socket, .. } => SockRef::from(socket).set_linger(at_once),
            Watched(stream) => SockRef::from(stream).set_linger(at_once),
            Lost => Ok(()),
        }
    }

    /// As [`AsyncRead::poll_read`].
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Unwatched { socket, is_read } = &mut self.0
            && !mem::replace(is_read, true)
        {
            let read = socket.read(buf.initialize_unfilled());
            if !would_block(&read) {
                return Poll::Ready(read.map(|read| buf.advance(read)));
            }
        }
        Pin::new(self.watch()?).poll_read(cx, buf)
    }

    /// As [`AsyncWrite::poll_write`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Unwatched { socket, .. } = &mut self.0 {
            let written = socket.write(bytes);
            if !would_block(&written) {
                return Poll::Ready(written);
            }
        }
        Pin::new(self.watch()?).poll_write(cx, bytes)
    }

    /// As [`AsyncWrite::poll_write_vectored`].
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Unwatched { socket, .. } = &mut self.0 {
            let written = socket.write_vectored(slices);
            if !would_block(&written) {
                return Poll::Ready(written);
            }
        }
        Pin::new(self.watch()?).poll_write_vectored(cx, slices)
    }

    /// As [`AsyncWrite::poll_shutdown`].
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.watch()?).poll_shutdown(cx)
    }
}

/// What the reactor has told. What it cannot tell, an attempt will.
pub(super) fn readiness(ready: impl Future<Output = io::Result<Ready>>) -> Ready {
    match pin!(ready).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => ready.unwrap_or(Ready::ALL),
        Poll::Pending => Ready::EMPTY,
    }
}

fn would_block<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
