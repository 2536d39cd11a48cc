//! `[pools.NAME.health]`, `.outliers`, `.retries` and `.circuit_breaker`: is a backend well, and
//! what if not.

use crate::config::addresses;
use crate::config::choice::choice as choices;
use crate::config::model::{
    CircuitBreaker, FlapGuard, Health, HttpProbe, Mode, Outliers, ProbeKind, Retries,
};
use crate::config::reader::Section;
use crate::config::values::{
    choice, duration, duration_or_none, factor, factor_or_none, positive, positive_duration,
    positive_share, rate, retry_on, share, status_range, text, whole,
};

choices! {
    /// `type` of a health check, as written.
    ProbeType {
        /// A request.
        Http = "http",
        /// A connection.
        Tcp = "tcp",
        /// The gRPC health protocol.
        Grpc = "grpc",
    }
}

pub(super) fn health(s: &mut Section) -> Health {
    let default = Health::default();
    let of_section = if s.is_written() { ProbeType::Http } else { ProbeType::Tcp };
    let kind = s.get_or("type", of_section, choice::<ProbeType>);
    let http = http_probe(s);
    if kind != ProbeType::Http {
        let reason = format!("has no meaning with `type = \"{kind}\"`");
        s.forbid(&HTTP_PROBE_KEYS, &reason);
        s.forbid(&["drain_header", "drain_body"], &reason);
    }
    let service = s.get("service", text).unwrap_or_default();
    if kind != ProbeType::Grpc {
        s.forbid(&["service"], &format!("has no meaning with `type = \"{kind}\"`"));
    }
    let interval = s.get_or("interval", default.interval, positive_duration);
    let timeout = s.get_or("timeout", default.timeout, positive_duration);
    if timeout > interval {
        let key = if s.has("timeout") { "timeout" } else { "interval" };
        let message = "a check may take longer than the `interval` between two: then the next one \
                       comes that much later";
        s.warn_at(key, message, "set `timeout` to no more than `interval`");
    }
    Health {
        probe: match kind {
            ProbeType::Http => ProbeKind::Http(http),
            ProbeType::Tcp => ProbeKind::Tcp,
            ProbeType::Grpc => ProbeKind::Grpc { service },
        },
        interval,
        timeout,
        fall: s.get_or("fall", default.fall, positive),
        rise: s.get_or("rise", default.rise, positive),
        port: s.get("port", whole(1..=65_535)),
        drain_header: s.get("drain_header", addresses::field_name),
        drain_body: s.get("drain_body", text),
        flap_guard: s.table("flap_guard", flap_guard),
    }
}

fn flap_guard(s: &mut Section) -> FlapGuard {
    let default = FlapGuard::default();
    let guard = FlapGuard {
        downs: s
            .get("downs", whole::<u32>(0..=1_000))
            .map_or(default.downs, |downs| (downs > 0).then_some(downs)),
        window: s.get_or("window", default.window, positive_duration),
        hold: s.get_or("hold", default.hold, positive_duration),
        max_hold: s.get_or("max_hold", default.max_hold, positive_duration),
    };
    if guard.hold > guard.max_hold {
        let key = if s.has("hold") { "hold" } else { "max_hold" };
        let message = "`hold` is longer than `max_hold`";
        s.error_at(key, message, "the first time is the shortest".to_owned());
    }
    guard
}

pub(super) fn circuit_breaker(s: &mut Section) -> CircuitBreaker {
    let default = CircuitBreaker::default();
    CircuitBreaker {
        failures: s.get_or("failures", default.failures, positive),
        open_for: s.get_or("open_for", default.open_for, positive_duration),
        trials: s.get_or("trials", default.trials, positive),
        successes: s.get_or("successes", default.successes, positive),
    }
}

const HTTP_PROBE_KEYS: [&str; 4] = ["path", "expect_status", "expect_body", "headers"];

/// The keys that health checks and smoke tests share.
pub(super) fn http_probe(s: &mut Section) -> HttpProbe {
    let default = HttpProbe::default();
    let help = "no answer could pass: write [\"200-399\"]";
    let statuses = s.filled_list("expect_status", help, status_range);
    HttpProbe {
        path: s.get_or("path", default.path, addresses::request_path),
        expect_status: match statuses {
            Some(statuses) => statuses.into_iter().map(|range| range.value).collect(),
            None => default.expect_status,
        },
        expect_body: s.get("expect_body", text),
        headers: headers(s),
    }
}

fn headers(s: &mut Section) -> Vec<(String, String)> {
    let headers = s.texts("headers").unwrap_or_default();
    for (name, value) in &headers {
        let problem = if !addresses::is_token(name) {
            format!("`{}` cannot be the name of a header field", name.value)
        } else if value.chars().any(char::is_control) {
            format!("the value of `{}` holds a control character", name.value)
        } else {
            continue;
        };
        s.error_in("headers", name.span, problem);
    }
    headers.into_iter().map(|(name, value)| (name.value, value)).collect()
}

pub(super) fn outliers(s: &mut Section) -> Outliers {
    let default = Outliers::default();
    let outliers = Outliers {
        consecutive_failures: s
            .get("consecutive_failures", whole::<u32>(0..=u32::MAX.into()))
            .map_or(default.consecutive_failures, |failures| (failures > 0).then_some(failures)),
        failure_rate: s.get_or("failure_rate", default.failure_rate, positive_share),
        failure_factor: s.get_or("failure_factor", default.failure_factor, factor),
        min_requests: s.get_or("min_requests", default.min_requests, positive),
        window: s.get_or("window", default.window, positive_duration),
        latency_factor: s.get_or("latency_factor", default.latency_factor, factor_or_none),
        latency_floor: s.get_or("latency_floor", default.latency_floor, duration),
        stall: s.get_or("stall", default.stall, duration_or_none),
        base_ejection: s.get_or("base_ejection", default.base_ejection, positive_duration),
        max_ejection: s.get_or("max_ejection", default.max_ejection, positive_duration),
        max_ejected: s.get_or("max_ejected", default.max_ejected, share),
        mode: s.get_or("mode", default.mode, choice::<Mode>),
    };
    if outliers.base_ejection > outliers.max_ejection {
        let key = if s.has("base_ejection") { "base_ejection" } else { "max_ejection" };
        let message = "`base_ejection` is longer than `max_ejection`";
        s.error_at(key, message, "the first ejection is the shortest".to_owned());
    }
    outliers
}

pub(super) fn retries(s: &mut Section) -> Retries {
    let default = Retries::default();
    let on = s.list("on", retry_on).map(|list| {
        let mut distinct = Vec::with_capacity(list.len());
        for reason in list {
            if !distinct.contains(&reason.value) {
                distinct.push(reason.value);
            }
        }
        distinct
    });
    Retries {
        attempts: s.get_or("attempts", default.attempts, whole(1..=100)),
        on: on.unwrap_or(default.on),
        budget: s.get_or("budget", default.budget, share),
        budget_floor: s.get_or("budget_floor", default.budget_floor, rate),
    }
}
