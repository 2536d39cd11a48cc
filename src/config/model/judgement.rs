//! How the backends of a pool are probed, judged and retried.

use std::time::Duration;

use super::StatusRange;
use crate::config::choice::choice;

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
    /// A backend whose answer has a field of this name is drained for as long as it has; only with
    /// [`ProbeKind::Http`].
    pub drain_header: Option<String>,
    /// The same for a 503 with this text in its body.
    pub drain_body: Option<String>,
    /// What if it goes up and down all the time.
    pub flap_guard: FlapGuard,
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
            drain_header: None,
            drain_body: None,
            flap_guard: FlapGuard::default(),
        }
    }
}

/// `flap_guard` of a pool's health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlapGuard {
    /// Times down within `window` from which on a backend is held down; `None`: off.
    pub downs: Option<u32>,
    /// How far back they count.
    pub window: Duration,
    /// For how long it is held; the n-th time in a row n times as long ...
    pub hold: Duration,
    /// ... up to this; never below `hold`.
    pub max_hold: Duration,
}

impl Default for FlapGuard {
    fn default() -> Self {
        Self {
            downs: Some(3),
            window: Duration::from_secs(60),
            hold: Duration::from_secs(10),
            max_hold: Duration::from_secs(120),
        }
    }
}

/// `circuit_breaker` of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Failed requests in a row that open it, at least 1.
    pub failures: u32,
    /// How long it stays open.
    pub open_for: Duration,
    /// Trials at a time after that, at least 1.
    pub trials: u32,
    /// Good trials in a row that close it, at least 1.
    pub successes: u32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(60), trials: 1, successes: 2 }
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
    Grpc {
        /// Of which service; empty: of the server as a whole.
        service: String,
    },
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
