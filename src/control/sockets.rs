//! Listening sockets: bound before a snapshot needs them, kept as long as their address stays.
//!
//! Every worker accepts on a socket of its own (`SO_REUSEPORT`), so that the kernel spreads
//! connections. But with that option a second process of the same user could take part unnoticed;
//! so an address is first bound without it, which fails if anybody else is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::compile::Bound;
use crate::config::model::BindAddress;
use crate::state::{ListeningSocket, SocketId, WorkerSocket};

/// Connections that the kernel completes ahead of `accept`, per socket.
const BACKLOG: i32 = 4096;
/// What the kernel may hold for a client beyond what is on its way. Without a bound, clients that
/// take nothing fill megabytes of it each, and once the system has no more for sockets, all suffer.
const UNSENT_BYTES: u32 = 128 * 1024;
/// Within this time the workers have emptied and closed a socket that left.
const CLOSING: Duration = Duration::from_secs(1);
/// Everybody may connect, as everybody may to a TCP port; who may come near is a matter of the
/// directory. The same as nginx and HAProxy do.
const UNIX_MODE: u32 = 0o666;

/// What a socket is known by across reloads: its address. Where the kernel chooses the port the same
/// address stands for several sockets, told by who wants them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketKey {
    address: BindAddress,
    chosen_for: Option<(String, usize)>,
}

impl SocketKey {
    /// The socket of this listener for its address at this position.
    pub fn new(listener: &str, position: usize, address: &BindAddress) -> Self {
        let kernel_chooses = matches!(address, BindAddress::Tcp(tcp) if tcp.port() == 0);
        SocketKey {
            address: address.clone(),
            chosen_for: kernel_chooses.then(|| (listener.to_owned(), position)),
        }
    }

    /// The address to bind.
    pub fn address(&self) -> &BindAddress {
        &self.address
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there, or has a connection from there.
    #[error(
        "{0} is already in use: is another tidegate (or another server) running there? If nobody \
         listens, a connection from this machine may have taken the port: choose one outside of \
         net.ipv4.ip_local_port_range"
    )]
    InUse(String),
    /// Not without more rights.
    #[error("no permission to listen on {address}{hint}")]
    Denied {
        /// Where.
        address: String,
        /// What to do, if it is known.
        hint: &'static str,
    },
    /// Not an address of this machine.
    #[error(
        "{0} is not an address of this machine; write \"0.0.0.0\" or \"[::]\" to listen on all \
         of them"
    )]
    NotLocal(String),
    /// The path of a Unix socket is taken by something that is none.
    #[error("{0} exists and is not a socket; remove it, or choose another path")]
    NotASocket(String),
    /// The directory of a Unix socket is missing.
    #[error("the directory of {0} does not exist; make it first")]
    NoDirectory(String),
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// Where.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
}

/// All sockets of the configuration in force.
#[derive(Debug)]
pub struct Sockets {
    workers: usize,
    next_id: u32,
    bound: BTreeMap<SocketKey, Entry>,
    /// TCP addresses that were let go of, and when: the workers may not have closed them yet.
    closing: Vec<(SocketAddr, Instant)>,
}

#[derive(Debug)]
struct Entry {
    bound: Bound,
    /// Removes the file of a Unix socket.
    _file: Option<SocketFile>,
}

/// Addresses that are bound and not in force yet. Dropped, they are as if they had never been.
#[derive(Debug, Default)]
pub struct Opening {
    entries: BTreeMap<SocketKey, Entry>,
    sockets: Vec<(SocketId, Vec<WorkerSocket>)>,
}

/// What the workers have to be told.
#[derive(Debug)]
pub struct SocketChanges {
    /// New sockets, one for each worker.
    pub listen: Vec<(SocketId, Vec<WorkerSocket>)>,
    /// Sockets that left.
    pub stop: Vec<SocketId>,
}

impl Sockets {
    /// No sockets yet; each will be opened `workers` times.
    pub fn new(workers: usize) -> Self {
        Sockets { workers, next_id: 0, bound: BTreeMap::new(), closing: Vec::new() }
    }

    /// Binds the address if it is new, into `opening`.
    ///
    /// # Errors
    /// If it cannot be listened on.
    pub fn open(&mut self, key: &SocketKey, opening: &mut Opening) -> Result<(), BindError> {
        let address = &key.address;
        if self.bound.contains_key(key) || opening.entries.contains_key(key) {
            return Ok(());
        }
        let id = SocketId(self.next_id);
        let (sockets, bound, file) = match address {
            BindAddress::Tcp(tcp) => {
                let (sockets, real) = self.open_tcp(*tcp)?;
                let bound = Bound { id, address: real.to_string(), port: real.port() };
                (sockets, bound, None)
            }
            BindAddress::Unix(path) => {
                let (sockets, file) = open_unix(path, self.workers)?;
                let bound = Bound { id, address: address.to_string(), port: 0 };
                (sockets, bound, Some(file))
            }
        };
        self.next_id += 1;
        opening.entries.insert(key.clone(), Entry { bound, _file: file });
        opening.sockets.push((id, sockets));
        Ok(())
    }

    /// What an address is bound as, in force or about to be.
    pub fn find(&self, opening: &Opening, key: &SocketKey) -> Option<Bound> {
        let entry = self.bound.get(key).or_else(|| opening.entries.get(key))?;
        Some(entry.bound.clone())
    }

