//! Routes that do not take what a reader of the file might think: others stand before them.
//!
//! None of it is an error, since the rules of precedence are certain; but whoever adds a route for
//! one host should know what that host no longer gets from the routes for all hosts.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Config, Route};

/// Findings that are told; what comes after them is more of the same.
const MAX_FINDINGS: usize = 20;
/// Pairs of routes and hosts that are looked at: a file of thousands of both has no surprises left.
const MAX_PAIRS: usize = 200_000;

/// What stands before what, each in words; the first of them, if there are many.
#[must_use]
pub fn shadowed_routes(config: &Config) -> Vec<String> {
    let mut findings: Vec<String> = never_taken(config).take(MAX_FINDINGS).collect();
    let left = MAX_FINDINGS - findings.len();
    findings.extend(narrowed(config).into_iter().take(left));
    findings
}

/// Routes for all listeners where each listener has one of its own for the same requests.
fn never_taken(config: &Config) -> impl Iterator<Item = String> {
    let mut named: BTreeMap<(Option<String>, &str), BTreeSet<&str>> = BTreeMap::new();
    for route in config.routes.iter().filter(|route| !route.listeners.is_empty()) {
        for host in hosts(route) {
            let listeners = named.entry((host, &route.path)).or_default();
            listeners.extend(route.listeners.iter().map(|listener| listener.as_str()));
        }
    }
    let for_all = config.routes.iter().enumerate().filter(|(_, route)| route.listeners.is_empty());
    for_all.filter_map(move |(index, route)| {
        let is_covered = |host| {
            let listeners = named.get(&(host, route.path.as_str()));
            listeners.is_some_and(|listeners| listeners.len() == config.listeners.len())
        };
        hosts(route).into_iter().all(is_covered).then(|| {
            format!(
                "{} is never taken: every listener has a route of its own for the same requests",
                name(index, route)
            )
        })
    })
}

/// Requests that a route for a wider host does not get, since a more specific host has routes.
fn narrowed(config: &Config) -> Vec<String> {
    let mut by_host: BTreeMap<String, Vec<(usize, &Route)>> = BTreeMap::new();
    for (index, route) in config.routes.iter().enumerate() {
        for host in hosts(route).into_iter().flatten() {
            by_host.entry(host).or_default().push((index, route));
        }
    }
    let mut findings = Vec::new();
    let mut pairs = 0;
    for (index, wide) in config.routes.iter().enumerate() {
        for pattern in hosts(wide) {
            for (host, routes) in by_host.iter().filter(|(host, _)| covers(&pattern, host)) {
                pairs += 1;
                if pairs > MAX_PAIRS || findings.len() == MAX_FINDINGS {
                    return findings;
                }
                findings.extend(narrows((index, wide), host, routes));
            }
        }
    }
    findings
}

fn narrows(
    (index, wide): (usize, &Route),
    host: &str,
    routes: &[(usize, &Route)],
) -> Option<String> {
    let beside = routes.iter().filter(|(_, route)| share_a_listener(wide, route));
    let beside: Vec<_> = beside.collect();
    if beside.is_empty() {
        return None;
    }
    let path = wide.path.as_str();
    let taking = beside.iter().filter(|(_, route)| takes(&route.path, path));
    let best = taking.max_by_key(|(_, route)| route.path.len());
    let wide = name(index, wide);
    match best {
        Some((_, route)) if route.path.as_str() == path => None,
        Some((by, route)) => Some(format!(
            "{host}{path} goes to {}, not to {wide}: {host} has routes of its own, and the most \
             specific host decides",
            name(*by, route)
        )),
        None => Some(format!(
            "{host}{path} is answered with 404, and not by {wide}: {host} has routes of its own, and \
             none of them takes it"
        )),
    }
}

fn hosts(route: &Route) -> Vec<Option<String>> {
    match route.hosts.as_slice() {
        [] => vec![None],
        hosts => hosts.iter().map(|host| Some(host.value.to_string())).collect(),
    }
}

