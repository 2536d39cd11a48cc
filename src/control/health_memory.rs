//! The verdicts on all backends, kept over a restart, so that it does not begin with asking everybody
//! anew. They are kept often, and one that is older than a minute is worth nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::publisher::Publisher;
use super::slices::sliced;
use super::store::{Store, Trouble};
use super::transition::publish;
use crate::state::{Backend, Pool, Shared, Snapshot};

/// The name of the document.
const DOCUMENT: &str = "health";
/// What is older counts as unknown.
const MAX_AGE: Duration = Duration::from_secs(60);
/// How often it is looked whether something has changed ...
const LOOK: Duration = Duration::from_secs(2);
/// ... and how often what has not is kept all the same, so that it stays young.
const AT_LEAST: Duration = Duration::from_secs(20);

/// By pool and address: whether its probes pass.
type Verdicts = BTreeMap<Arc<str>, BTreeMap<Arc<str>, bool>>;

/// Takes up the verdicts from before a restart, for the backends of a snapshot that is about to come
/// into force.
pub(super) fn restore(shared: &Shared, publisher: &Publisher, store: &Store, snapshot: &Snapshot) {
    let Some(kept) = store.load::<BTreeMap<String, BTreeMap<String, bool>>>(DOCUMENT) else {
        return;
    };
    if kept.age(SystemTime::now()) > MAX_AGE {
        return;
    }
    for pool in snapshot.pools.values() {
        let Some(verdicts) = kept.document.get(&*pool.name) else { continue };
        let split = pool.state.split.load();
        for member in split.shares.iter().flat_map(|share| &share.version.members) {
            let Some(healthy) = verdicts.get(&*member.backend.label) else { continue };
            let transition = member.backend.health().restore(shared.uptime(), *healthy);
            publish(shared, publisher, &member.backend, transition.as_slice());
        }
    }
}

/// Keeps the verdicts, for ever.
pub(super) async fn keep(shared: Arc<Shared>, store: Store) {
    if !store.keeps() {
        return;
    }
    let (mut kept, mut at) = (Verdicts::new(), Instant::now());
    let mut trouble = Trouble::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let verdicts = verdicts(&shared);
        if verdicts != kept || at.elapsed() >= AT_LEAST {
            trouble.note(DOCUMENT, &store.save_beside(DOCUMENT, verdicts.clone()).await);
            (kept, at) = (verdicts, Instant::now());
        }
    }
}

/// Keeps the verdicts now.
pub(super) async fn keep_now(shared: &Shared, store: &Store) {
    Trouble::default().note(DOCUMENT, &store.save_beside(DOCUMENT, verdicts(shared)).await);
}

fn verdicts(shared: &Shared) -> Verdicts {
    let snapshot = shared.snapshot.load();
    let of_pool = |pool: &Pool| {
        let split = pool.state.split.load();
        let members = split.shares.iter().flat_map(|share| &share.version.members);
        let verdict =
            |backend: &Backend| Some((Arc::clone(&backend.label), backend.health().verdict()?));
        members.filter_map(|member| verdict(&member.backend)).collect()
    };
    let pools = sliced(snapshot.pools.iter());
    pools.map(|(name, pool)| (Arc::clone(name), of_pool(pool))).collect()
}
