//! Routes: the table that requests are looked up in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Findings, convert};
use crate::config::Diagnostic;
use crate::config::model::{self, Config};
use crate::state::route::{RouteEntry, RouteTable};
use crate::state::{Pool, Route, Target};

pub(super) fn compile(
    config: &Config,
    pools: &BTreeMap<Arc<str>, Arc<Pool>>,
    findings: &mut Findings,
) -> RouteTable<Arc<Route>> {
    let entries = config.routes.iter().enumerate();
    // A route without its pool belongs to a configuration that has errors already.
    let entries: Vec<_> =
        entries.filter_map(|(index, route)| entry(config, pools, index, route)).collect();
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

fn entry(
    config: &Config,
    pools: &BTreeMap<Arc<str>, Arc<Pool>>,
    index: usize,
    route: &model::Route,
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
            target,
            timeout: route.timeout,
            max_body: route.max_body,
        }),
    })
}
