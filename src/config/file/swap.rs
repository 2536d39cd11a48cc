//! `[pools.NAME.swap]`.

use std::time::Duration;

use super::judgement::http_probe;
use crate::config::addresses::{field_name, is_token, request_path};
use crate::config::model::{
    ExpectVersion, Mode, Must, Rollback, Shadow, Smoke, Swap, ToldBy, TunnelDrain, TunnelRelease,
    WarmUp,
};
use crate::config::reader::Section;
use crate::config::source::Located;
use crate::config::values::{
    Problem, Scalar, choice, count, duration, duration_or_none, factor, factor_or_none, positive,
    positive_duration, share, share_between, text, whole,
};

pub(super) fn swap(s: &mut Section) -> Swap {
    let default = Swap::default();
    let ramp = s.list("ramp", share_between(0.0, 1.0)).unwrap_or_default();
    check_rising(s, &ramp);
    Swap {
        gate_checks: s.get_or("gate_checks", default.gate_checks, positive),
        gate_timeout: s.get_or("gate_timeout", default.gate_timeout, positive_duration),
        smoke: s.tables("smoke", smoke).unwrap_or(default.smoke),
        expect_version: s.optional_table("expect_version", expect_version),
        warm_up: s.table("warm_up", warm_up),
        shadow: s.table("shadow", shadow),
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

fn smoke(s: &mut Section) -> Smoke {
    s.require("path", "say what to ask for: path = \"/\"".to_owned());
    Smoke {
        probe: http_probe(s),
        method: s.get_or("method", "GET".to_owned(), method),
        timeout: s.get_or("timeout", Duration::from_secs(5), positive_duration),
    }
}

fn method(scalar: &Scalar) -> Result<String, Problem> {
    let method = text(scalar)?;
    if is_token(&method) && method != "CONNECT" {
        return Ok(method);
    }
    Err(Problem::new(format!("`{method}` cannot be the method of a smoke request")))
}

fn expect_version(s: &mut Section) -> ExpectVersion {
    let path = s.get_or("path", "/".to_owned(), request_path);
    let header = s.get("header", field_name);
    let json = s.get("json", text);
    if header.is_some() && json.is_some() {
        s.error_at("json", "the version is told by `header` or by `json`, not by both", None);
    } else if !s.has("header") && !s.has("json") {
        let help = "header = \"x-version\", or json = \"build.version\"".to_owned();
        s.error("nothing says where the answer tells the version", help);
    }
    let equals = s.get("equals", text);
    let differs = s.get("differs_from", text);
    if equals.is_some() && differs.is_some() {
        s.error_at("differs_from", "give `equals` or `differs_from`, not both", None);
    }
    let told_by = match (header, json) {
        (Some(header), _) => ToldBy::Header(header),
        (None, json) => ToldBy::Json(json.unwrap_or_default()),
    };
    let must = match (equals, differs) {
        (Some(value), _) => Must::Equal(value),
        (None, Some(value)) => Must::DifferFrom(value),
        (None, None) => Must::DifferFromOld,
    };
    ExpectVersion { path, told_by, must }
}

fn warm_up(s: &mut Section) -> WarmUp {
    let default = WarmUp::default();
    WarmUp {
        connections: s.get_or("connections", default.connections, count),
        requests: s.get_or("requests", default.requests, whole(0..=1_000)),
        path: s.get_or("path", default.path, request_path),
    }
}

fn shadow(s: &mut Section) -> Shadow {
    let default = Shadow::default();
    Shadow {
        share: s.get_or("share", default.share, share),
        lasts: s.get_or("lasts", default.lasts, positive_duration),
    }
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
