//! What a configuration says, checked: plain values that need no further look.
//!
//! Times are [`Duration`]s, shares are fractions from 0.0 to 1.0, sizes are bytes. Where the file
//! writes `0` for "no limit" or "off", the value here is `None`, so that nobody can forget to ask.
//! Every `Default` is the default of the file; `config/reference.toml` gives the reasons. Values
//! that can still fail after parsing are [`Located`], and paths are already relative to the
//! directory of the file.

mod address;
mod judgement;
mod notify;
mod pool;
mod swap;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use address::{BackendAddress, BindAddress, HostPattern, Network, StatusRange};
pub use judgement::{
    CircuitBreaker, FlapGuard, Health, HttpProbe, Mode, Outliers, ProbeKind, Retries, RetryOn,
};
pub use notify::Notify;
pub use pool::{
    Affinity, AllDown, Backend, Policy, Pool, Queue, Secret, SecureCookie, Upstream,
    UpstreamProtocol, UpstreamTls, Version,
};
pub use swap::{
    ExpectVersion, Must, Rollback, Shadow, Smoke, Swap, ToldBy, TunnelDrain, TunnelRelease, WarmUp,
};

use super::choice::choice;
use super::source::Located;

/// One whole configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[server]`: the process.
    pub server: Server,
    /// `[admin]`: metrics, status page and API.
    pub admin: Admin,
    /// `[log]`: what is written where.
    pub log: Log,
    /// `[notify]`: who is told of swaps, if anybody is.
    pub notify: Option<Notify>,
    /// `[listeners.NAME]`, by name. Never empty in a parsed configuration.
    pub listeners: BTreeMap<String, Listener>,
    /// `[[routes]]`, in the order of the file (which has no meaning for precedence).
    pub routes: Vec<Route>,
    /// `[pools.NAME]`, by name.
    pub pools: BTreeMap<String, Pool>,
}

/// `[server]`: settings of the whole process.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Worker threads; `None`: as many as the machine or its cgroup allows.
    pub workers: Option<usize>,
    /// After SIGTERM: how long to say "not ready" while still accepting.
    pub shutdown_delay: Duration,
    /// After that: how long requests in flight get.
    pub shutdown_timeout: Duration,
    /// Where swaps, reports and health survive a restart; `None`: nowhere. Falls back to the first
    /// directory in systemd's `STATE_DIRECTORY`.
    pub state_dir: Option<Located<PathBuf>>,
    /// Peers whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Open client connections of the process; `None`: derived from the open-files limit.
    pub max_connections: Option<usize>,
    /// Requests in flight in the process; `None`: no limit.
    pub max_requests: Option<usize>,
    /// What is held for slow clients in the process, in bytes; `None`: so much for each worker.
    pub max_buffered: Option<u64>,
    /// Whether to send `Forwarded` (RFC 7239) beside `X-Forwarded-*`.
    pub forwarded: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: None,
            shutdown_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(30),
            state_dir: None,
            trusted_proxies: Vec::new(),
            max_connections: None,
            max_requests: None,
            max_buffered: None,
            forwarded: false,
        }
    }
}

/// `[admin]`: the address for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Where it listens. Beyond loopback there is always a `token_file`.
    pub bind: Located<BindAddress>,
    /// File that holds the token which every request but `/livez` and `/readyz` must carry.
    pub token_file: Option<Located<PathBuf>>,
    /// Further `Host` names to answer to, normalised like those of routes.
    pub hosts: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 9900));
        Self {
            bind: Located::unwritten(BindAddress::Tcp(loopback)),
            token_file: None,
            hosts: Vec::new(),
        }
    }
}

/// `[log]`: the log on stderr and the access log.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The least severe kind of line that is written.
    pub level: LogLevel,
    /// Shape of a line on stderr.
    pub format: LogFormat,
    /// Shape of the access log, or none.
    pub access: AccessLog,
    /// File of the access log; `None`: stdout.
    pub access_path: Option<Located<PathBuf>>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Text,
            access: AccessLog::Off,
            access_path: None,
        }
    }
}

choice! {
    /// `log.level`.
    LogLevel {
        /// Only what needs somebody.
        Error = "error",
        /// And what may soon need somebody.
        Warn = "warn",
        /// And what changed.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// And everything else.
        Trace = "trace",
    }
}

