//! The publisher: makes of the backends' conditions and shares what requests pick from.
//!
//! Whoever changes a condition says so by [`changed`](Publisher::changed), and it is here that a pool
//! is looked at anew: who begins a slow start, and who is in the usable sets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::in_service::InService;
use crate::balance::Tier;
use crate::state::{BackendId, Mail, Pool, Shared};
use crate::telemetry::events::{self, Turn};

/// The publisher rests this many times as long as it worked, so that thousands of verdicts at once
/// do not make it rebuild a large pool thousands of times.
const REST: u32 = 10;
/// Between two looks at a pool in which somebody is in slow start: a step of 1 % of the default.
const WARMING: Duration = Duration::from_millis(100);

/// Rebuilds the usable sets of pools whose backends changed their condition or their share.
#[derive(Debug)]
pub(super) struct Publisher {
    shared: Arc<Shared>,
    news: Mutex<News>,
    wake: Notify,
}

/// What happened since the publisher looked.
#[derive(Debug, Default)]
struct News {
    /// Pools that are to be looked at.
    changed: BTreeSet<Arc<str>>,
    /// Backends that were judged unfit.
    unfit: Vec<BackendId>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Publisher { shared, news: Mutex::default(), wake: Notify::new() }
    }

    /// To be called after a backend's condition was set because it was judged unfit, and before
    /// [`changed`](Self::changed): who waits on it goes elsewhere once nobody picks it any more.
    pub(super) fn judged_unfit(&self, backend: BackendId) {
        self.lock().unfit.push(backend);
    }

    /// To be called after a condition in this pool was set, or somebody is spared who was not, or no
    /// more.
    pub(super) fn changed(&self, pool: &Arc<str>) {
        self.lock().changed.insert(Arc::clone(pool));
        self.wake.notify_one();
    }

    pub(super) async fn run(self: Arc<Self>) {
        let mut pools: BTreeMap<Arc<str>, Looked> = BTreeMap::new();
        let mut generation = 0;
        loop {
            let warming = pools.values().any(|looked| looked.warming);
            let News { changed, unfit } = self.next(warming).await;
            let started = Instant::now();
            let snapshot = self.shared.snapshot.load_full();
            if snapshot.generation != generation {
                generation = snapshot.generation;
                pools.retain(|name, _| snapshot.pools.contains_key(name));
            }
            let mut due = changed.clone();
            due.extend(
                pools.iter().filter(|(_, looked)| looked.warming).map(|(name, _)| name.clone()),
            );
            for (name, pool) in due.iter().filter_map(|name| snapshot.pools.get_key_value(name)) {
                let looked = pools.entry(Arc::clone(name)).or_default();
                let split = pool.state.split.load();
                let versions = split.shares.iter().map(|share| &*share.version);
                let now = self.shared.uptime();
                let found = looked.in_service.look(now, pool.slow_start, versions.clone());
                looked.warming = found.warming;
                if found.recovered
                    && let Some(transition) = pool.state.breaker.recovered(now)
                {
                    events::breaker_transition(&self.shared, pool, &transition);
                }
                if found.spared_changed || changed.contains(name) {
                    versions.for_each(|version| version.rebuild());
                    pool.state.line.hand_over();
                    looked.tell_of_turns(&self.shared, pool);
                }
            }
            // Only now that nobody picks them any more: who is picked later would miss it.
            for backend in unfit {
                self.shared.broadcast(|| Mail::Rescue(backend));
            }
            tokio::time::sleep(started.elapsed() * REST).await;
        }
    }

    /// Waits until there is something to do.
    async fn next(&self, warming: bool) -> News {
        tokio::select! {
            () = self.wake.notified() => {}
            () = tokio::time::sleep(WARMING), if warming => {}
        }
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is remembered of a pool from look to look.
#[derive(Debug, Default)]
struct Looked {
    in_service: InService,
    warming: bool,
    /// What the versions that take requests serve from, by name.
    tiers: HashMap<Arc<str>, Tier>,
}

impl Looked {
    /// Tells when somebody has to look at the pool as a whole, and when that is over.
    fn tell_of_turns(&mut self, shared: &Shared, pool: &Pool) {
        let mut tiers = HashMap::new();
        let split = pool.state.split.load();
        for share in split.shares.iter().filter(|share| share.share > 0.0) {
            let (name, tier) = (&share.version.name, share.version.usable().tier);
            let before = self.tiers.get(name).and_then(|tier| tier.alarm());
            tiers.insert(Arc::clone(name), tier);
            let (turn, words) = match tier.alarm() {
                now if now == before => continue,
                Some(alarm) => (Turn::Worse, alarm),
                None => (Turn::Better, "requests go to healthy backends again"),
            };
            events::pool_turned(shared, &pool.name, name, turn, words);
        }
        self.tiers = tiers;
    }
}
