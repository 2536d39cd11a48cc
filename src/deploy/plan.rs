//! What a swap is to do, and how.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::Side;
use super::rules::Rules;

/// A request for a swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Number of the swap and of its report.
    pub id: u64,
    /// The pool.
    pub pool: String,
    /// The version that serves.
    pub from: String,
    /// The version that is to serve.
    pub to: String,
    /// Whether it goes back to a version that served, by hand.
    #[serde(default)]
    pub back: bool,
    /// Who asked, in words: "a reload", "`tidegate swap` from 127.0.0.1".
    pub asked_by: String,
    /// Addresses of the new version's backends, without those that were drained or disabled by hand.
    pub backends: Vec<Arc<str>>,
}

impl Order {
    /// The version of that side.
    #[must_use]
    pub fn version(&self, side: Side) -> &String {
        match side {
            Side::Old => &self.from,
            Side::New => &self.to,
        }
    }
}

/// How it is done: `[pools.X.swap]` as far as it concerns decisions.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Passes in a row that every backend of the new version must show; 0: none is asked for.
    pub gate_checks: u32,
    /// Pause between two checks of a backend.
    pub check_pause: Duration,
    /// How long the gate may take.
    pub gate_timeout: Duration,
    /// How many smoke requests there are.
    pub smoke: usize,
    /// Whether the version that the backends tell is checked.
    pub expect_version: bool,
    /// Whether connections are opened before the switch.
    pub warm_up: bool,
    /// Whether live requests are copied to the new version during the gate.
    pub shadow: Option<Shadow>,
    /// Shares of the new version before all, rising.
    pub ramp: Vec<f64>,
    /// How long each share lasts.
    pub ramp_step: Duration,
    /// How long the old version stays warm after that; zero: not at all.
    pub watch: Duration,
    /// Share kept on the old version during the watch.
    pub control: f64,
    /// For requests on the version that is let go.
    pub drain_timeout: Duration,
    /// What becomes of tunnels on it.
    pub tunnels: Tunnels,
    /// How much a verdict may do.
    pub mode: Mode,
    /// Latency samples begin this long after the switch.
    pub grace: Duration,
    /// What the verdict asks.
    pub rules: Rules,
}

impl Plan {
    /// The same for going back later, when the watch is over: the health of the version is checked,
    /// and nothing else, since it has served before.
    #[must_use]
    pub fn back(self) -> Self {
        Self {
            smoke: 0,
            expect_version: false,
            shadow: None,
            ramp: Vec::new(),
            watch: Duration::ZERO,
            mode: Mode::Off,
            ..self
        }
    }

    /// Whether the gate asks nothing.
    #[must_use]
    pub fn is_unchecked(&self) -> bool {
        self.gate_checks == 0 && self.smoke == 0 && !self.expect_version && !self.warm_up
    }

    /// The same with a gate that asks nothing.
    #[must_use]
    pub fn unchecked(self) -> Self {
        Self { gate_checks: 0, smoke: 0, expect_version: false, warm_up: false, ..self }
    }
}

/// How much a verdict may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Judge, and go back.
    Enforce,
    /// Judge, and only report.
    Observe,
    /// Do not judge.
    Off,
}

/// Copying live GET requests to the new version, whose answers are compared and thrown away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shadow {
    /// Share of them.
    pub share: f64,
    /// For how long.
    pub lasts: Duration,
}

/// What becomes of tunnels on the version that is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnels {
    /// Whether they are closed at once.
    pub close: bool,
    /// Else: when they are closed after all, counted from the beginning of the drain; `None`: never.
    pub deadline: Option<Duration>,
    /// How many are closed a second.
    pub per_second: u32,
}