choice! {
    /// `log.format`.
    LogFormat {
        /// Lines for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// `log.access`.
    AccessLog {
        /// No access log.
        Off = "off",
        /// One JSON object a line.
        Json = "json",
        /// The "combined" format of Apache and nginx.
        Combined = "combined",
    }
}

/// `[listeners.NAME]`: where clients connect.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listener {
    /// Its name.
    pub name: Located<String>,
    /// The addresses, at least one. No two listeners overlap.
    pub bind: Vec<Located<BindAddress>>,
    /// TLS, if it speaks TLS.
    pub tls: Option<Tls>,
    /// Whether clients may begin with HTTP/2 in plain text. Never beside `tls`.
    pub h2c: bool,
    /// `[listeners.NAME.limits]`.
    pub limits: Limits,
}

/// `listeners.NAME.tls`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// At least one; chosen by server name, the first is the default.
    pub certificates: Vec<Certificate>,
}

/// A certificate chain and its key, both PEM files. Neither has been opened yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// The chain, leaf first.
    pub cert: Located<PathBuf>,
    /// The private key.
    pub key: Located<PathBuf>,
}

/// `[listeners.NAME.limits]`: what one client may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// For the whole TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first to the last byte of a request head, else 408.
    pub header_timeout: Duration,
    /// Between two bytes of a request body.
    pub body_timeout: Duration,
    /// For a client that takes nothing.
    pub write_timeout: Duration,
    /// For one that has closed its sending side and waits for answers; zero: it counts as gone.
    pub half_close_timeout: Duration,
    /// Between two requests on a connection; zero closes after every answer.
    pub keepalive_timeout: Duration,
    /// Age at which a connection is closed after its answer; `None`: never for age.
    pub keepalive_max_age: Option<Duration>,
    /// Bytes of a request head, at least 8 KiB.
    pub max_header_bytes: usize,
    /// Fields in a request head.
    pub max_headers: usize,
    /// Open connections on this listener; `None`: no limit of its own.
    pub max_connections: Option<usize>,
    /// Open connections from one address; `None`: no limit.
    pub max_connections_per_address: Option<usize>,
    /// Concurrent streams on one HTTP/2 connection.
    pub h2_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            half_close_timeout: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(75),
            keepalive_max_age: Some(Duration::from_secs(3600)),
            max_header_bytes: 32 * 1024,
            max_headers: 100,
            max_connections: None,
            max_connections_per_address: None,
            h2_streams: 128,
        }
    }
}

/// One `[[routes]]`: a match and what to do with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// For `explain`, log and metrics; unique.
    pub name: Option<String>,
    /// Hosts it matches; empty: any.
    pub hosts: Vec<Located<HostPattern>>,
    /// Prefix at a segment boundary; begins with `/`, has no dot segments.
    pub path: Located<String>,
    /// Names of the listeners it stands on, all of which exist; empty: all.
    pub listeners: Vec<Located<String>>,
    /// Where it leads.
    pub action: RouteAction,
    /// Who answers when its pool cannot; never beside a redirect.
    pub fallback: Option<Fallback>,
    /// For the whole request with all its attempts; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Bytes of a request body; `None`: no limit.
    pub max_body: Option<u64>,
    /// Where the route stands in the text.
    pub place: Located<()>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteAction {
    /// To the pool of that name, which exists.
    Pool(Located<String>),
    /// To another address, told to the client.
    Redirect(Redirect),
}

/// `fallback` of a route: the answer when its pool has nobody to give one.
#[derive(Debug, Clone, PartialEq)]
pub enum Fallback {
    /// From the pool of that name, which exists and is another one.
    Pool(Located<String>),
    /// Always the same.
    File(StaticResponse),
}

/// A response from a file, which has not been opened yet.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticResponse {
    /// Its body.
    pub file: Located<PathBuf>,
    /// Its status, 200 to 599.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: String,
}

/// `redirect` of a route: the parts of the address that change. At least one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Another scheme.
    pub scheme: Option<Scheme>,
    /// Another host, normalised.
    pub host: Option<String>,
    /// Another port; `None` with another scheme: that scheme's own port.
    pub port: Option<u16>,
    /// Another path in place of the whole path; the query is kept.
    pub path: Option<String>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { scheme: None, host: None, port: None, path: None, status: 308 }
    }
}

choice! {
    /// Scheme of a redirect.
    Scheme {
        /// Without TLS.
        Http = "http",
        /// With TLS.
        Https = "https",
    }
}

/// The keys that differ between two configurations and that a running process cannot change.
pub fn restart_only_changes(old: &Config, new: &Config) -> Vec<String> {
    [
        ("server.workers", old.server.workers == new.server.workers),
        ("server.state_dir", old.server.state_dir == new.server.state_dir),
        ("admin.bind", old.admin.bind == new.admin.bind),
    ]
    .into_iter()
    .filter(|(_, same)| !same)
    .map(|(key, _)| key.to_owned())
    .collect()
}
