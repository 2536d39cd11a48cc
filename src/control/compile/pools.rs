//! Pools, their versions and backends: what stays keeps its state, its health and its identity.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use super::upstream::Roots;
use super::{
    Context, Effects, Findings, Generation, Versions, convert, health, questions, upstream,
};
use crate::balance::affinity::{Affinity, Key};
use crate::config::Diagnostic;
use crate::config::model::{self, Config};
use crate::control::probe::Check;
use crate::control::swaps::Questions;
use crate::health::{Health, Settings};
use crate::state::pool::UpstreamSettings;
use crate::state::{Address, Backend, Member, Pool, PoolState, Share, Split, Version, WaitingLine};

/// All pools, and what belongs to them.
#[derive(Default)]
pub(super) struct Pools {
    pub(super) pools: BTreeMap<Arc<str>, Arc<Pool>>,
    pub(super) checks: BTreeMap<Arc<str>, Arc<Check>>,
    pub(super) questions: BTreeMap<Arc<str>, Arc<Questions>>,
    pub(super) effects: Effects,
}

pub(super) fn compile(
    config: &Config,
    old: &Generation,
    context: &Context<'_>,
    roots: &mut Roots,
    findings: &mut Findings,
) -> Pools {
    let mut made = Pools::default();
    for (name, pool) in &config.pools {
        let Some(upstream) = upstream::compile(pool, old, context, roots, findings) else {
            continue;
        };
        let old = OldPool::find(old, name);
        let Some(check) = findings.take(carried_check(pool, &old, &upstream)) else { continue };
        let Some(questions) = findings.take(questions::compile(pool, &upstream)) else { continue };
        let (pool, effects) = compile_pool(pool, &old, context, upstream, &check);
        made.checks.insert(Arc::clone(&pool.name), check);
        made.questions.insert(Arc::clone(&pool.name), Arc::new(questions));
        made.pools.insert(Arc::clone(&pool.name), Arc::new(pool));
        made.effects.versions.extend(effects.versions);
        made.effects.reverify.extend(effects.reverify);
    }
    made
}

/// What is in force of a pool.
#[derive(Default)]
struct OldPool<'a> {
    config: Option<&'a model::Pool>,
    pool: Option<&'a Arc<Pool>>,
    split: Arc<Split>,
    check: Option<&'a Arc<Check>>,
    backends: HashMap<Address, Arc<Backend>>,
    line: Arc<WaitingLine>,
}

impl<'a> OldPool<'a> {
    fn find(old: &'a Generation, name: &str) -> Self {
        let Some(pool) = old.snapshot.pools.get(name) else { return OldPool::default() };
        let split = pool.state.split.load_full();
        let members = || split.shares.iter().flat_map(|share| &share.version.members);
        let mut backends = HashMap::with_capacity(members().count());
        backends.extend(
            members().map(|member| (member.backend.address.clone(), Arc::clone(&member.backend))),
        );
        OldPool {
            config: old.config.pools.get(name),
            pool: Some(pool),
            check: old.checks.get(name),
            split,
            backends,
            line: Arc::clone(&pool.state.line),
        }
    }

    /// The backend at this address, or a new one.
    fn backend(
        &self,
        wanted: &model::Backend,
        pool: &Arc<str>,
        (settings, limit): (Settings, u32),
        context: &Context<'_>,
    ) -> Arc<Backend> {
        let address = convert::address(&wanted.address);
        match self.backends.get(&address) {
            Some(backend) => Arc::clone(backend),
            None => {
                let health = Health::new(settings, context.uptime);
                let backend = Backend::new(Arc::clone(pool), address, health, context.workers);
                let backend = backend.waited_for_in(&self.line);
                backend.set_limit(limit);
                Arc::new(backend)
            }
        }
    }

    fn version(&self, name: &str) -> Option<&Share> {
        self.split.shares.iter().find(|share| *share.version.name == *name)
    }
}

fn carried_check(
    pool: &model::Pool,
    old: &OldPool<'_>,
    upstream: &Arc<UpstreamSettings>,
) -> Result<Arc<Check>, Box<Diagnostic>> {
    if let (Some(check), Some(before)) = (old.check, old.config)
        && before.health == pool.health
        && Arc::ptr_eq(&check.upstream, upstream)
        && check.settings == health::settings(pool)
    {
        return Ok(Arc::clone(check));
    }
    health::check(pool, upstream).map(Arc::new)
}

