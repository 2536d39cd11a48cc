//! What a reload would do, made ready beside what is in force and then thrown away.
//!
//! It is the real thing up to the last step: the same parsing, the same certificates, the same
//! comparison. Only the sockets are not bound.

mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::changes::changes;
use super::compile::Generation;
use super::swaps::{Board, PoolSwaps, RunningSwap, held, swap_plan};
use crate::config::model::{Config, Pool, Version};
use crate::config::shadowed_routes;
use crate::state::Snapshot;

/// Certificates that expire sooner are named.
const NEAR: Duration = Duration::from_secs(30 * 86_400);

/// A file to be looked at in place of the one that a reload would read.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its text.
    pub text: String,
    /// Where it is: names it in errors, and relative paths begin at its directory.
    pub path: PathBuf,
}

/// What a reload would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReloadPlan {
    /// The file that was looked at.
    pub file: String,
    /// The file that a reload reads, if that is another.
    pub reload_reads: Option<String>,
    /// Whether anything would change.
    pub changes_anything: bool,
    /// Versions that serve and are not in the file, and what would follow, in words.
    pub leaving: Vec<String>,
    /// The differences, in words, as a reload tells them.
    pub changes: Vec<String>,
    /// Listeners by name.
    pub listeners: Difference,
    /// Pools by name.
    pub pools: Difference,
    /// Pools that change, by name.
    pub backends: BTreeMap<String, BackendsPlan>,
    /// Swaps that would begin.
    pub swaps: Vec<PlannedSwap>,
    /// What becomes of swaps that run, in words.
    pub running: Vec<String>,
    /// Pools where another version serves than the file wants, in words.
    pub overrides: Vec<String>,
    /// Open WebSockets and other tunnels: all stay open.
    pub tunnels: u64,
    /// Those of them that stay open on backends that leave.
    pub tunnels_on_removed: u64,
    /// Certificates that expire soon.
    pub certificates: Vec<ExpiringCertificate>,
    /// Routes that others stand before, in words.
    pub shadowed: Vec<String>,
    /// What is probably not meant, each ready to be shown.
    pub warnings: Vec<String>,
    /// All of it as text for people.
    pub text: String,
}

/// Names by what becomes of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Difference {
    /// As before, their sockets or connections too.
    pub kept: Vec<String>,
    /// There before and after, with other settings.
    pub changed: Vec<String>,
    /// New.
    pub added: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
}

/// What becomes of a pool's backends.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BackendsPlan {
    /// New ones.
    pub added: Vec<String>,
    /// Those that leave: what they have in flight is finished.
    pub removed: Vec<String>,
    /// Those that stay as they are, connections and health included.
    pub kept: usize,
}

/// A swap that a reload would begin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedSwap {
    /// The pool.
    pub pool: String,
    /// The version that serves.
    pub from: String,
    /// The version that is to serve.
    pub to: String,
    /// The swap that runs and would be cancelled for it, in words.
    pub cancels: Option<String>,
}

/// A certificate that expires soon, or has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpiringCertificate {
    /// Where it is served.
    pub listener: String,
    /// For which names.
    pub names: Vec<String>,
    /// The file that it is in.
    pub file: String,
    /// Whole days that are left; negative: it has expired.
    pub days: i64,
}

