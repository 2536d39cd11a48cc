//! What is asked of a new version at the gate of a swap.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use super::health;
use crate::config::{Diagnostic, model};
use crate::control::probe::{Check, HttpCheck, Question};
use crate::control::swaps::questions::{Must, Questions, TIMEOUT, ToldBy, VersionQuestion};
use crate::health::DrainWish;
use crate::state::pool::UpstreamSettings;

pub(super) fn compile(
    pool: &model::Pool,
    upstream: &Arc<UpstreamSettings>,
) -> Result<Questions, Box<Diagnostic>> {
    questions(pool, upstream).map_err(|problem| {
        let key = format!("pools.{}.swap", pool.name.value);
        Box::new(Diagnostic::error(problem).at(pool.name.span).key(key))
    })
}

fn questions(pool: &model::Pool, upstream: &Arc<UpstreamSettings>) -> Result<Questions, String> {
    let swap = &pool.swap;
    let check = |http: HttpCheck, timeout: Duration| Check {
        question: Question::Http(Box::new(http)),
        wish: DrainWish::default(),
        interval: pool.health.interval,
        timeout,
        port: None,
        upstream: Arc::clone(upstream),
        settings: health::settings(pool),
    };
    // Any status but a failure is an answer.
    let get = |path: &str| {
        let path = path.to_owned();
        let probe = model::HttpProbe { path, ..model::HttpProbe::default() };
        health::http_check(&probe).map(|http| check(http, TIMEOUT))
    };
    let smoke = swap.smoke.iter().map(|smoke| {
        let mut http = health::http_check(&smoke.probe)?;
        let wrong = |_| format!("`{}` cannot be the method of a smoke request", smoke.method);
        http.method = Method::from_bytes(smoke.method.as_bytes()).map_err(wrong)?;
        Ok(check(http, smoke.timeout))
    });
    let version = swap.expect_version.as_ref().map(|expect| {
        let check = get(&expect.path)?;
        Ok::<_, String>(VersionQuestion {
            check,
            told_by: told_by(&expect.told_by)?,
            must: must(&expect.must),
        })
    });
    let warm_up = &swap.warm_up;
    let request = (warm_up.requests > 0).then(|| get(&warm_up.path)).transpose()?;
    Ok(Questions {
        smoke: smoke.collect::<Result<_, String>>()?,
        version: version.transpose()?,
        connections: warm_up.connections,
        requests: (warm_up.requests, request),
    })
}

fn told_by(told_by: &model::ToldBy) -> Result<ToldBy, String> {
    match told_by {
        model::ToldBy::Header(name) => HeaderName::from_bytes(name.as_bytes())
            .map(ToldBy::Header)
            .map_err(|_| format!("`{name}` cannot be the name of a header field")),
        model::ToldBy::Json(path) => Ok(ToldBy::Json(path.split('.').map(str::to_owned).collect())),
    }
}

fn must(must: &model::Must) -> Must {
    match must {
        model::Must::Equal(value) => Must::Equal(value.clone()),
        model::Must::DifferFrom(value) => Must::DifferFrom(value.clone()),
        model::Must::DifferFromOld => Must::DifferFromOld,
    }
}
