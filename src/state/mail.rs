//! What the planes tell each other: mail to one worker, notices to the control plane.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::pool::UpstreamSettings;
use super::{Backend, BackendId, ClientFile, Listener, Pace, Place, WorkerId};
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
    /// That it is counted, by the process
    pub file: ClientFile,
    /// and on its listener.
    pub place: Place,
}

/// The stream of a [`Handover`], off the other worker's reactor.
#[derive(Debug)]
pub enum HandoverStream {
    /// A TCP connection and its peer.
    Tcp(TcpStream, SocketAddr),
    /// A connection over a Unix socket.
    Unix(UnixStream),
}

/// An order to open connections to a backend before anybody needs them.
#[derive(Clone, Debug)]
pub struct WarmUp {
    /// To whom.
    pub backend: Arc<Backend>,
    /// How its pool speaks to it.
    pub settings: Arc<UpstreamSettings>,
    /// How many unused connections the worker is to have; one of HTTP/2 is as good as many.
    pub connections: usize,
    /// Told once by each worker.
    pub reply: mpsc::UnboundedSender<WarmedUp>,
}

/// What became of a [`WarmUp`] on one worker.
#[derive(Debug)]
pub struct WarmedUp {
    /// Which.
    pub worker: WorkerId,
    /// Unused connections that it has now, or why one could not be opened.
    pub outcome: Result<usize, String>,
}

/// An order to close the tunnels to some backends, one after another.
#[derive(Clone, Debug)]
pub struct CloseTunnels {
    /// Whose. Tunnels that come later are not meant: the order can be given again, by the same pace.
    pub backends: Arc<[BackendId]>,
    /// How fast, over all workers.
    pub pace: Arc<Pace>,
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
    /// The snapshot lets idle clients of some listener stay for a shorter time than the one before.
    KeepaliveShortened,
    /// A backend was judged unfit: close the unused connections to it.
    BackendDown(BackendId),
    /// A backend was judged unfit, and nobody picks it any more: send who waits on it elsewhere.
    Rescue(BackendId),
    /// The time of a backend's requests is over: cut those that are left.
    CutRequests(BackendId),
    /// A backend is gone: forget it once its last request is done.
    BackendGone(BackendId),
    /// Open connections to a backend.
    WarmUp(WarmUp),
    /// Close tunnels: WebSockets with a close frame 1001, event streams and gRPC streams at their end.
    CloseTunnels(CloseTunnels),
    /// Adopt a connection from a busier worker.
    Adopt(Handover),
    /// There is hardly room for one more connection: ask idle ones to leave.
    MakeRoom,
    /// Close idle connections and WebSockets, finish what is in flight, cut what is left at the
    /// deadline.
    Drain {
        /// When to cut.
        deadline: Instant,
    },
    /// Panic, so that a test can see what becomes of the worker.
    #[cfg(test)]
    Panic,
    /// Panic in a task that the worker cannot do without.
    #[cfg(test)]
    PanicOnDuty,
}

/// What a worker tells the control plane.
#[derive(Debug)]
pub enum Notice {
    /// This backend may be ill: probe it now.
    Suspect(Arc<Backend>),
    /// What the traffic of this backend showed: judge it now.
    Alarm(Arc<Backend>, Alarm),
    /// A worker has drained: no connection of its own is left.
    Drained(WorkerId),
    /// A worker's thread panicked and was started again.
    WorkerRestarted(WorkerId),
}