/// Compares what is in force with what would be.
pub(super) fn plan(
    old: &Generation,
    new: &Generation,
    swaps: &Board,
    now: SystemTime,
) -> ReloadPlan {
    let changes = changes(old, &new.config, |listener| new.fingerprints(listener));
    let (before, after) = (&old.config, &new.config);
    let is_same = |name: &str| {
        before.listeners.get(name) == after.listeners.get(name)
            && !changes
                .iter()
                .any(|change| *change == format!("listener {name} has new certificates"))
    };
    let PlannedSwaps { swaps, running, overrides, leaving } = planned_swaps(before, new, swaps);
    let (tunnels, tunnels_on_removed) = tunnels(&old.snapshot, new);
    let names = |pools: &BTreeMap<String, Pool>| pools.keys().cloned().collect();
    let mut plan = ReloadPlan {
        file: String::new(),
        reload_reads: None,
        changes_anything: !changes.is_empty() || !swaps.is_empty(),
        leaving,
        listeners: difference(
            &before.listeners.keys().cloned().collect(),
            &after.listeners.keys().cloned().collect(),
            is_same,
        ),
        pools: difference(&names(&before.pools), &names(&after.pools), |name| {
            before.pools.get(name) == after.pools.get(name)
        }),
        backends: BTreeMap::new(),
        changes,
        swaps,
        running,
        overrides,
        tunnels,
        tunnels_on_removed,
        certificates: expiring(new, now),
        shadowed: shadowed_routes(after),
        warnings: Vec::new(),
        text: String::new(),
    };
    for name in &plan.pools.changed {
        let (Some(before), Some(after)) = (before.pools.get(name), after.pools.get(name)) else {
            continue;
        };
        plan.backends.insert(name.clone(), backends(before, after));
    }
    plan
}

fn difference(
    before: &BTreeSet<String>,
    after: &BTreeSet<String>,
    is_same: impl Fn(&str) -> bool,
) -> Difference {
    let (kept, changed) =
        before.intersection(after).cloned().partition(|name: &String| is_same(name));
    Difference {
        kept,
        changed,
        added: after.difference(before).cloned().collect(),
        removed: before.difference(after).cloned().collect(),
    }
}

fn backends(before: &Pool, after: &Pool) -> BackendsPlan {
    let (before, after) = (addresses(before.versions.values()), addresses(after.versions.values()));
    BackendsPlan {
        added: after.difference(&before).cloned().collect(),
        removed: before.difference(&after).cloned().collect(),
        kept: before.intersection(&after).count(),
    }
}

fn addresses<'a>(versions: impl IntoIterator<Item = &'a Version>) -> BTreeSet<String> {
    let backends = versions.into_iter().flat_map(|version| &version.backends);
    backends.map(|backend| backend.address.to_string()).collect()
}

/// What a reload would mean for swaps.
#[derive(Debug, Default)]
struct PlannedSwaps {
    swaps: Vec<PlannedSwap>,
    running: Vec<String>,
    overrides: Vec<String>,
    leaving: Vec<String>,
}

/// As the governor does it after a reload: another `active` asks for a swap, and nothing else does.
fn planned_swaps(before: &Config, new: &Generation, board: &Board) -> PlannedSwaps {
    let mut planned = PlannedSwaps::default();
    for (name, pool) in &new.config.pools {
        let Some(state) = board.pool(name).filter(|_| !pool.versions.contains_key("")) else {
            continue;
        };
        let active = &pool.active.value;
        let words = leaving(pool, &state).map(|words| format!("pool {name}: {words}"));
        planned.leaving.extend(words);
        let words = running(before.pools.get(name), pool, &state);
        planned.running.extend(words.map(|words| format!("pool {name}: {words}")));
        let is_open = |running: &&RunningSwap| running.outcome.is_none();
        let on_its_way = state.running.as_ref().filter(is_open).map(|running| &running.to);
        if !pool.versions.contains_key(&state.serving) {
            // What the file wants serves then.
            continue;
        }
        if state.wanted == *active {
            let words = state.override_.map(|why| format!("pool {name}: {}", why.words));
            planned.overrides.extend(words);
        } else if ![Some(&state.serving), on_its_way].contains(&Some(active)) {
            planned.swaps.push(PlannedSwap {
                pool: name.clone(),
                from: state.serving,
                to: active.clone(),
                cancels: state.running.map(|running| running.words),
            });
        }
    }
    planned
}

