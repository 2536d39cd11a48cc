//! `[pools.NAME.swap]`.

use super::judgement::http_probe;
use crate::config::model::{HttpProbe, Mode, Rollback, Swap, TunnelDrain, TunnelRelease};
use crate::config::reader::Section;
use crate::config::source::Located;
use crate::config::values::{
    Problem, Scalar, choice, count, duration, duration_or_none, factor, factor_or_none, positive,
    positive_duration, share, share_between,
};

pub(super) fn swap(s: &mut Section) -> Swap {
    let default = Swap::default();
    let ramp = s.list("ramp", share_between(0.0, 1.0)).unwrap_or_default();
    check_rising(s, &ramp);
    Swap {
        gate_checks: s.get_or("gate_checks", default.gate_checks, positive),
        gate_timeout: s.get_or("gate_timeout", default.gate_timeout, positive_duration),
        smoke: s.tables("smoke", smoke).unwrap_or(default.smoke),
        warm_up_connections: s
            .table("warm_up", |s| s.get_or("connections", default.warm_up_connections, count)),
        ramp: ramp.into_iter().map(|share| share.value).collect(),
        ramp_step: s.get_or("ramp_step", default.ramp_step, positive_duration),
        watch: s.get_or("watch", default.watch, duration),
        control: s.get_or("control", default.control, control),
        drain_timeout: s.get_or("drain_timeout", default.drain_timeout, duration),
        tunnels: s.table("tunnels", tunnels),
        rollback: s.table("rollback", rollback),
    }
}

fn check_rising(s: &Section, ramp: &[Located<f64>]) {
    for pair in ramp.windows(2) {
        if pair[1].value <= pair[0].value {
            s.error_in("ramp", pair[1].span, "the shares of a ramp must rise".to_owned());
        }
    }
}

fn smoke(s: &mut Section) -> HttpProbe {
    s.require("path", "say what to ask for: path = \"/\"".to_owned());
    http_probe(s)
}

fn control(scalar: &Scalar) -> Result<f64, Problem> {
    match share(scalar)? {
        share if share <= 0.5 => Ok(share),
        _ => Err(Problem::new(format!("{scalar} of the requests would stay on the old version"))
            .help("it must be at most 50%")),
    }
}

fn tunnels(s: &mut Section) -> TunnelDrain {
    let default = TunnelDrain::default();
    let tunnels = TunnelDrain {
        drain: s.get_or("drain", default.drain, choice::<TunnelRelease>),
        deadline: s.get_or("deadline", default.deadline, duration_or_none),
        per_second: s.get_or("per_second", default.per_second, positive),
    };
    if tunnels.drain == TunnelRelease::Close && tunnels.deadline.is_some() {
        let message = "`deadline` has no meaning with `drain = \"close\"`, which closes at once";
        s.error_at("deadline", message, "use drain = \"keep\" with a deadline".to_owned());
    }
    tunnels
}

fn rollback(s: &mut Section) -> Rollback {
    let default = Rollback::default();
    Rollback {
        mode: s.get_or("mode", default.mode, choice::<Mode>),
        min_requests: s.get_or("min_requests", default.min_requests, positive),
        error_rate: s.get_or("error_rate", default.error_rate, share_between(0.0, 1.0)),
        error_rate_factor: s.get_or("error_rate_factor", default.error_rate_factor, factor),
        latency_factor: s.get_or("latency_factor", default.latency_factor, factor_or_none),
        latency_floor: s.get_or("latency_floor", default.latency_floor, duration),
        grace: s.get_or("grace", default.grace, duration),
        confidence: s.get_or("confidence", default.confidence, confidence),
    }
}

fn confidence(scalar: &Scalar) -> Result<f64, Problem> {
    match share(scalar)? {
        share if (0.5..1.0).contains(&share) => Ok(share),
        _ => Err(Problem::new(format!("{scalar} is out of range"))
            .help("it must be at least 50% and below 100%")),
    }
}
