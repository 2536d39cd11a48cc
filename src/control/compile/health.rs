//! How the backends of a pool are probed.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::config::{Diagnostic, model};
use crate::control::probe::{Check, HttpCheck, Question};
use crate::health::{DrainWish, Expect, FlapSettings, Settings, StatusRanges};
use crate::state::pool::UpstreamSettings;

pub(super) fn settings(pool: &model::Pool) -> Settings {
    let flap_guard = &pool.health.flap_guard;
    Settings {
        rise: pool.health.rise,
        fall: pool.health.fall,
        base_ejection: pool.outliers.base_ejection,
        max_ejection: pool.outliers.max_ejection,
        flaps: FlapSettings {
            downs: flap_guard.downs.unwrap_or(0),
            window: flap_guard.window,
            hold: flap_guard.hold,
            max_hold: flap_guard.max_hold,
        },
    }
}

pub(super) fn check(
    pool: &model::Pool,
    upstream: &Arc<UpstreamSettings>,
) -> Result<Check, Box<Diagnostic>> {
    let health = &pool.health;
    Ok(Check {
        question: match &health.probe {
            model::ProbeKind::Http(http) => {
                let check = http_check(http).map_err(|problem| {
                    let key = format!("pools.{}.health", pool.name.value);
                    Box::new(Diagnostic::error(problem).at(pool.name.span).key(key))
                })?;
                Question::Http(Box::new(check))
            }
            model::ProbeKind::Tcp => Question::Connect,
            model::ProbeKind::Grpc { service } => {
                Question::Grpc { service: service.as_str().into() }
            }
        },
        wish: DrainWish {
            header: health.drain_header.as_deref().map(Arc::from),
            body: health.drain_body.as_deref().map(Arc::from),
        },
        interval: health.interval,
        timeout: health.timeout,
        port: health.port,
        upstream: Arc::clone(upstream),
        settings: settings(pool),
    })
}

/// What is wrong with the check is an error in words.
pub(super) fn http_check(probe: &model::HttpProbe) -> Result<HttpCheck, String> {
    let path = probe.path.parse();
    let path = path.map_err(|_| format!("`{}` cannot be asked for as a path", probe.path))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &probe.headers {
        let wrong = || format!("the header field `{name}` cannot be sent");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        headers.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    let host = headers.remove(header::HOST);
    let ranges = probe.expect_status.iter().map(|range| range.first..=range.last);
    let expect = Expect {
        status: StatusRanges::new(ranges),
        body: probe.expect_body.as_deref().map(Arc::from),
    };
    Ok(HttpCheck { method: Method::GET, path, host, headers, expect })
}
