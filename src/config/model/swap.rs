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
    pub smoke: Vec<HttpProbe>,
    /// Connections opened to every new backend before the swap (`warm_up.connections`); 0: none.
    pub warm_up_connections: usize,
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
            warm_up_connections: 4,
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