    /// Makes `opening` part of what is in force, and lets go of what is not `wanted`.
    pub fn commit(&mut self, opening: Opening, wanted: &BTreeSet<SocketKey>) -> SocketChanges {
        self.bound.extend(opening.entries);
        let mut stop = Vec::new();
        self.closing.retain(|(_, since)| since.elapsed() < CLOSING);
        self.bound.retain(|key, entry| {
            let stays = wanted.contains(key);
            if !stays {
                stop.push(entry.bound.id);
                let tcp = entry.bound.address.parse().ok();
                self.closing.extend(tcp.map(|address| (address, Instant::now())));
            }
            stays
        });
        SocketChanges { listen: opening.sockets, stop }
    }

    fn open_tcp(&self, address: SocketAddr) -> Result<(Vec<WorkerSocket>, SocketAddr), BindError> {
        let explain = |error| explain(error, &BindAddress::Tcp(address));
        // With port 0 the kernel finds a free one; and what we hold ourselves (on all addresses,
        // say, now that one of them is wanted) only looks like somebody else.
        if address.port() != 0 && !self.overlaps_own(address) {
            bind_tcp(address, false).map_err(explain)?;
        }
        let first = bind_tcp(address, true).map_err(explain)?;
        let real = first.local_addr().map_err(explain)?.as_socket().unwrap_or(address);
        let mut sockets = vec![first];
        for _ in 1..self.workers {
            sockets.push(bind_tcp(real, true).map_err(explain)?);
        }
        let spares = sockets.iter().map(Socket::try_clone).collect::<io::Result<Vec<_>>>();
        let spares = spares.map_err(explain)?;
        // Only now, so that none of them gets a connection if one of them fails.
        for socket in &sockets {
            socket.listen(BACKLOG).map_err(explain)?;
        }
        let tcp = |socket: Socket| ListeningSocket::Tcp(socket.into());
        let both =
            |(accepting, spare)| WorkerSocket { accepting: tcp(accepting), spare: tcp(spare) };
        Ok((sockets.into_iter().zip(spares).map(both).collect(), real))
    }

    fn overlaps_own(&self, wanted: SocketAddr) -> bool {
        let bound = self.bound.values().filter_map(|entry| entry.bound.address.parse().ok());
        let closing = self.closing.iter().filter(|(_, since)| since.elapsed() < CLOSING);
        bound.chain(closing.map(|(address, _)| *address)).any(|own: SocketAddr| {
            let (a, b) = (own.ip(), wanted.ip());
            own.port() == wanted.port() && (a == b || a.is_unspecified() || b.is_unspecified())
        })
    }
}

fn bind_tcp(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that are not quite over must not keep us from the port.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` serves both families, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    prepare_accepted(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets what every connection accepted on this socket is to have: it inherits these from the
/// listening one, so that nobody has to set them for each.
fn prepare_accepted(socket: &Socket) -> io::Result<()> {
    // Answers go out in as few packets as we make them.
    socket.set_tcp_nodelay(true)?;
    // Finds out about clients that vanished without a word.
    socket.set_keepalive(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)
}

fn open_unix(path: &Path, workers: usize) -> Result<(Vec<WorkerSocket>, SocketFile), BindError> {
    let address = BindAddress::Unix(path.to_owned());
    let explain = |error| explain(error, &address);
    remove_stale(path, &address)?;
    let listener = UnixListener::bind(path).map_err(explain)?;
    let file = SocketFile::new(path).map_err(explain)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(UNIX_MODE)).map_err(explain)?;
    listener.set_nonblocking(true).map_err(explain)?;
    let unix = || listener.try_clone().map(ListeningSocket::Unix);
    let duplicate = || Ok(WorkerSocket { accepting: unix()?, spare: unix()? });
    let sockets = (0..workers).map(|_| duplicate()).collect::<io::Result<_>>().map_err(explain)?;
    Ok((sockets, file))
}

/// Removes the file of a process that has ended without doing so.
fn remove_stale(path: &Path, address: &BindAddress) -> Result<(), BindError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(address.to_string()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(address.to_string())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| explain(error, address))
        }
        Err(error) => Err(explain(error, address)),
    }
}

fn explain(error: io::Error, address: &BindAddress) -> BindError {
    let name = address.to_string();
    match (error.kind(), address) {
        (io::ErrorKind::AddrInUse, _) => BindError::InUse(name),
        (io::ErrorKind::AddrNotAvailable, _) => BindError::NotLocal(name),
        (io::ErrorKind::NotFound, BindAddress::Unix(_)) => BindError::NoDirectory(name),
        (io::ErrorKind::PermissionDenied, BindAddress::Tcp(tcp)) if tcp.port() < 1024 => {
            let hint = ": ports below 1024 need a right; in a systemd unit write \
                        AmbientCapabilities=CAP_NET_BIND_SERVICE";
            BindError::Denied { address: name, hint }
        }
        (io::ErrorKind::PermissionDenied, BindAddress::Tcp(_)) => {
            BindError::Denied { address: name, hint: "" }
        }
        (io::ErrorKind::PermissionDenied, BindAddress::Unix(_)) => {
            let hint = ": the user that tidegate runs as must be able to write into its directory";
            BindError::Denied { address: name, hint }
        }
        _ => BindError::Other { address: name, source: error },
    }
}

/// The file of a Unix socket, removed with this value if it is still the same file: a process that
/// has taken our place may have put its own there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|now| now.dev() == self.device && now.ino() == self.inode);
        if same {
            // If it cannot be removed the next start finds it stale.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
