//! `[pools.NAME]`: backends, versions, affinity and how backends are spoken to.

use std::collections::BTreeMap;

use super::{judgement, swap};
use crate::config::addresses;
use crate::config::model::{
    Affinity, AllDown, Backend, Policy, Pool, Queue, Secret, SecureCookie, Upstream,
    UpstreamProtocol, UpstreamTls, Version,
};
use crate::config::reader::{Section, Value};
use crate::config::source::Located;
use crate::config::values::{
    Problem, Scalar, boolean, choice, count, count_or_none, duration, duration_or_none,
    positive_duration, share, text, whole,
};

pub(super) fn pool(s: &mut Section, name: Located<String>) -> Pool {
    let default = Pool::default();
    let versions = versions(s);
    if s.has("swap") && !s.has("versions") {
        let message = "`swap` has no effect: this pool has no versions to swap";
        s.warn_at("swap", message, "put the backends under `versions`, or remove it");
    }
    let limit =
        s.get_or("max_requests_per_backend", default.max_requests_per_backend, count_or_none);
    let queue = s.table("queue", queue);
    if limit.is_none() && queue != default.queue {
        let message = "nobody waits in this `queue`: the backends have no limit";
        s.warn_at("queue", message, "set `max_requests_per_backend`, or remove it");
    }
    Pool {
        name,
        policy: s.get_or("policy", default.policy, choice::<Policy>),
        active: active(s, &versions),
        versions,
        affinity: s.optional_table("affinity", affinity).flatten(),
        max_requests_per_backend: limit,
        queue,
        slow_start: s.get_or("slow_start", default.slow_start, duration),
        panic_threshold: s.get_or("panic_threshold", default.panic_threshold, share),
        all_down: s.get_or("all_down", default.all_down, choice::<AllDown>),
        upstream: s.table("upstream", upstream),
        health: s.table("health", judgement::health),
        outliers: s.table("outliers", judgement::outliers),
        retries: s.table("retries", judgement::retries),
        circuit_breaker: s.optional_table("circuit_breaker", judgement::circuit_breaker),
        swap: s.table("swap", swap::swap),
    }
}

fn versions(s: &mut Section) -> BTreeMap<String, Version> {
    let mut versions = s.named_tables("versions", version);
    if s.has("versions") {
        s.forbid(&["backends"], "stands beside `versions`, which have backends of their own");
        if versions.is_empty() {
            s.error_at("versions", "no version is named", NO_BACKENDS.to_owned());
        }
        // Asked for all the same, so that it counts as known.
        let _ = s.value("backends");
    } else {
        let plain = Version { name: Located::default(), backends: backends(s) };
        versions.insert(String::new(), plain);
    }
    versions
}

fn active(s: &mut Section, versions: &BTreeMap<String, Version>) -> Located<String> {
    let active = s.located("active", text);
    match (s.has("versions"), s.has("active")) {
        (true, false) => {
            let help = versions.keys().next().map(|name| format!("add active = \"{name}\""));
            s.error("`active` is missing: which version is to serve?", help);
        }
        (false, true) => s.error_at(
            "active",
            "`active` names a version, and this pool has none",
            "remove it, or put the backends under `versions`".to_owned(),
        ),
        _ => {}
    }
    match s.has("versions") {
        true => active.unwrap_or_default(),
        false => Located::default(),
    }
}

const NO_BACKENDS: &str = "give it at least one: backends = [\"127.0.0.1:3001\"]";

fn version(s: &mut Section, name: Located<String>) -> Version {
    Version { name, backends: backends(s) }
}

fn backends(s: &mut Section) -> Vec<Backend> {
    s.refuse_empty_list("backends", NO_BACKENDS);
    let Some(value) = s.value("backends") else {
        s.require("backends", NO_BACKENDS.to_owned());
        return Vec::new();
    };
    let entries = value.entries().unwrap_or_default();
    entries.iter().filter_map(|entry| backend(s, entry)).collect()
}

fn backend(s: &Section, value: &Value) -> Option<Backend> {
    let grammar = addresses::backend(s.directory());
    if !value.is_table() {
        let address = value.read(grammar)?;
        return Some(Backend { address, weight: 1, backup: false });
    }
    value.table(|s| {
        s.require("address", "say where the backend listens".to_owned());
        let address = s.located("address", grammar);
        let weight = s.get_or("weight", 1, weight);
        let backup = s.get_or("backup", false, boolean);
        address.map(|address| Backend { address, weight, backup })
    })
}

