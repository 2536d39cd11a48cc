//! How one version of a pool gives way to another.

use std::time::Duration;

use super::{HttpProbe, Mode};
use crate::config::choice::choice;

/// `[pools.NAME.swap]`: before, during and after a swap.
#[derive(Debug, Clone, PartialEq)]
pub struct Swap {
    /// Passes in a row that every backend of the new version must show, at least 1.
    pub gate_checks: u32,
    /// How long the gate may take.
    pub gate_timeout: Duration,
    /// Asked of every new backend before the swap.
    pub smoke: Vec<Smoke>,
    /// What the backends must tell of their version, if that is asked.
    pub expect_version: Option<ExpectVersion>,
    /// What is done before the swap so that the first requests find all ready.
    pub warm_up: WarmUp,
    /// Live requests that the gate copies to the new version.
    pub shadow: Shadow,
    /// Shares of the new version before all, rising, each above 0.0 and below 1.0.
    pub ramp: Vec<f64>,
    /// How long each share lasts.
    pub ramp_step: Duration,
    /// How long the old version stays warm and the new one is judged; zero: not at all.
    pub watch: Duration,
    /// Share kept on the old version during the watch, at most 0.5.
    pub control: f64,
    /// For requests on the old version, once it is let go.
    pub drain_timeout: Duration,
    /// What becomes of tunnels to the old version.
    pub tunnels: TunnelDrain,
    /// `[pools.NAME.swap.rollback]`: the verdict on the new version.
    pub rollback: Rollback,
}

impl Default for Swap {
    fn default() -> Self {
        Self {
            gate_checks: 3,
            gate_timeout: Duration::from_secs(300),
            smoke: Vec::new(),
            expect_version: None,
            warm_up: WarmUp::default(),
            shadow: Shadow::default(),
            ramp: Vec::new(),
            ramp_step: Duration::from_secs(30),
            watch: Duration::from_secs(600),
            control: 0.0,
            drain_timeout: Duration::from_secs(30),
            tunnels: TunnelDrain::default(),
            rollback: Rollback::default(),
        }
    }
}

/// A smoke request, and what must come back.
#[derive(Debug, Clone, PartialEq)]
pub struct Smoke {
    /// The request and the answer.
    pub probe: HttpProbe,
    /// A token of RFC 9110 section 9.1.
    pub method: String,
    /// For all of it.
    pub timeout: Duration,
}

/// `expect_version` of a pool's swap: a GET, and what its answer must tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectVersion {
    /// What to ask for.
    pub path: String,
    /// Where the answer tells the version.
    pub told_by: ToldBy,
    /// What it must be.
    pub must: Must,
}

/// Where an answer tells the version of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToldBy {
    /// In this header field.
    Header(String),
    /// In this field of a JSON body, by the names on the way to it, with dots between them.
    Json(String),
}

/// What a version must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Must {
    /// This.
    Equal(String),
    /// Anything but this.
    DifferFrom(String),
    /// Anything but what the old version tells.
    DifferFromOld,
}

/// `warm_up` of a pool's swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmUp {
    /// Connections opened to every new backend; 0: none.
    pub connections: usize,
    /// GET requests sent to every new backend, one after another; 0: none.
    pub requests: usize,
    /// What they ask for.
    pub path: String,
}

impl Default for WarmUp {
    fn default() -> Self {
        Self { connections: 4, requests: 0, path: "/".to_owned() }
    }
}

/// `shadow` of a pool's swap.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadow {
    /// Share of the live GET requests that is copied; 0.0: none.
    pub share: f64,
    /// For how long.
    pub lasts: Duration,
}

impl Default for Shadow {
    fn default() -> Self {
        Self { share: 0.0, lasts: Duration::from_secs(30) }
    }
}

/// `tunnels` of a pool's swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelDrain {
    /// Whether they are left alone at first.
    pub drain: TunnelRelease,
    /// With [`TunnelRelease::Keep`]: when they are closed after all; `None`: never.
    pub deadline: Option<Duration>,
    /// How many are closed a second, at least 1.
    pub per_second: u32,
}

impl Default for TunnelDrain {
    fn default() -> Self {
        Self { drain: TunnelRelease::Keep, deadline: None, per_second: 50 }
    }
}

choice! {
    /// `drain` of a swap's tunnels.
    TunnelRelease {
        /// Until they end, or `deadline`.
        Keep = "keep",
        /// At once, so many a second.
        Close = "close",
    }
}

/// `[pools.NAME.swap.rollback]`: when the numbers say that the new version is bad.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollback {
    /// How much a verdict may do.
    pub mode: Mode,
    /// Requests below which there is no verdict, at least 1.
    pub min_requests: u32,
    /// Share of errors that is always accepted, above 0.0 and below 1.0.
    pub error_rate: f64,
    /// Errors accepted as a multiple of the old version's; at least 1.0.
    pub error_rate_factor: f64,
    /// Slowness accepted as a multiple of the old version's p95; `None`: off, else above 1.0.
    pub latency_factor: Option<f64>,
    /// Latency that is never held against the new version.
    pub latency_floor: Duration,
    /// Latency counts from this long after the switch.
    pub grace: Duration,
    /// Certainty that a verdict needs, at least 0.5 and below 1.0.
    pub confidence: f64,
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            min_requests: 20,
            error_rate: 0.01,
            error_rate_factor: 2.0,
            latency_factor: Some(3.0),
            latency_floor: Duration::from_millis(100),
            grace: Duration::from_secs(3),
            confidence: 0.999,
        }
    }
}
