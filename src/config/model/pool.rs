//! Pools: their backends, and how these are spoken to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{BackendAddress, CircuitBreaker, Health, Outliers, Retries, Swap};
use crate::config::choice::choice;
use crate::config::source::Located;

/// `[pools.NAME]`: interchangeable backends under one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its name.
    pub name: Located<String>,
    /// How a backend is chosen.
    pub policy: Policy,
    /// Its backend sets by name, at least one; a pool with plain `backends` has one version with
    /// an empty name. An address stands in one version only.
    pub versions: BTreeMap<String, Version>,
    /// The version that the file wants to serve; always one of `versions`.
    pub active: Located<String>,
    /// Cookie affinity, if wanted.
    pub affinity: Option<Affinity>,
    /// Requests in flight on one backend, tunnels included; `None`: no limit.
    pub max_requests_per_backend: Option<usize>,
    /// Where requests wait when every backend is at its limit.
    pub queue: Queue,
    /// Time over which a new or recovered backend comes to its full share; zero: at once.
    pub slow_start: Duration,
    /// Share of usable backends under which health is ignored; 0.0: never.
    pub panic_threshold: f64,
    /// What to do if no backend is usable.
    pub all_down: AllDown,
    /// `[pools.NAME.upstream]`.
    pub upstream: Upstream,
    /// `[pools.NAME.health]`.
    pub health: Health,
    /// `[pools.NAME.outliers]`.
    pub outliers: Outliers,
    /// `[pools.NAME.retries]`.
    pub retries: Retries,
    /// `[pools.NAME.circuit_breaker]`, if wanted.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// `[pools.NAME.swap]`; of use only with several versions.
    pub swap: Swap,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            name: Located::default(),
            policy: Policy::LeastConnections,
            versions: BTreeMap::new(),
            active: Located::default(),
            affinity: None,
            max_requests_per_backend: None,
            queue: Queue::default(),
            slow_start: Duration::from_secs(10),
            panic_threshold: 0.0,
            all_down: AllDown::Try,
            upstream: Upstream::default(),
            health: Health::default(),
            outliers: Outliers::default(),
            retries: Retries::default(),
            circuit_breaker: None,
            swap: Swap::default(),
        }
    }
}

/// One of a pool's backend sets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Version {
    /// Its name; empty on plain pools.
    pub name: Located<String>,
    /// At least one, all with different addresses.
    pub backends: Vec<Backend>,
}

/// One server of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Where it listens.
    pub address: Located<BackendAddress>,
    /// Its share relative to the others', 1 to 65535.
    pub weight: u32,
    /// Takes requests only when no other backend can.
    pub backup: bool,
}

choice! {
    /// `policy` of a pool.
    Policy {
        /// Fewest requests in flight for its weight.
        LeastConnections = "least_connections",
        /// In turn, by weight.
        RoundRobin = "round_robin",
        /// The less loaded of two random ones.
        RandomTwo = "random_two",
        /// By the client's address.
        IpHash = "ip_hash",
    }
}

choice! {
    /// `all_down` of a pool.
    AllDown {
        /// Use those that were not drained or disabled by hand.
        Try = "try",
        /// Answer 503.
        Fail = "fail",
    }
}

/// `affinity` of a pool: a client stays with its backend while that is usable.
#[derive(Debug, Clone, PartialEq)]
pub struct Affinity {
    /// Name of the cookie, a token of RFC 6265 section 4.1.1.
    pub cookie: String,
    /// `Max-Age` of the cookie; `None`: until the browser closes.
    pub ttl: Option<Duration>,
    /// When the cookie is marked `Secure`.
    pub secure: SecureCookie,
    /// Key of the hash in the cookie, so that several proxies agree; `None`: one made at start.
    pub secret: Option<Secret>,
}

choice! {
    /// `secure` of a pool's affinity.
    SecureCookie {
        /// If the client came by TLS.
        Auto = "auto",
        /// Always: something in front of us ends TLS.
        Always = "always",
        /// Never.
        Never = "never",
    }
}

/// A text that must not appear in logs: its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(in crate::config) String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// `queue` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Requests that may wait at once; 0: none waits.
    pub size: usize,
    /// How long one may wait.
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self { size: 1000, timeout: Duration::from_secs(5) }
    }
}

/// `[pools.NAME.upstream]`: how backends are spoken to.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// HTTP version.
    pub protocol: UpstreamProtocol,
    /// TLS, if the backends speak it. Always there with [`UpstreamProtocol::Auto`].
    pub tls: Option<UpstreamTls>,
    /// For the TCP connection and the TLS handshake together.
    pub connect_timeout: Duration,
    /// From the request fully sent to the response head.
    pub response_timeout: Duration,
    /// Between two bytes of a body, either way.
    pub body_idle_timeout: Duration,
    /// The same on tunnels (WebSockets, event streams, gRPC streams); `None`: no limit.
    pub tunnel_idle_timeout: Option<Duration>,
    /// How long an unused connection is kept; zero: not at all.
    pub keepalive_timeout: Duration,
    /// Unused connections kept per backend; 0: none.
    pub keepalive_connections: usize,
    /// Unused connections that are kept open per backend even without traffic; at most
    /// `keepalive_connections`.
    pub min_idle: usize,
    /// A path that is asked for on those, so that nobody on the way forgets them; `None`: nothing.
    pub keepalive_request: Option<String>,
    /// How often.
    pub keepalive_interval: Duration,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Http1,
            tls: None,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(60),
            tunnel_idle_timeout: Some(Duration::from_secs(3600)),
            keepalive_timeout: Duration::from_secs(60),
            keepalive_connections: 128,
            min_idle: 0,
            keepalive_request: None,
            keepalive_interval: Duration::from_secs(30),
        }
    }
}

choice! {
    /// `protocol` of a pool's upstream.
    UpstreamProtocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2, without TLS by prior knowledge.
        H2 = "h2",
        /// Whichever the backend offers by ALPN.
        Auto = "auto",
    }
}

/// `tls` of a pool's upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamTls {
    /// Name to ask for and to verify; `None`: the host of the backend's address.
    pub server_name: Option<String>,
    /// PEM file of the authorities to trust; `None`: those of the system.
    pub ca: Option<Located<PathBuf>>,
    /// Whether the backend's certificate is verified.
    pub verify: bool,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { server_name: None, ca: None, verify: true }
    }
}