/// What becomes of a swap that runs and has both of its versions in the file, in words. A swap that
/// another one would end is told with that.
fn running(before: Option<&Pool>, after: &Pool, state: &PoolSwaps) -> Option<String> {
    let swap = state.running.as_ref().filter(|running| running.outcome.is_none())?;
    let [from, to] = [&swap.from, &swap.to].map(|version| after.versions.get(version));
    let (Some(_), Some(to)) = (from, to) else { return None };
    let (active, id) = (&after.active.value, swap.id);
    if state.wanted != *active && swap.to != *active {
        let is_told = state.serving != *active;
        return (!is_told).then(|| {
            format!(
                "swap {id} would be cancelled, since this file wants {active}: {active} would serve"
            )
        });
    }
    let before = before?;
    let has_new_plan = swap_plan(before) != swap_plan(after);
    let has_new_backends = addresses(before.versions.get(&swap.to)) != addresses([to]);
    match swap.phase {
        "gate" if has_new_plan || has_new_backends => {
            Some(format!("the gate of swap {id} would begin again"))
        }
        _ if has_new_plan => Some(format!("[swap] changes; swap {id} would go on as it began")),
        _ if state.wanted != *active => Some(format!("swap {id} is on its way to {active}")),
        _ => None,
    }
}

/// What would follow if a version that serves is not in the file, in words.
fn leaving(pool: &Pool, state: &PoolSwaps) -> Option<String> {
    let (active, serving) = (&pool.active.value, &state.serving);
    let is_there = |version: &String| pool.versions.contains_key(version);
    let on_its_way = state.running.as_ref().filter(|running| running.outcome.is_none());
    match on_its_way {
        Some(running) if !is_there(&running.to) => {
            let (to, id) = (&running.to, running.id);
            let serves = if is_there(serving) { serving } else { active };
            Some(format!("{to} is not in this file: swap {id} would end, {serves} would serve"))
        }
        Some(running) if !is_there(serving) && running.share > 0.0 => {
            let to = &running.to;
            Some(format!("{serving} is not in this file: {to} would stay, without a way back"))
        }
        _ if !is_there(serving) => Some(format!(
            "{serving} serves and is not in this file: {active} would serve, without a gate and a \
             watch"
        )),
        _ => None,
    }
}

/// All that are open, and those on backends that leave.
fn tunnels(old: &Snapshot, new: &Generation) -> (u64, u64) {
    let (mut all, mut on_removed) = (0, 0);
    for (name, pool) in &old.pools {
        let stays: BTreeSet<String> = new
            .config
            .pools
            .get(&**name)
            .map(|pool| addresses(pool.versions.values()))
            .unwrap_or_default();
        let split = pool.state.split.load();
        for version in split.shares.iter().map(|share| &share.version) {
            all += held(version).tunnels;
            let leaving = version.members.iter().map(|member| &member.backend);
            let leaving = leaving.filter(|backend| !stays.contains(&*backend.label));
            on_removed += leaving.map(|backend| backend.tunnels()).sum::<u64>();
        }
    }
    (all, on_removed)
}

fn expiring(new: &Generation, now: SystemTime) -> Vec<ExpiringCertificate> {
    let listeners = new.snapshot.listeners.iter();
    let listeners = listeners.filter_map(|listener| Some((&listener.name, listener.tls.as_ref()?)));
    // Certificates are in the order of the file.
    let identities = listeners.flat_map(|(name, tls)| {
        let written = new.config.listeners.get(&**name).and_then(|listener| listener.tls.as_ref());
        let files =
            written.into_iter().flat_map(|tls| &tls.certificates).map(|one| &one.cert.value);
        tls.certificates.identities().iter().zip(files).map(move |found| (name, found))
    });
    let mut expiring: Vec<ExpiringCertificate> = identities
        .filter(|(_, (identity, _))| identity.not_after < now + NEAR)
        .map(|(listener, (identity, file))| ExpiringCertificate {
            listener: listener.to_string(),
            names: identity.names.clone(),
            file: file.display().to_string(),
            days: days_left(identity.not_after, now),
        })
        .collect();
    expiring.sort_by_key(|certificate| certificate.days);
    expiring
}

fn days_left(not_after: SystemTime, now: SystemTime) -> i64 {
    let days = |time: Duration| i64::try_from(time.as_secs() / 86_400).unwrap_or(i64::MAX);
    match not_after.duration_since(now) {
        Ok(left) => days(left),
        Err(over) => -1 - days(over.duration()),
    }
}

#[cfg(test)]
mod tests;
