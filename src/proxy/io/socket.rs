//! A client's TCP connection, which is entered into the reactor only when it has to wait.
//!
//! That takes two calls of the kernel and a wake-up. A client that asks at once and is answered soon,
//! whose connection ends with that, needs none of it: its request is there when it is accepted.

use std::io::{self, IoSlice, Read, Write};
use std::mem;
use std::net::{Shutdown, TcpStream as Bare};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{SendFlags, send};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;

use crate::upstream::poll_send;

/// The socket of a TCP connection, non-blocking.
#[derive(Debug)]
pub struct Socket {
    state: State,
    /// The end follows at once upon what is written.
    ending: bool,
}

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
        Socket { state: Unwatched { socket, is_read: false }, ending: false }
    }

    /// Whether the reactor has not been asked to watch it.
    pub fn is_unwatched(&self) -> bool {
        matches!(self.state, Unwatched { .. })
    }

    /// Has the reactor watch it, if it does not yet.
    ///
    /// # Errors
    /// What the reactor says, to which the connection is lost.
    pub fn watch(&mut self) -> io::Result<&mut TcpStream> {
        if self.is_unwatched()
            && let Unwatched { socket, .. } = mem::replace(&mut self.state, Lost)
        {
            self.state = Watched(TcpStream::from_std(socket)?);
        }
        match &mut self.state {
            Watched(stream) => Ok(stream),
            Unwatched { .. } | Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Takes it off the reactor.
    ///
    /// # Errors
    /// What the reactor says.
    pub fn release(self) -> io::Result<Bare> {
        match self.state {
            Unwatched { socket, .. } => Ok(socket),
            Watched(stream) => stream.into_std(),
            Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// What is written from now on is to go out with the end of the connection, in one packet if it
    /// fits: [`end`](Self::end) must follow at once, or the kernel holds it back for a while.
    pub fn end_with_this(&mut self) {
        self.ending = true;
    }

    /// Ends what is written, if the end was announced. Left to the close it would be lost where
    /// something has come meanwhile that nobody reads: then the kernel resets the connection, and what
    /// it has held back is gone.
    pub fn end(&self) {
        if self.ending {
            // If it fails there is no connection any more.
            let _ = self.shutdown();
        }
    }

    /// Says that nothing more comes. It never waits.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn shutdown(&self) -> io::Result<()> {
        match &self.state {
            Unwatched { socket, .. } => socket.shutdown(Shutdown::Write),
            Watched(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
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
        match &self.state {
            Watched(stream) => readiness(stream.ready(Interest::READABLE)).is_read_closed(),
            Unwatched { .. } => false,
            Lost => true,
        }
    }

    /// Whether the connection is broken both ways, as far as the reactor has told: by a reset, and not
    /// by a client that has closed its sending side.
    pub fn is_broken(&self) -> bool {
        match &self.state {
            Watched(stream) => readiness(stream.ready(Interest::WRITABLE)).is_write_closed(),
            Unwatched { .. } => false,
            Lost => true,
        }
    }

    /// Whether something can be read: as far as the reactor has told, and then the end included, or as
    /// the kernel says.
    pub fn has_unread(&self) -> bool {
        match &self.state {
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
        match &self.state {
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
        match &mut self.state {
            Watched(stream) => return Pin::new(stream).poll_read(cx, buf),
            Unwatched { socket, is_read } if !*is_read => {
                *is_read = true;
                let read = socket.read(buf.initialize_unfilled());
                if !would_block(&read) {
                    return Poll::Ready(read.map(|read| buf.advance(read)));
                }
            }
            Unwatched { .. } | Lost => {}
        }
        Pin::new(self.watch()?).poll_read(cx, buf)
    }

    /// As [`AsyncWrite::poll_write`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // More follows the last of the bytes: the end, which then goes out with them.
        let flags = if self.ending { SendFlags::MORE } else { SendFlags::empty() };
        if let Unwatched { socket, .. } = &self.state {
            match send(socket, bytes, flags | SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => {}
                sent => return Poll::Ready(Ok(sent?)),
            }
        }
        poll_send(self.watch()?, cx, bytes, flags)
    }

    /// As [`AsyncWrite::poll_write_vectored`].
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Unwatched { socket, .. } = &mut self.state {
            let written = socket.write_vectored(slices);
            if !would_block(&written) {
                return Poll::Ready(written);
            }
        }
        Pin::new(self.watch()?).poll_write_vectored(cx, slices)
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::TcpListener;

    use super::*;

    /// A client, and its connection as it was accepted with this to be read.
    fn accepted(sent: &[u8]) -> (Bare, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Bare::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        client.write_all(sent).unwrap();
        if !sent.is_empty() {
            socket.peek(&mut [0]).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        (client, Socket::new(socket))
    }

    async fn read(socket: &mut Socket) -> Vec<u8> {
        let mut room = [0; 16];
        let mut buf = ReadBuf::new(&mut room);
        poll_fn(|cx| socket.poll_read(cx, &mut buf)).await.unwrap();
        buf.filled().to_vec()
    }

    #[tokio::test]
    async fn who_need_not_wait_is_not_watched() {
        let (mut client, mut socket) = accepted(b"asked");
        assert_eq!(read(&mut socket).await, b"asked");
        poll_fn(|cx| socket.poll_write(cx, b"answered")).await.unwrap();
        assert!(socket.is_unwatched() && !socket.has_unread());
        drop(socket);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answered");
    }

    #[tokio::test]
    async fn who_must_wait_is_watched() {
        for sent in [&b"asked"[..], b""] {
            let (mut client, mut socket) = accepted(sent);
            if !sent.is_empty() {
                read(&mut socket).await;
            }
            let next = std::thread::spawn(move || client.write_all(b"once more"));
            assert_eq!(read(&mut socket).await, b"once more");
            assert!(!socket.is_unwatched());
            next.join().unwrap().unwrap();
            assert_eq!(read(&mut socket).await, b"", "the end");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_waited_for() {
        let (mut client, mut socket) = accepted(b"");
        let mut written = 0;
        while socket.is_unwatched() {
            let writing = poll_fn(|cx| match socket.poll_write(cx, &[b'x'; 65536]) {
                Poll::Ready(written) => Poll::Ready(written.unwrap()),
                Poll::Pending => Poll::Ready(0),
            });
            written += writing.await;
        }
        let taking = std::thread::spawn(move || client.read_exact(&mut vec![0; written + 1]));
        poll_fn(|cx| socket.poll_write(cx, b"x")).await.unwrap();
        taking.join().unwrap().unwrap();
    }

    /// A client that was told this as the last, watched by the reactor or not.
    async fn told_at_last(watched: bool, words: [&[u8]; 2]) -> (Bare, Socket) {
        let (client, mut socket) = accepted(b"");
        if watched {
            socket.watch().unwrap();
        }
        socket.end_with_this();
        for words in words {
            poll_fn(|cx| socket.poll_write(cx, words)).await.unwrap();
        }
        (client, socket)
    }

    #[tokio::test]
    async fn what_is_last_goes_out_with_the_end() {
        for watched in [false, true] {
            let (mut client, socket) = told_at_last(watched, [b"good", b"bye"]).await;
            socket.end();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "goodbye");
        }
    }

    #[tokio::test]
    async fn what_is_last_is_not_lost_where_something_came_that_nobody_reads() {
        for watched in [false, true] {
            let (mut client, socket) = told_at_last(watched, [b"good", b"bye"]).await;
            client.write_all(b"\r\n").unwrap();
            socket.end();
            drop(socket);
            let mut answer = [0; 7];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"goodbye");
        }
    }

    #[tokio::test]
    async fn only_a_reset_breaks_it_whatever_is_unread() {
        let (client, mut socket) = accepted(b"asked");
        socket.watch().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        while !socket.is_hung_up() {
            tokio::task::yield_now().await;
        }
        assert!(!socket.is_broken());
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        while !socket.is_broken() {
            tokio::task::yield_now().await;
        }
        assert_eq!(read(&mut socket).await, b"asked");
    }

    #[tokio::test]
    async fn what_came_behind_is_seen() {
        let (mut client, mut socket) = accepted(b"asked");
        assert_eq!(read(&mut socket).await, b"asked");
        client.write_all(b"more").unwrap();
        while !socket.has_unread() {
            tokio::task::yield_now().await;
        }
        assert!(socket.is_unwatched());
    }
}
