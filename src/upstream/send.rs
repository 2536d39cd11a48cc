//! Writing to a socket.

use std::io;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// As [`AsyncWrite::poll_write`](tokio::io::AsyncWrite::poll_write). There is room nearly always, so that
/// the kernel is asked before the reactor.
pub fn poll_send(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
    flags: SendFlags,
) -> Poll<io::Result<usize>> {
    let flags = flags | SendFlags::NOSIGNAL;
    match send(socket, bytes, flags) {
        Err(Errno::AGAIN) => loop {
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_io(Interest::WRITABLE, || Ok(send(socket, bytes, flags)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        },
        sent => Poll::Ready(Ok(sent?)),
    }
}