fn compile_pool(
    pool: &model::Pool,
    old: &OldPool<'_>,
    context: &Context<'_>,
    upstream: Arc<UpstreamSettings>,
    check: &Arc<Check>,
) -> (Pool, Effects) {
    let name = match old.pool {
        Some(pool) => Arc::clone(&pool.name),
        None => pool.name.value.as_str().into(),
    };
    let queue = convert::queue(pool);
    let limit = queue.max_requests_per_backend;
    let versions = pool.versions.values().map(|version| {
        let members = version.backends.iter().map(|wanted| Member {
            backend: old.backend(wanted, &name, (check.settings, limit), context),
            weight: wanted.weight,
            backup: wanted.backup,
        });
        carried_version(pool, version, members.collect(), old, context.affinity_key)
    });
    let versions: Vec<Arc<Version>> = versions.collect();
    let mut effects = Effects { reverify: reverify(&versions, old, check), ..Effects::default() };
    let active = &pool.active.value;
    let state = match old.pool {
        Some(pool) => {
            if !same_versions(&versions, &old.split) {
                let (state, active) = (Arc::clone(&pool.state), active.clone());
                effects.versions.push(Versions { state, versions, active });
            }
            Arc::clone(&pool.state)
        }
        None => {
            let split = Split::default().carried(&versions, active);
            let line = Arc::clone(&old.line);
            Arc::new(PoolState::new(line, split, context.workers, context.uptime))
        }
    };
    let pool = Pool {
        name,
        policy: convert::rules(pool).policy,
        secure_cookie: convert::secure_cookie(pool),
        slow_start: pool.slow_start,
        queue,
        circuit_breaker: convert::circuit_breaker(pool),
        retries: convert::retries(&pool.retries),
        outliers: convert::outliers(&pool.outliers),
        stall: pool.outliers.stall,
        upstream,
        state,
    };
    (pool, effects)
}

/// The backends that stay, if their check changed.
fn reverify(
    versions: &[Arc<Version>],
    old: &OldPool<'_>,
    check: &Arc<Check>,
) -> Vec<(Arc<Backend>, Settings)> {
    if old.check.is_none_or(|old| Arc::ptr_eq(old, check)) {
        return Vec::new();
    }
    let members = versions.iter().flat_map(|version| &version.members);
    let stays = members.filter(|member| old.backends.contains_key(&member.backend.address));
    stays.map(|member| (Arc::clone(&member.backend), check.settings)).collect()
}

/// The version in force, if nothing in it changed: it holds the turn of a round robin.
fn carried_version(
    pool: &model::Pool,
    version: &model::Version,
    members: Vec<Member>,
    old: &OldPool<'_>,
    key: &Key,
) -> Arc<Version> {
    let rules = convert::rules(pool);
    let in_force = old.version(&version.name).map(|share| &share.version);
    if let (Some(in_force), Some(before)) = (in_force, old.config)
        && in_force.rules == rules
        && before.affinity == pool.affinity
        && same_members(&in_force.members, &members)
    {
        return Arc::clone(in_force);
    }
    let affinity = pool.affinity.as_ref().map(|affinity| {
        let own = affinity.secret.as_ref().map(|secret| Key::new(secret.expose().as_bytes()));
        let addresses = members.iter().map(|member| &*member.backend.label);
        let key = own.as_ref().unwrap_or(key);
        Affinity::new(key, &pool.name, &affinity.cookie, affinity.ttl, addresses)
    });
    Arc::new(Version::new(version.name.as_str().into(), members, rules, affinity))
}

fn same_members(old: &[Member], new: &[Member]) -> bool {
    old.len() == new.len()
        && old.iter().zip(new).all(|(old, new)| {
            Arc::ptr_eq(&old.backend, &new.backend)
                && old.weight == new.weight
                && old.backup == new.backup
        })
}

fn same_versions(new: &[Arc<Version>], old: &Split) -> bool {
    new.len() == old.shares.len()
        && new.iter().zip(&old.shares).all(|(new, old)| Arc::ptr_eq(new, &old.version))
}
