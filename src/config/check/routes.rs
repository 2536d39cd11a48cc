//! Routes: the names in them, and that no two match the same requests.

use std::collections::HashMap;

use crate::config::diagnostic::Diagnostic;
use crate::config::model::{Config, Fallback, HostPattern, Route, RouteAction};
use crate::config::reader::Reader;
use crate::config::source::Located;
use crate::config::suggest::suggest;

pub(super) fn check(config: &Config, reader: &Reader) {
    for (index, route) in config.routes.iter().enumerate() {
        check_names(config, reader, index, route);
    }
    check_route_names(config, reader);
    check_equal_routes(config, reader);
}

fn check_names(config: &Config, reader: &Reader, index: usize, route: &Route) {
    if let RouteAction::Pool(pool) = &route.action
        && pool.span.is_some()
        && !config.pools.contains_key(&pool.value)
    {
        let known = config.pools.keys().map(String::as_str);
        report_unknown(reader, "pool", pool, format!("routes[{index}].pool"), known);
    }
    check_fallback(config, reader, index, route);
    for (position, listener) in route.listeners.iter().enumerate() {
        if !config.listeners.contains_key(&listener.value) {
            let key = format!("routes[{index}].listeners[{position}]");
            let known = config.listeners.keys().map(String::as_str);
            report_unknown(reader, "listener", listener, key, known);
        }
    }
}

fn check_fallback(config: &Config, reader: &Reader, index: usize, route: &Route) {
    let Some(Fallback::Pool(pool)) = &route.fallback else { return };
    let key = format!("routes[{index}].fallback.pool");
    if !config.pools.contains_key(&pool.value) {
        let known = config.pools.keys().map(String::as_str);
        report_unknown(reader, "pool", pool, key, known);
    } else if matches!(&route.action, RouteAction::Pool(own) if own.value == pool.value) {
        let error = Diagnostic::error("this fallback is the pool that it is to stand in for");
        reader.report(error.at(pool.span).key(key).help("name another one".to_owned()));
    }
}

fn report_unknown<'a>(
    reader: &Reader,
    what: &str,
    name: &Located<String>,
    key: String,
    known: impl Iterator<Item = &'a str> + Clone,
) {
    let error = Diagnostic::error(format!("there is no {what} `{}`", name.value));
    reader.report(error.at(name.span).key(key).help(suggest(name, known)));
}

fn check_route_names(config: &Config, reader: &Reader) {
    let mut seen: HashMap<&str, &Route> = HashMap::new();
    for (index, route) in config.routes.iter().enumerate() {
        let Some(name) = &route.name else { continue };
        if let Some(first) = seen.insert(name, route) {
            let error = Diagnostic::error(format!("two routes are named `{name}`"));
            reader.report(
                error
                    .at(route.place.span)
                    .key(format!("routes[{index}].name"))
                    .related(first.place.span, "the first stands"),
            );
        }
    }
}

/// What decides between routes; the listener is `None` for a route that names none.
type Match<'a> = (Option<&'a HostPattern>, &'a str, Option<&'a str>);

fn matches(route: &Route) -> Vec<Match<'_>> {
    let hosts: Vec<_> = match route.hosts.as_slice() {
        [] => vec![None],
        hosts => hosts.iter().map(|host| Some(&host.value)).collect(),
    };
    let listeners: Vec<_> = match route.listeners.as_slice() {
        [] => vec![None],
        listeners => listeners.iter().map(|listener| Some(listener.as_str())).collect(),
    };
    let path = route.path.as_str();
    let on_listeners = |host| listeners.iter().map(move |listener| (host, path, *listener));
    hosts.into_iter().flat_map(on_listeners).collect()
}

fn check_equal_routes(config: &Config, reader: &Reader) {
    let mut seen: HashMap<Match, usize> = HashMap::new();
    for (index, route) in config.routes.iter().enumerate() {
        let key = format!("routes[{index}]");
        // What a route matches is known only if it was read whole.
        if reader.failed(&key) {
            continue;
        }
        let mut reported = false;
        for matched in matches(route) {
            let first = *seen.entry(matched).or_insert(index);
            if first != index && !reported {
                report_equal(reader, &config.routes[first], route, key.clone(), matched);
                reported = true;
            }
        }
        check_repeats(reader, route, &key);
    }
}

fn report_equal(reader: &Reader, first: &Route, second: &Route, key: String, matched: Match) {
    let (host, path, listener) = matched;
    let host = host.map_or("any host".to_owned(), |host| format!("host `{host}`"));
    let listener = listener.map_or(String::new(), |name| format!(" on listener `{name}`"));
    let error = Diagnostic::error("two routes match the same requests");
    reader.report(
        error
            .at(second.place.span)
            .key(key)
            .related(
                first.place.span,
                format!("the first, for {host}, path `{path}`{listener}, is"),
            )
            .help("make them differ in `hosts`, `path` or `listeners`".to_owned()),
    );
}

fn check_repeats(reader: &Reader, route: &Route, key: &str) {
    for (position, host) in route.hosts.iter().enumerate() {
        if let Some(first) = route.hosts[..position].iter().find(|first| *first == host) {
            let error = Diagnostic::error(format!("host `{}` stands here twice", host.value));
            let error = error.at(host.span).key(format!("{key}.hosts[{position}]"));
            reader.report(error.related(first.span, "the first is"));
        }
    }
}
