//! When the numbers say that a version is bad: what is asked of it beside the old one.

use std::time::Duration;

use super::history::Baseline;
use super::sample::Tally;
use super::statistics::wilson_upper;
use super::words::plural;

/// Latencies of the old version below which its 95th percentile is not known well enough.
const MIN_LATENCIES: u64 = 200;

/// When the numbers say that a version is bad (`[pools.X.swap.rollback]` but for its `mode`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Requests below which there is no verdict.
    pub min_requests: u64,
    /// Share of errors that is always accepted.
    pub error_rate: f64,
    /// Errors accepted as a multiple of the old version's.
    pub error_rate_factor: f64,
    /// Slowness accepted as a multiple of the old version's 95th percentile; `None`: any.
    pub latency_factor: Option<f64>,
    /// Latency that is never held against the new version.
    pub latency_floor: Duration,
    /// Certainty that a verdict needs, at least 0.5 and below 1.0.
    pub confidence: f64,
}

impl Rules {
    /// What counts as too slow beside this old version; `Err`: why nothing does.
    pub fn latency_limit(&self, baseline: &Baseline) -> Result<Duration, String> {
        let factor = self.latency_factor.ok_or("latency is not judged: latency_factor is 0")?;
        match baseline.p95_at_most {
            Some(p95) if baseline.timed >= MIN_LATENCIES => {
                Ok(self.latency_floor.max(p95.mul_f64(factor)))
            }
            _ => Err(format!(
                "latency is not judged: only {} of the old version to compare with, and it takes {MIN_LATENCIES}",
                plural(baseline.timed, "response"),
            )),
        }
    }

    /// The share of errors that is accepted beside an old version that failed like `before`, and
    /// like `meanwhile` in the last half minute.
    pub(super) fn accepted(&self, before: Tally, meanwhile: Tally) -> f64 {
        // An old version that never failed has nothing to excuse, however short its history.
        let bound = if before.bad == 0 { 0.0 } else { wilson_upper(before.bad, before.n) };
        self.error_rate.max(self.error_rate_factor * bound.max(meanwhile.share())).min(1.0)
    }
}
