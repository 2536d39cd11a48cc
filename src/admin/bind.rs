//! The socket of the admin API.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Type};

/// Unlike a listener's, an admin socket is for its user and group: who can open it can reload.
const MODE: u32 = 0o660;
/// Connections that the kernel completes ahead of us.
const BACKLOG: i32 = 128;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why the admin API cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the admin API cannot listen on {address}: {}", reason(source))]
pub struct BindError {
    /// Where.
    address: Address,
    /// What the operating system says.
    source: io::Error,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there already, or has a connection from this port; stop it, \
             or set `admin.bind` to another address"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; set `admin.bind` to one that it has"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; set `admin.bind` to a port above 1023, or to a directory that \
             this user may write to"
                .to_owned()
        }
        io::ErrorKind::NotFound => "the directory does not exist; make it first".to_owned(),
        io::ErrorKind::AlreadyExists => {
            "something that is not a socket is there; remove it, or choose another path".to_owned()
        }
        _ => error.to_string(),
    }
}

/// A bound socket, listening. Dropped, it closes, and the file of a Unix socket goes.
#[derive(Debug)]
pub struct Socket {
    pub(super) kind: Kind,
    address: Address,
}

#[derive(Debug)]
pub(super) enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    /// Where it listens, with the port that the kernel chose.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            // If it is gone already, that is what we want.
            let _ = fs::remove_file(path);
        }
    }
}

/// Binds the address and listens on it.
///
/// # Errors
/// In words that tell what to do.
pub fn bind(address: &Address) -> Result<Socket, BindError> {
    let bound = match address {
        Address::Tcp(tcp) => bind_tcp(*tcp),
        Address::Unix(path) => bind_unix(path),
    };
    bound.map_err(|source| BindError { address: address.clone(), source })
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = Address::Tcp(listener.local_addr()?);
    Ok(Socket { kind: Kind::Tcp(listener), address })
}

fn bind_unix(path: &Path) -> io::Result<Socket> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // Left by a process that was killed.
        fs::remove_file(path)?;
    }
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before anybody can connect.
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from(socket);
    Ok(Socket { kind: Kind::Unix(listener), address: Address::Unix(path.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_in_words() {
        let first = bind(&Address::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
        let error = bind(first.address()).unwrap_err().to_string();
        assert!(error.contains("another process listens there already"), "{error}");
    }

    #[test]
    fn a_unix_socket_that_is_in_use_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("admin.sock"));
        let _first = bind(&address).unwrap();
        let error = bind(&address).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_unix_socket_left_behind_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        bind(&Address::Unix(path)).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        bind(&Address::Unix(path.clone())).unwrap_err();
        assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    }

    #[test]
    fn only_user_and_group_may_connect_and_the_file_goes_with_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let socket = bind(&Address::Unix(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        drop(socket);
        assert!(!path.exists());
    }
}
