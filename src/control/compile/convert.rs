//! Words of the configuration in the words of the rooms that act on them.

use std::time::Duration;

use http::StatusCode;
use http::uri::Scheme;
use tracing::Level;

use crate::balance;
use crate::config::model;
use crate::health::{BreakerSettings, outliers};
use crate::state::pool::{PickRules, Protocol, QueueSettings, RetryPolicy, SecureCookie};
use crate::state::snapshot::ListenerLimits;
use crate::state::{Address, Redirect};
use crate::telemetry::log::Format;

/// A time of zero means that there is no limit.
pub(super) fn limit(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

/// Level and shape of the log.
pub fn log_settings(log: &model::Log) -> (Level, Format) {
    let level = match log.level {
        model::LogLevel::Error => Level::ERROR,
        model::LogLevel::Warn => Level::WARN,
        model::LogLevel::Info => Level::INFO,
        model::LogLevel::Debug => Level::DEBUG,
        model::LogLevel::Trace => Level::TRACE,
    };
    let format = match log.format {
        model::LogFormat::Text => Format::Text,
        model::LogFormat::Json => Format::Json,
    };
    (level, format)
}

pub(super) fn address(address: &model::BackendAddress) -> Address {
    match address {
        model::BackendAddress::Ip(ip) => Address::Ip(*ip),
        model::BackendAddress::Name { host, port } => {
            Address::Name { host: host.clone(), port: *port }
        }
        model::BackendAddress::Unix(path) => Address::Unix(path.clone()),
    }
}

pub(super) fn limits(limits: &model::Limits) -> ListenerLimits {
    ListenerLimits {
        handshake_timeout: limits.handshake_timeout,
        header_timeout: limits.header_timeout,
        body_timeout: limits.body_timeout,
        write_timeout: limits.write_timeout,
        half_close_timeout: limits.half_close_timeout,
        keepalive_timeout: limits.keepalive_timeout,
        keepalive_max_age: limits.keepalive_max_age,
        max_header_bytes: u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX),
        max_headers: u16::try_from(limits.max_headers).unwrap_or(u16::MAX),
        max_connections: limits.max_connections.unwrap_or(usize::MAX),
        max_connections_per_address: limits.max_connections_per_address.unwrap_or(usize::MAX),
        h2_streams: limits.h2_streams,
    }
}

pub(super) fn rules(pool: &model::Pool) -> PickRules {
    PickRules {
        policy: match pool.policy {
            model::Policy::LeastConnections => balance::Policy::LeastConnections,
            model::Policy::RoundRobin => balance::Policy::RoundRobin,
            model::Policy::RandomTwo => balance::Policy::RandomTwo,
            model::Policy::IpHash => balance::Policy::IpHash,
        },
        panic_threshold: pool.panic_threshold,
        all_down: match pool.all_down {
            model::AllDown::Try => balance::AllDown::Try,
            model::AllDown::Fail => balance::AllDown::Fail,
        },
    }
}

pub(super) fn queue(pool: &model::Pool) -> QueueSettings {
    let limit = pool.max_requests_per_backend;
    QueueSettings {
        // What no machine could hold is no limit.
        max_requests_per_backend: limit.map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        size: pool.queue.size,
        timeout: pool.queue.timeout,
    }
}

pub(super) fn circuit_breaker(pool: &model::Pool) -> Option<BreakerSettings> {
    pool.circuit_breaker.as_ref().map(|breaker| BreakerSettings {
        failures: breaker.failures,
        open_for: breaker.open_for,
        trials: breaker.trials,
        successes: breaker.successes,
    })
}

pub(super) fn retries(retries: &model::Retries) -> RetryPolicy {
    let on = |reason| retries.on.contains(&reason);
    let status = |reason: &model::RetryOn| match reason {
        model::RetryOn::Status(status) => Some(*status),
        _ => None,
    };
    RetryPolicy {
        attempts: retries.attempts,
        budget: retries.budget,
        budget_floor: retries.budget_floor,
        on_connect: on(model::RetryOn::Connect),
        on_reset: on(model::RetryOn::Reset),
        on_refused_stream: on(model::RetryOn::RefusedStream),
        on_timeout: on(model::RetryOn::Timeout),
        on_status: retries.on.iter().filter_map(status).collect(),
    }
}

pub(super) fn outliers(outliers: &model::Outliers) -> outliers::Settings {
    outliers::Settings {
        consecutive_failures: outliers.consecutive_failures.unwrap_or(0),
        failure_rate: outliers.failure_rate,
        failure_factor: outliers.failure_factor,
        min_requests: outliers.min_requests,
        window: outliers.window,
        latency_factor: outliers.latency_factor,
        latency_floor: outliers.latency_floor,
        max_ejected: outliers.max_ejected,
        mode: match outliers.mode {
            model::Mode::Enforce => outliers::Mode::Enforce,
            model::Mode::Observe => outliers::Mode::Observe,
            model::Mode::Off => outliers::Mode::Off,
        },
    }
}

pub(super) fn secure_cookie(pool: &model::Pool) -> SecureCookie {
    match pool.affinity.as_ref().map(|affinity| affinity.secure) {
        None | Some(model::SecureCookie::Auto) => SecureCookie::Auto,
        Some(model::SecureCookie::Always) => SecureCookie::Always,
        Some(model::SecureCookie::Never) => SecureCookie::Never,
    }
}

pub(super) fn protocol(protocol: model::UpstreamProtocol) -> Protocol {
    match protocol {
        model::UpstreamProtocol::Http1 => Protocol::Http1,
        model::UpstreamProtocol::H2 => Protocol::H2,
        model::UpstreamProtocol::Auto => Protocol::Auto,
    }
}

pub(super) fn redirect(redirect: &model::Redirect) -> Redirect {
    Redirect {
        // The configuration allows five codes, all of which are good.
        status: StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::PERMANENT_REDIRECT),
        scheme: redirect.scheme.map(|scheme| match scheme {
            model::Scheme::Http => Scheme::HTTP,
            model::Scheme::Https => Scheme::HTTPS,
        }),
        host: redirect.host.clone(),
        port: redirect.port,
        path: redirect.path.clone(),
    }
}
