//! From `[pools.X.swap]` to what the machine of a swap goes by.

use std::time::Duration;

use crate::config::model;
use crate::deploy::{Mode, Plan, Rules, Shadow, Tunnels};

/// The longest pause between two checks of a backend at the gate: who waits for a swap should not
/// wait for the interval of its probes.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a swap of this pool is done.
pub fn plan(pool: &model::Pool) -> Plan {
    let swap = &pool.swap;
    let shadow = Shadow { share: swap.shadow.share, lasts: swap.shadow.lasts };
    Plan {
        gate_checks: swap.gate_checks,
        check_pause: pool.health.interval.min(LONGEST_PAUSE),
        gate_timeout: swap.gate_timeout,
        smoke: swap.smoke.len(),
        expect_version: swap.expect_version.is_some(),
        warm_up: swap.warm_up.connections > 0 || swap.warm_up.requests > 0,
        shadow: (shadow.share > 0.0).then_some(shadow),
        ramp: swap.ramp.clone(),
        ramp_step: swap.ramp_step,
        watch: swap.watch,
        control: swap.control,
        drain_timeout: swap.drain_timeout,
        tunnels: Tunnels {
            close: swap.tunnels.drain == model::TunnelRelease::Close,
            deadline: swap.tunnels.deadline,
            per_second: swap.tunnels.per_second,
        },
        mode: match swap.rollback.mode {
            model::Mode::Enforce => Mode::Enforce,
            model::Mode::Observe => Mode::Observe,
            model::Mode::Off => Mode::Off,
        },
        grace: swap.rollback.grace,
        rules: rules(&swap.rollback),
    }
}

fn rules(rollback: &model::Rollback) -> Rules {
    Rules {
        min_requests: u64::from(rollback.min_requests),
        error_rate: rollback.error_rate,
        error_rate_factor: rollback.error_rate_factor,
        latency_factor: rollback.latency_factor,
        latency_floor: rollback.latency_floor,
        confidence: rollback.confidence,
    }
}
