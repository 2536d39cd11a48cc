//! Pools: that every address stands in one place, and that versions can do their work.

use foldhash::{HashMap, HashMapExt as _, HashSet};

use crate::config::diagnostic::Diagnostic;
use crate::config::model::{Backend, BackendAddress, Config, Fallback, Pool, Route, RouteAction};
use crate::config::reader::Reader;
use crate::config::suggest::suggest;

pub(super) fn check(config: &Config, reader: &Reader) {
    // Once for all pools: there may be thousands of them, and of routes.
    let used: HashSet<&str> = config.routes.iter().flat_map(pools_of).collect();
    for (name, pool) in &config.pools {
        let key = format!("pools.{name}");
        check_addresses(reader, pool, &key);
        check_backups(reader, pool, &key);
        check_server_names(reader, pool, &key);
        check_active(reader, pool, &key);
        if !used.contains(&**name) {
            warn_unused(reader, pool, &key);
        }
    }
}

fn backends_key(key: &str, version: &str) -> String {
    match version {
        "" => format!("{key}.backends"),
        version => format!("{key}.versions.{version}.backends"),
    }
}

fn check_addresses(reader: &Reader, pool: &Pool, key: &str) {
    let backends = pool.versions.values().map(|version| version.backends.len()).sum();
    let mut seen: HashMap<&BackendAddress, (&str, &Backend)> = HashMap::with_capacity(backends);
    for (version, set) in &pool.versions {
        for backend in &set.backends {
            let Some((other, first)) = seen.insert(&backend.address, (version, backend)) else {
                continue;
            };
            let address = &backend.address.value;
            let error = if other == version {
                Diagnostic::error(format!("backend {address} stands here twice"))
                    .help("for a larger share give it a `weight`".to_owned())
            } else {
                Diagnostic::error(format!("backend {address} stands in two versions"))
                    .help("each version needs servers of its own".to_owned())
            };
            let error = error.at(backend.address.span).key(backends_key(key, version));
            reader.report(error.related(first.address.span, "the first is"));
        }
    }
}

fn check_backups(reader: &Reader, pool: &Pool, key: &str) {
    for (version, set) in &pool.versions {
        let place = set.backends.first().map(|backend| backend.address.span);
        if let Some(place) = place
            && set.backends.iter().all(|backend| backend.backup)
        {
            let warning = Diagnostic::warning("every backend here is a backup");
            let warning = warning.at(place).key(backends_key(key, version));
            reader.report(warning.help("one without `backup` takes the requests".to_owned()));
        }
    }
}

/// The name that a certificate must carry is the host of the address; a Unix socket has none.
fn check_server_names(reader: &Reader, pool: &Pool, key: &str) {
    let nameless = pool.upstream.tls.as_ref().is_some_and(|tls| tls.server_name.is_none());
    let backends = pool.versions.values().flat_map(|version| &version.backends);
    let mut sockets =
        backends.filter(|backend| matches!(backend.address.value, BackendAddress::Unix(_)));
    if nameless
        && !reader.failed(&format!("{key}.upstream"))
        && let Some(socket) = sockets.next()
    {
        let error = Diagnostic::error("TLS to a Unix socket needs a name to verify");
        let error = error.at(socket.address.span).key(format!("{key}.upstream.tls"));
        reader.report(error.help("add `server_name` to the pool's `upstream.tls`".to_owned()));
    }
}

fn check_active(reader: &Reader, pool: &Pool, key: &str) {
    if pool.active.span.is_some() && !pool.versions.contains_key(&pool.active.value) {
        let error = Diagnostic::error(format!("there is no version `{}`", pool.active.value));
        let known = pool.versions.keys().map(String::as_str);
        let error = error.at(pool.active.span).key(format!("{key}.active"));
        reader.report(error.help(suggest(&pool.active, known)));
    }
}

/// The names of the pools that a route leads to.
fn pools_of(route: &Route) -> impl Iterator<Item = &str> {
    let action = match &route.action {
        RouteAction::Pool(name) => Some(name),
        RouteAction::Redirect(_) => None,
    };
    let fallback = match &route.fallback {
        Some(Fallback::Pool(name)) => Some(name),
        Some(Fallback::File(_)) | None => None,
    };
    action.into_iter().chain(fallback).map(|name| name.value.as_str())
}

fn warn_unused(reader: &Reader, pool: &Pool, key: &str) {
    let name = &pool.name.value;
    let warning = Diagnostic::warning(format!("no route leads to pool `{name}`"));
    let help = format!("add a [[routes]] with pool = \"{name}\"");
    reader.report(warning.at(pool.name.span).key(key).help(help));
}
