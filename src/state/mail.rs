//! What the planes tell each other: mail to one worker, notices to the control plane.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Instant;

use super::{Backend, BackendId, ClientFile, Listener};
use crate::health::outliers::Alarm;

/// Names a bound address; a listener that keeps its address keeps its sockets across reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// A socket to accept on, bound and listening, non-blocking.
#[derive(Debug)]
pub enum ListeningSocket {
    /// One of several sockets on the same address (`SO_REUSEPORT`), one per worker.
    Tcp(TcpListener),
    /// A duplicate of the one Unix socket; the workers share its queue.
    Unix(UnixListener),
}

impl ListeningSocket {
    /// Another handle to the same socket.
    ///
    /// # Errors
    /// If the file descriptors have run out.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            ListeningSocket::Tcp(socket) => socket.try_clone().map(ListeningSocket::Tcp),
            ListeningSocket::Unix(socket) => socket.try_clone().map(ListeningSocket::Unix),
        }
    }
}

/// A socket for one worker. It comes with its duplicate, so that a worker needs no file descriptor
/// to accept on it: a socket that is bound and not accepted on swallows connections.
#[derive(Debug)]
pub struct WorkerSocket {
    /// To accept on.
    pub accepting: ListeningSocket,
    /// Keeps the kernel's queue alive should the worker panic.
    pub spare: ListeningSocket,
}

/// A connection that a busier worker accepted and hands over before its first byte was read.
#[derive(Debug)]
pub struct Handover {
    /// The address that it was accepted on.
    pub socket: SocketId,
    /// The listener that it was accepted for, which may be about to leave.
    pub listener: Arc<Listener>,
    /// The connection.
    pub stream: HandoverStream,
    /// That it is counted.
    pub file: ClientFile,
}

/// The stream of a [`Handover`], off the other worker's reactor.
#[derive(Debug)]
pub enum HandoverStream {
    /// A TCP connection and its peer.
    Tcp(TcpStream, SocketAddr),
    /// A connection over a Unix socket.
    Unix(UnixStream),
}

/// What wakes a worker. Handled between polls, in small batches.
#[derive(Debug)]
pub enum Mail {
    /// Accept on this socket too, for this listener. The snapshot may not know it any more by the
    /// time that the mail is read, and what the kernel has accepted by then is to be served.
    Listen(SocketId, Arc<Listener>, WorkerSocket),
    /// Empty the socket's queue, close it, and let its connections finish what they have begun.
    StopListening(SocketId),
    /// There is a new snapshot: let go of the old one even if no request comes.
    SnapshotChanged,
    /// A backend was judged unfit: close the unused connections to it.
    BackendDown(BackendId),
    /// A backend was judged unfit, and nobody picks it any more: send who waits on it elsewhere.
    Rescue(BackendId),
    /// A backend is gone: forget it once its last request is done.
    BackendGone(BackendId),
    /// Adopt a connection from a busier worker.
    Adopt(Handover),
    /// Close idle connections, finish what is in flight, cut what is left at the deadline.
    Drain {
        /// When to cut.
        deadline: Instant,
    },
    /// Panic, so that a test can see what becomes of the worker.
    #[cfg(test)]
    Panic,
}

/// What a worker tells the control plane.
#[derive(Debug)]
pub enum Notice {
    /// This backend may be ill: probe it now.
    Suspect(Arc<Backend>),
    /// What the traffic of this backend showed: judge it now.
    Alarm(Arc<Backend>, Alarm),
    /// A worker has drained: no connection of its own is left.
    Drained(super::WorkerId),
    /// A worker's thread panicked and was started again.
    WorkerRestarted(super::WorkerId),
}
