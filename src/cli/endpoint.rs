//! Where the admin API of the running proxy is, and what token it wants.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

use http::Uri;

use super::AdminOptions;
use crate::config::model::{Admin, BindAddress};
use crate::config::{self, Errors};

/// An address of an admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `host:port`.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(authority) => write!(f, "http://{authority}"),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why it is not known whom to ask.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointError {
    /// An address in a form that means nothing.
    #[error(
        "`{0}` is no address of an admin API; write http://HOST:PORT or unix:/PATH \
         (option --admin, or the variable TIDEGATE_ADMIN)"
    )]
    Address(String),
    /// The configuration cannot be opened.
    #[error("cannot read {}: {source}; give the address with --admin URL instead", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The configuration has errors.
    #[error(
        "the address of the admin API is not known, as the configuration has errors; \
         give it with --admin URL, or correct these:\n\n{0}"
    )]
    Config(Errors),
    /// The token cannot be read.
    #[error("cannot read the admin token from {}: {source}", path.display())]
    TokenFile {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A token that no request can carry.
    #[error("the admin token holds a line break or a control character; write it as one line")]
    Token,
}

/// Where to ask, and the token if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) token: Option<String>,
}

impl Target {
    /// From options, environment, configuration file or default, in this order.
    pub(super) fn find(options: &AdminOptions) -> Result<Self, EndpointError> {
        // A variable that is set to nothing is not set.
        let address = options.admin.as_deref().filter(|address| !address.is_empty());
        let admin = match (&options.config, address) {
            (Some(file), None) => read_config(file)?,
            _ => Admin::default(),
        };
        let endpoint = match address {
            Some(address) => parse(address)?,
            None => reachable(&admin.bind),
        };
        let in_env = || env::var("TIDEGATE_TOKEN").ok().filter(|token| !token.is_empty());
        let configured = admin.token_file.as_ref().map(|file| &file.value);
        let token = match (&options.token_file, in_env(), configured) {
            (Some(file), _, _) | (None, None, Some(file)) => Some(read_token(file)?),
            (None, token, _) => token,
        };
        if token.as_ref().is_some_and(|token| token.contains(char::is_control)) {
            return Err(EndpointError::Token);
        }
        Ok(Self { endpoint, token })
    }
}

fn read_config(path: &Path) -> Result<Admin, EndpointError> {
    let text = fs::read_to_string(path)
        .map_err(|source| EndpointError::Unreadable { path: path.to_owned(), source })?;
    config::parse(&text, path, &|name| env::var(name).ok())
        .map(|parsed| parsed.config.admin.clone())
        .map_err(EndpointError::Config)
}

fn read_token(path: &Path) -> Result<String, EndpointError> {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|source| EndpointError::TokenFile { path: path.to_owned(), source })
}

fn parse(address: &str) -> Result<Endpoint, EndpointError> {
    let wrong = || EndpointError::Address(address.to_owned());
    if let Some(path) = address.strip_prefix("unix:") {
        return if path.is_empty() { Err(wrong()) } else { Ok(Endpoint::Unix(path.into())) };
    }
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let scheme_is_http = uri.scheme_str().is_none_or(|scheme| scheme == "http");
    let authority = uri.authority().filter(|_| scheme_is_http && uri.path().len() <= 1);
    let authority = authority.ok_or_else(wrong)?;
    if authority.as_str().contains('@') {
        return Err(wrong());
    }
    let port = authority.port_u16().unwrap_or(80);
    Ok(Endpoint::Tcp(format!("{}:{port}", authority.host())))
}

/// The address to connect to for what listens on `bind`: loopback, if it listens everywhere.
fn reachable(bind: &BindAddress) -> Endpoint {
    match bind {
        BindAddress::Unix(path) => Endpoint::Unix(path.clone()),
        BindAddress::Tcp(address) => {
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                ip => ip,
            };
            Endpoint::Tcp(SocketAddr::new(ip, address.port()).to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_or_unix_sockets() {
        let cases = [
            ("http://127.0.0.1:9900", Some("http://127.0.0.1:9900")),
            ("http://proxy.internal:9900/", Some("http://proxy.internal:9900")),
            ("http://[::1]:9900", Some("http://[::1]:9900")),
            ("http://proxy", Some("http://proxy:80")),
            ("127.0.0.1:9900", Some("http://127.0.0.1:9900")),
            ("unix:/run/tidegate/admin.sock", Some("unix:/run/tidegate/admin.sock")),
            ("unix:", None),
            ("https://127.0.0.1:9900", None),
            ("http://127.0.0.1:9900/api", None),
            ("http://user@127.0.0.1:9900", None),
            ("/run/tidegate/admin.sock", None),
            ("", None),
        ];
        for (given, expected) in cases {
            let parsed = parse(given).ok().map(|endpoint| endpoint.to_string());
            assert_eq!(parsed.as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_reached_on_loopback() {
        for (bind, expected) in [
            ("0.0.0.0:9900", "http://127.0.0.1:9900"),
            ("[::]:9900", "http://[::1]:9900"),
            ("10.0.0.1:9900", "http://10.0.0.1:9900"),
        ] {
            let bind = BindAddress::Tcp(bind.parse().unwrap());
            assert_eq!(reachable(&bind).to_string(), expected);
        }
    }
}
