//! Pools: their backends, and how these are spoken to, probed, judged and retried.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{BackendAddress, StatusRange, Swap};
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

/// `[pools.NAME.health]`: probing. The default is what an absent section means.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// What is asked.
    pub probe: ProbeKind,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// For one whole probe.
    pub timeout: Duration,
    /// Failures in a row until a backend is down, at least 1.
    pub fall: u32,
    /// Passes in a row until it is up, at least 1.
    pub rise: u32,
    /// Another port to probe; `None`: that of the backend.
    pub port: Option<u16>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            probe: ProbeKind::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            fall: 2,
            rise: 2,
            port: None,
        }
    }
}

/// `type` of a pool's health check.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeKind {
    /// A request that must be answered as expected.
    Http(HttpProbe),
    /// A TCP connection that must open.
    Tcp,
    /// `grpc.health.v1.Health/Check`, which must say SERVING.
    Grpc,
}

/// A GET and what must come back; for health checks and for smoke tests.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// Path and query to ask for.
    pub path: String,
    /// Statuses that pass, at least one range.
    pub expect_status: Vec<StatusRange>,
    /// Text that the body must contain.
    pub expect_body: Option<String>,
    /// Header fields to send, names as written; `Host` replaces the one that we would send.
    pub headers: Vec<(String, String)>,
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            expect_status: vec![StatusRange { first: 200, last: 399 }],
            expect_body: None,
            headers: Vec::new(),
        }
    }
}

choice! {
    /// How much a judgement may do.
    Mode {
        /// Judge, report and act.
        Enforce = "enforce",
        /// Judge and report what it would have done.
        Observe = "observe",
        /// Do not judge.
        Off = "off",
    }
}

/// `[pools.NAME.outliers]`: judging backends by real traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct Outliers {
    /// Failures in a row that eject; `None`: off.
    pub consecutive_failures: Option<u32>,
    /// Share of failed requests in `window` that ejects, above 0.0 ...
    pub failure_rate: f64,
    /// ... if it is also this many times the rest of the pool; at least 1.0.
    pub failure_factor: f64,
    /// Requests in `window` below which rates say nothing, at least 1.
    pub min_requests: u32,
    /// How far back rates look.
    pub window: Duration,
    /// Median against that of the siblings; `None`: off, else above 1.0.
    pub latency_factor: Option<f64>,
    /// Latency that is never held against a backend.
    pub latency_floor: Duration,
    /// Wait for a response head that makes a backend suspect; `None`: off.
    pub stall: Option<Duration>,
    /// First ejection, multiplied by the number of repeats ...
    pub base_ejection: Duration,
    /// ... up to this; never below `base_ejection`.
    pub max_ejection: Duration,
    /// Share of the pool that may be ejected at once.
    pub max_ejected: f64,
    /// How much it may do.
    pub mode: Mode,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(5),
            failure_rate: 0.2,
            failure_factor: 5.0,
            min_requests: 20,
            window: Duration::from_secs(10),
            latency_factor: Some(5.0),
            latency_floor: Duration::from_millis(250),
            stall: Some(Duration::from_millis(300)),
            base_ejection: Duration::from_secs(10),
            max_ejection: Duration::from_secs(300),
            max_ejected: 0.5,
            mode: Mode::Enforce,
        }
    }
}

/// `[pools.NAME.retries]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retries {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// What is worth another attempt, in the order of the file without repeats.
    pub on: Vec<RetryOn>,
    /// Retries allowed as a share of recent requests ...
    pub budget: f64,
    /// ... plus this many a second.
    pub budget_floor: f64,
}

impl Default for Retries {
    fn default() -> Self {
        let on = [RetryOn::Connect, RetryOn::Reset, RetryOn::RefusedStream, RetryOn::Timeout];
        let statuses = [502, 503, 504].map(RetryOn::Status);
        Self {
            attempts: 3,
            on: on.into_iter().chain(statuses).collect(),
            budget: 0.2,
            budget_floor: 10.0,
        }
    }
}

/// One entry of `on` in a pool's retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// No connection could be made.
    Connect,
    /// The connection broke before the response head.
    Reset,
    /// The backend said that it did not process the stream (RFC 9113 section 8.7).
    RefusedStream,
    /// `connect_timeout` or `response_timeout` passed.
    Timeout,
    /// The backend answered with this status, 400 to 599.
    Status(u16),
}
