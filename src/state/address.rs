//! Where a backend is. Names are resolved by the control plane, never on a request's path.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The address of a backend as its operator wrote it; with the pool it is the backend's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A host name and a port, resolved by the control plane.
    Name {
        /// The host name, in lower case.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl Address {
    /// The name that a TLS certificate of this backend must hold, unless its pool sets another.
    pub fn host(&self) -> Cow<'_, str> {
        match self {
            Address::Ip(address) => address.ip().to_string().into(),
            Address::Name { host, .. } => host.as_str().into(),
            Address::Unix(_) => "localhost".into(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => write!(f, "{address}"),
            Address::Name { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