/// Whether a host, or every host of a wildcard, is one of the wider pattern's, and not the same.
fn covers(wide: &Option<String>, host: &str) -> bool {
    let Some(wide) = wide else { return true };
    let suffix = wide.strip_prefix('*').filter(|_| wide != host);
    suffix.is_some_and(|suffix| host.trim_start_matches('*').ends_with(suffix) && host != suffix)
}

/// As routes take paths: at a segment boundary.
fn takes(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
}

fn share_a_listener(one: &Route, other: &Route) -> bool {
    let names = |route: &Route, wanted: &str| {
        route.listeners.is_empty() || route.listeners.iter().any(|name| name.as_str() == wanted)
    };
    one.listeners.is_empty()
        || other.listeners.is_empty()
        || one.listeners.iter().any(|listener| names(other, listener))
}

fn name(index: usize, route: &Route) -> String {
    route.name.as_ref().map_or_else(|| format!("routes[{index}]"), |name| format!("route {name}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn findings(routes: &str) -> Vec<String> {
        let text = format!(
            "[listeners.a]\nbind = \"127.0.0.1:1\"\n[listeners.b]\nbind = \"127.0.0.1:2\"\n\
             [pools.app]\nbackends = [\"127.0.0.1:3\"]\n{routes}"
        );
        let parsed = crate::config::parse(&text, Path::new("test.toml"), &|_| None);
        shadowed_routes(&parsed.unwrap_or_else(|errors| panic!("{errors}")).config)
    }

    #[test]
    fn a_route_before_which_every_listener_has_its_own_is_never_taken() {
        let all = "[[routes]]\nname = \"all\"\npool = \"app\"\n";
        let own = |listeners| format!("[[routes]]\nlisteners = {listeners}\npool = \"app\"\n");
        assert!(findings(&format!("{all}{}", own("[\"a\"]"))).is_empty());
        let found = findings(&format!("{all}{}{}", own("[\"a\"]"), own("[\"b\"]")));
        let words = "route all is never taken: every listener has a route of its own for the same \
                     requests";
        assert_eq!(found, [words]);
    }

    #[test]
    fn a_host_with_routes_of_its_own_gets_nothing_from_wider_ones() {
        let routes = "[[routes]]\npool = \"app\"\n[[routes]]\npath = \"/api\"\npool = \"app\"\n\
                      [[routes]]\nhosts = [\"x.test\"]\npool = \"app\"\n\
                      [[routes]]\nhosts = [\"y.test\"]\npath = \"/api\"\npool = \"app\"\n";
        assert_eq!(
            findings(routes),
            [
                "y.test/ is answered with 404, and not by routes[0]: y.test has routes of its own, \
                 and none of them takes it",
                "x.test/api goes to routes[2], not to routes[1]: x.test has routes of its own, and \
                 the most specific host decides",
            ]
        );
    }

    #[test]
    fn wildcards_are_wider_than_what_they_stand_for() {
        for (wide, host, expected) in [
            ("*.x.test", "a.x.test", true),
            ("*.x.test", "*.a.x.test", true),
            ("*.x.test", "x.test", false),
            ("*.x.test", "*.x.test", false),
            ("*.a.x.test", "*.x.test", false),
            ("*.x.test", "ax.test", false),
        ] {
            assert_eq!(covers(&Some(wide.to_owned()), host), expected, "{wide} and {host}");
        }
    }

    #[test]
    fn routes_on_different_listeners_are_no_rivals() {
        let routes = "[[routes]]\nlisteners = [\"a\"]\npool = \"app\"\n\
                      [[routes]]\nlisteners = [\"b\"]\nhosts = [\"y.test\"]\npath = \"/api\"\n\
                      pool = \"app\"\n";
        assert!(findings(routes).is_empty());
    }
}
