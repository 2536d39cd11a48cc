//! What one configuration changes of another, in words for the log and for who asked for it.

use std::collections::{BTreeMap, BTreeSet};

use super::compile::Generation;
use crate::config::model::{BackendAddress, Config, Pool};

/// What another configuration changes of what is in force; empty if there is nothing that anyone would
/// look for. `fingerprints` gives those of the certificates that a listener is to show.
pub(super) fn changes<'a>(
    old: &Generation,
    after: &Config,
    fingerprints: impl Fn(&str) -> Vec<&'a str>,
) -> Vec<String> {
    let before = &old.config;
    let mut changes = Vec::new();
    names("listener", &before.listeners, &after.listeners, &mut changes);
    for (name, listener) in common(&before.listeners, &after.listeners) {
        if listener.0 != listener.1 {
            changes.push(format!("listener {name} changed"));
        } else if old.fingerprints(name) != fingerprints(name) {
            changes.push(format!("listener {name} has new certificates"));
        }
    }
    names("pool", &before.pools, &after.pools, &mut changes);
    for (name, (before, after)) in common(&before.pools, &after.pools) {
        pool(name, before, after, &mut changes);
    }
    if before.routes != after.routes {
        changes.push("routes changed".to_owned());
    }
    sections(before, after, &mut changes);
    changes
}

fn sections(before: &Config, after: &Config, changes: &mut Vec<String>) {
    let sections = [
        ("server", before.server != after.server),
        ("admin", before.admin != after.admin),
        ("log", before.log != after.log),
        ("notify", before.notify != after.notify),
    ];
    let changed = sections.iter().filter(|(_, changed)| *changed);
    changes.extend(changed.map(|(section, _)| format!("[{section}] changed")));
}

fn pool(name: &str, before: &Pool, after: &Pool, changes: &mut Vec<String>) {
    let told = changes.len();
    if !backends(before).eq(backends(after)) {
        let (old, new): (BTreeSet<_>, BTreeSet<_>) =
            (backends(before).collect(), backends(after).collect());
        let added = new.difference(&old).map(|backend| format!("pool {name}: added {backend}"));
        let removed = old.difference(&new).map(|backend| format!("pool {name}: removed {backend}"));
        changes.extend(added.chain(removed));
    }
    if before.active != after.active {
        let (from, to) = (&before.active.value, &after.active.value);
        changes.push(format!("pool {name}: the file wants {to} in place of {from}"));
    }
    if changes.len() == told && before != after {
        changes.push(format!("pool {name} changed"));
    }
}

/// Not as text: a reload looks at all of them, and tells of few.
fn backends(pool: &Pool) -> impl Iterator<Item = &BackendAddress> {
    let backends = pool.versions.values().flat_map(|version| &version.backends);
    backends.map(|backend| &backend.address.value)
}

fn names<T>(
    what: &str,
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    changes: &mut Vec<String>,
) {
    let added = after.keys().filter(|name| !before.contains_key(*name));
    changes.extend(added.map(|name| format!("{what} {name} added")));
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    changes.extend(removed.map(|name| format!("{what} {name} removed")));
}

fn common<'a, T>(
    before: &'a BTreeMap<String, T>,
    after: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (&'a str, (&'a T, &'a T))> {
    after.iter().filter_map(|(name, new)| Some((name.as_str(), (before.get(name)?, new))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn changes(before: &Generation, after: &Generation) -> Vec<String> {
        super::changes(before, &after.config, |listener| after.fingerprints(listener))
    }

    fn generation(pools: &str) -> Generation {
        let text = format!("[listeners.http]\nbind = \"127.0.0.1:0\"\n{pools}");
        let parsed = crate::config::parse(&text, Path::new("test.toml"), &|_| None).unwrap();
        let mut generation = Generation::none();
        generation.config = parsed.config;
        generation
    }

    fn plain(backends: &str) -> Generation {
        generation(&format!("[[routes]]\npool = \"app\"\n[pools.app]\nbackends = {backends}"))
    }

    #[test]
    fn backends_come_and_go() {
        let before = plain("[\"127.0.0.1:1\", \"127.0.0.1:2\"]");
        let after = plain("[\"127.0.0.1:2\", \"127.0.0.1:3\"]");
        let told = ["pool app: added 127.0.0.1:3", "pool app: removed 127.0.0.1:1"];
        assert_eq!(changes(&before, &after), told);
    }

    #[test]
    fn what_is_not_told_in_full_is_told_at_all() {
        let before = plain("[\"127.0.0.1:1\"]");
        let after = plain("[{ address = \"127.0.0.1:1\", weight = 2 }]");
        assert_eq!(changes(&before, &after), ["pool app changed"]);
        assert!(changes(&before, &before).is_empty());
    }

    #[test]
    fn another_active_version_is_told() {
        let shop = |active| {
            generation(&format!(
                "[[routes]]\npool = \"shop\"\n[pools.shop]\nactive = \"{active}\"\n\
                 [pools.shop.versions.blue]\nbackends = [\"127.0.0.1:1\"]\n\
                 [pools.shop.versions.green]\nbackends = [\"127.0.0.1:2\"]\n"
            ))
        };
        let told = ["pool shop: the file wants green in place of blue"];
        assert_eq!(changes(&shop("blue"), &shop("green")), told);
    }
}
