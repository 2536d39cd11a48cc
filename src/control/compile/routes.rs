//! Routes: the table that requests are looked up in.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::{Findings, convert};
use crate::config::Diagnostic;
use crate::config::model::{self, Config};
use crate::control::files::{self, ReadFile};
use crate::state::route::{RouteEntry, RouteTable};
use crate::state::snapshot::{Fallback, StaticAnswer};
use crate::state::{Pool, Route, Target};

pub(super) fn compile(
    config: &Config,
    pools: &BTreeMap<Arc<str>, Arc<Pool>>,
    read: ReadFile<'_>,
    findings: &mut Findings,
) -> RouteTable<Arc<Route>> {
    let entries = config.routes.iter().enumerate();
    // A route without its pool belongs to a configuration that has errors already.
    let entries: Vec<_> = entries
        .filter_map(|(index, route)| {
            let fallback = fallback(route, index, pools, read, findings);
            entry(config, pools, (index, route), fallback)
        })
        .collect();
    RouteTable::new(entries).unwrap_or_else(|duplicate| {
        let place = config.routes.get(duplicate.second).and_then(|route| route.place.span);
        findings.error(
            Diagnostic::error(duplicate.to_string())
                .at(place)
                .key(format!("routes[{}]", duplicate.second)),
        );
        RouteTable::default()
    })
}

/// What a route takes, in words.
fn takes(route: &model::Route) -> String {
    let hosts: Vec<String> = route.hosts.iter().map(|host| host.to_string()).collect();
    let listeners: Vec<&str> = route.listeners.iter().map(|name| name.as_str()).collect();
    let host = if hosts.is_empty() { "any host".to_owned() } else { hosts.join(", ") };
    let on = match listeners.as_slice() {
        [] => String::new(),
        listeners => format!(" on {}", listeners.join(", ")),
    };
    format!("{host}, path {}{on}", route.path.as_str())
}

fn entry(
    config: &Config,
    pools: &BTreeMap<Arc<str>, Arc<Pool>>,
    (index, route): (usize, &model::Route),
    fallback: Option<Fallback>,
) -> Option<RouteEntry<Arc<Route>>> {
    let target = match &route.action {
        model::RouteAction::Pool(name) => Target::Pool(Arc::clone(pools.get(name.as_str())?)),
        model::RouteAction::Redirect(redirect) => Target::Redirect(convert::redirect(redirect)),
    };
    let listener_index = |name: &String| {
        let index = config.listeners.keys().position(|listener| listener == name)?;
        u16::try_from(index).ok()
    };
    let named = !route.listeners.is_empty();
    Some(RouteEntry {
        listeners: named
            .then(|| route.listeners.iter().filter_map(|name| listener_index(name)).collect()),
        hosts: route.hosts.iter().map(|host| host.to_string()).collect(),
        path: route.path.value.clone(),
        value: Arc::new(Route {
            name: route.name.clone().unwrap_or_else(|| format!("routes[{index}]")).into(),
            takes: takes(route).into(),
            target,
            fallback,
            timeout: route.timeout,
            max_body: route.max_body,
        }),
    })
}

/// A file that cannot be read is an error, at the place that names it.
pub(super) fn fallback(
    route: &model::Route,
    index: usize,
    pools: &BTreeMap<Arc<str>, Arc<Pool>>,
    read: ReadFile<'_>,
    findings: &mut Findings,
) -> Option<Fallback> {
    match route.fallback.as_ref()? {
        model::Fallback::Pool(name) => pools.get(name.as_str()).cloned().map(Fallback::Pool),
        model::Fallback::File(answer) => {
            let key = format!("routes[{index}].fallback.file");
            let body = findings.take(files::read(read, &answer.file, &key))?;
            // Both were checked when they were read from the text.
            let content_type = HeaderValue::from_str(&answer.content_type).ok()?;
            let status = StatusCode::from_u16(answer.status).ok()?;
            Some(Fallback::Static(StaticAnswer { status, content_type, body: body.into() }))
        }
    }
}