fn weight(scalar: &Scalar) -> Result<u32, Problem> {
    if *scalar == Scalar::Integer(0) {
        let problem = Problem::new("a backend of weight 0 would get no request");
        return Err(problem.help("remove it, or take it out with `tidegate disable`"));
    }
    whole(1..=65_535)(scalar)
}

fn affinity(s: &mut Section) -> Option<Affinity> {
    s.require("cookie", "name the cookie: cookie = \"tidegate_app\"".to_owned());
    let cookie = s.get("cookie", addresses::cookie_name);
    let ttl = s.get("ttl", cookie_ttl).flatten();
    let secure = s.get_or("secure", SecureCookie::Auto, choice::<SecureCookie>);
    let secret = s.get("secret", secret);
    Some(Affinity { cookie: cookie?, ttl, secure, secret })
}

fn cookie_ttl(scalar: &Scalar) -> Result<Option<std::time::Duration>, Problem> {
    match scalar {
        Scalar::Text { text, .. } if text == "session" => Ok(None),
        other => positive_duration(other).map(Some),
    }
}

/// The value itself is never part of an error: errors end up in logs.
pub(super) fn secret(scalar: &Scalar) -> Result<Secret, Problem> {
    match scalar {
        Scalar::Text { text, .. } if text.len() >= 16 => Ok(Secret(text.to_string())),
        Scalar::Text { .. } => Err(Problem::new("this secret is too short to be one")
            .help("use at least 16 characters, such as the output of `openssl rand -hex 16`")),
        _ => Err(Problem::new("expected a text in quotes")),
    }
}

fn queue(s: &mut Section) -> Queue {
    let default = Queue::default();
    Queue {
        size: s.get_or("size", default.size, count),
        timeout: s.get_or("timeout", default.timeout, positive_duration),
    }
}

fn upstream(s: &mut Section) -> Upstream {
    let default = Upstream::default();
    let upstream = Upstream {
        protocol: s.get_or("protocol", default.protocol, choice::<UpstreamProtocol>),
        tls: s.optional_table("tls", upstream_tls),
        connect_timeout: s.get_or("connect_timeout", default.connect_timeout, positive_duration),
        response_timeout: s.get_or("response_timeout", default.response_timeout, positive_duration),
        body_idle_timeout: s.get_or(
            "body_idle_timeout",
            default.body_idle_timeout,
            positive_duration,
        ),
        tunnel_idle_timeout: s.get_or(
            "tunnel_idle_timeout",
            default.tunnel_idle_timeout,
            duration_or_none,
        ),
        keepalive_timeout: s.get_or("keepalive_timeout", default.keepalive_timeout, duration),
        keepalive_connections: s.get_or(
            "keepalive_connections",
            default.keepalive_connections,
            count,
        ),
        min_idle: s.get_or("min_idle", default.min_idle, count),
        keepalive_request: s.get("keepalive_request", addresses::request_path),
        keepalive_interval: s.get_or(
            "keepalive_interval",
            default.keepalive_interval,
            positive_duration,
        ),
    };
    if upstream.min_idle > upstream.keepalive_connections {
        s.error_at(
            "min_idle",
            "`min_idle` is more than `keepalive_connections`",
            "what is kept open is unused: raise `keepalive_connections` to it".to_owned(),
        );
    }
    if upstream.min_idle == 0 && upstream.keepalive_request.is_some() {
        let message =
            "nothing is asked by this `keepalive_request`: no connections are kept for it";
        s.warn_at("keepalive_request", message, "set `min_idle`, or remove it");
    }
    if upstream.min_idle > 0 && upstream.keepalive_timeout.is_zero() {
        let message = "connections are kept open by `min_idle`, and closed at once by \
                       `keepalive_timeout = \"0s\"`";
        s.warn_at("min_idle", message, "set `keepalive_timeout`, or remove `min_idle`");
    }
    if upstream.protocol == UpstreamProtocol::Auto && upstream.tls.is_none() {
        s.error_at(
            "protocol",
            "`auto` asks the backend during the TLS handshake, and there is no `tls`",
            "choose \"http1\" or \"h2\", or add tls = {}".to_owned(),
        );
    }
    upstream
}

fn upstream_tls(s: &mut Section) -> UpstreamTls {
    let tls = UpstreamTls {
        server_name: s.get("server_name", addresses::server_name),
        ca: s.path("ca"),
        verify: s.get_or("verify", UpstreamTls::default().verify, boolean),
    };
    if !tls.verify {
        s.forbid(&["ca"], "has no meaning with `verify = false`");
        s.warn_at(
            "verify",
            "backends are not verified: anyone on the way can be one",
            "trust their authority with `ca` instead",
        );
    }
    tls
}
