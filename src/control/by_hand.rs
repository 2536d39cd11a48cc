//! What operators decide about single backends: that one is drained, or out. It holds through reloads,
//! since it is a part of the backend, and through restarts, since it is kept.
//!
//! A decision is forgotten with its backend: one that a reload takes out of the configuration and
//! another brings back begins anew.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::health_memory;
use super::probers::Probers;
use super::slices::sliced;
use super::store::{AGAIN, PATIENCE, Store, Trouble};
use super::transition::publish;
use crate::balance::Tier;
use crate::health::{ByHand, Hand};
use crate::state::{Backend, CloseTunnels, Document, Mail, Pace, Pool, Shared, Snapshot};

/// The name of the document.
const DOCUMENT: &str = "by_hand";
/// Tunnels closed a second, so that their clients do not all come back at the same moment.
const TUNNELS_PER_SECOND: u32 = 50;
/// How often it is looked whether there are new tunnels to close.
const LOOK: Duration = Duration::from_millis(500);

/// What can be done to a backend by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It takes nothing new and finishes what it has; tunnels are kept, or closed by and by.
    Drain {
        /// Whether tunnels are closed.
        close_tunnels: bool,
    },
    /// Takes a drain back.
    Undrain,
    /// As drained, and it is not probed.
    Disable,
    /// Takes it back into service, if its probes agree.
    Enable,
}

/// What a decision came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HandReport {
    /// The pool.
    pub pool: Arc<str>,
    /// The backend's address.
    pub backend: Arc<str>,
    /// Its state now.
    pub state: &'static str,
    /// Whether that was another before.
    pub changed: bool,
    /// What is to be said beside it.
    pub notes: Vec<String>,
}

/// Why nothing was decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandError {
    /// There is no such pool.
    #[error("there is no pool `{0}`; `tidegate status` lists what there is")]
    NoPool(String),
    /// The pool has no such backend.
    #[error("pool {pool} has no backend `{backend}`; it has {}", known.join(", "))]
    NoBackend {
        /// The pool.
        pool: String,
        /// What was asked for.
        backend: String,
        /// What there is, or the first of many.
        known: Vec<String>,
    },
    /// Another decision stands.
    #[error("{backend} is disabled by hand, which is more than drained; `tidegate enable` ends it")]
    Disabled {
        /// The backend.
        backend: Arc<str>,
    },
    /// Another decision stands.
    #[error("{backend} is drained by hand, not disabled; `tidegate undrain` ends it")]
    Drained {
        /// The backend.
        backend: Arc<str>,
    },
}

/// A decision as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Decision {
    pool: String,
    backend: String,
    hand: String,
    /// Milliseconds since the Unix epoch.
    since: u64,
}

/// The decisions, and whoever carries them out.
#[derive(Debug)]
pub struct Hands {
    shared: Arc<Shared>,
    probers: Arc<Probers>,
    store: Store,
    /// One saves after another.
    kept: tokio::sync::Mutex<Kept>,
}

/// What is on the disk.
#[derive(Debug, Default)]
struct Kept {
    decisions: Vec<Decision>,
    trouble: Trouble,
}

/// Why that is not what is decided.
#[derive(Debug)]
struct NotKept {
    words: String,
    /// It was before.
    is_news: bool,
}

impl Hands {
    pub(super) fn new(shared: &Arc<Shared>, probers: &Arc<Probers>, store: &Store) -> Self {
        Hands {
            shared: Arc::clone(shared),
            probers: Arc::clone(probers),
            store: store.clone(),
            kept: tokio::sync::Mutex::default(),
        }
    }

    /// Takes up what was decided before a restart, for the backends of a snapshot that is about to
    /// come into force.
    pub(super) fn restore(&self, snapshot: &Snapshot) {
        let Some(kept) = self.store.load::<Vec<Decision>>(DOCUMENT) else { return };
        for decision in &kept.document {
            let pool = snapshot.pools.get(decision.pool.as_str());
            let Some(backend) = pool.and_then(|pool| find(pool, &decision.backend)) else {
                continue;
            };
            let hand = match decision.hand.as_str() {
                "drained" => Hand::Drained,
                // What is not understood keeps the backend out, as whoever decided it meant to.
                _ => Hand::Disabled,
            };
            let since = UNIX_EPOCH + Duration::from_millis(decision.since);
            self.decide(&backend, Some(ByHand { hand, since }));
        }
        if let Ok(mut on_disk) = self.kept.try_lock() {
            on_disk.decisions = kept.document;
        }
    }

    /// Carries out a decision, and keeps it.
    ///
    /// # Errors
    /// If there is no such backend, or another decision stands.
    pub async fn apply(
        self: &Arc<Self>,
        pool: &str,
        backend: &str,
        action: Action,
    ) -> Result<HandReport, HandError> {
        let snapshot = self.shared.snapshot.load_full();
        let found = snapshot.pools.get(pool).ok_or_else(|| HandError::NoPool(pool.to_owned()))?;
        let backend = find(found, backend).ok_or_else(|| no_backend(found, backend))?;
        let before = backend.health().by_hand();
        let wanted = wanted(&backend, before, action)?;
        let changed = wanted != before;
        if changed {
            self.decide(&backend, wanted);
            // Not left to the publisher, who takes his time: who asked may count on it.
            let split = found.state.split.load();
            split.shares.iter().for_each(|share| share.version.rebuild());
            // One that was disabled is not waiting for its next probe.
            self.probers.suspect(backend.id);
        }
        if action == (Action::Drain { close_tunnels: true }) {
            tokio::spawn(close_tunnels(Arc::clone(&self.shared), Arc::clone(&backend)));
        }
        let mut notes = Vec::new();
        if wanted.is_some() {
            notes.extend(nobody_left(found));
            notes.extend((!self.store.keeps()).then(|| {
                "a restart will not know of it: the configuration has no `server.state_dir`"
                    .to_owned()
            }));
        }
        if let Err(problem) = self.keep_in_time().await {
            notes.push(format!("a restart would not know of it yet: {problem}; it is tried again"));
        }
        Ok(HandReport {
            pool: Arc::clone(&found.name),
            backend: Arc::clone(&backend.label),
            state: backend.health().state().label(),
            changed,
            notes,
        })
    }

    /// Keeps what is decided now: a reload may have taken backends away. What takes too long goes on
    /// beside, and what fails is tried again there; both are told as a failure.
    pub(super) async fn keep_in_time(self: &Arc<Self>) -> Result<(), String> {
        let hands = Arc::clone(self);
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let kept = hands.keep().await;
            let is_news = kept.as_ref().is_err_and(|not_kept| not_kept.is_news);
            // Who asked may have lost patience.
            let _ = tell.send(kept.map_err(|not_kept| not_kept.words));
            if is_news {
                hands.keep_at_last().await;
            }
        });
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(kept)) => kept,
            // The process ends.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(format!("it is not on the disk after {} s", PATIENCE.as_secs())),
        }
    }

    /// Tries again until it is kept.
    async fn keep_at_last(&self) {
        loop {
            tokio::time::sleep(AGAIN).await;
            if self.keep().await.is_ok() {
                return;
            }
        }
    }

    /// Keeps what is decided now, if that is not on the disk already.
    async fn keep(&self) -> Result<(), NotKept> {
        let mut kept = self.kept.lock().await;
        let decisions = decisions(&self.shared.snapshot.load());
        let saved = match kept.decisions == decisions {
            true => Ok(()),
            false => self.store.save_beside(DOCUMENT, decisions.clone()).await,
        };
        let is_news = kept.trouble.note(DOCUMENT, &saved);
        self.shared.unsaved.set(Document::ByHand, saved.is_err());
        saved.map_err(|error| NotKept { words: error.to_string(), is_news })?;
        kept.decisions = decisions;
        Ok(())
    }

    /// Keeps what is known of the backends' health.
    pub(super) async fn keep_health(&self) {
        health_memory::keep_now(&self.shared, &self.store).await;
    }

    fn decide(&self, backend: &Backend, by_hand: Option<ByHand>) {
        let transition = backend.health().on_hand(self.shared.uptime(), by_hand);
        publish(&self.shared, self.probers.publisher(), backend, transition.as_slice());
    }
}

/// What stands after an action.
fn wanted(
    backend: &Backend,
    before: Option<ByHand>,
    action: Action,
) -> Result<Option<ByHand>, HandError> {
    let label = || Arc::clone(&backend.label);
    let since = SystemTime::now();
    match (action, before.map(|before| before.hand)) {
        (Action::Drain { .. } | Action::Undrain, Some(Hand::Disabled)) => {
            Err(HandError::Disabled { backend: label() })
        }
        (Action::Enable, Some(Hand::Drained)) => Err(HandError::Drained { backend: label() }),
        (Action::Drain { .. }, Some(Hand::Drained)) | (Action::Disable, Some(Hand::Disabled)) => {
            Ok(before)
        }
        (Action::Drain { .. }, None) => Ok(Some(ByHand { hand: Hand::Drained, since })),
        (Action::Disable, _) => Ok(Some(ByHand { hand: Hand::Disabled, since })),
        (Action::Undrain | Action::Enable, _) => Ok(None),
    }
}

/// What becomes of requests, if nobody sound is left for them.
fn nobody_left(pool: &Pool) -> Option<String> {
    let split = pool.state.split.load();
    let serving = split.shares.iter().filter(|share| share.share > 0.0);
    let becomes = |tier| match tier {
        Tier::Empty => Some("nobody is left to take its requests, and they are answered 503"),
        Tier::AllDown => Some("no healthy backend is left, and its requests go to unhealthy ones"),
        Tier::Checking => Some("the backends that are left have had no verdict yet"),
        Tier::Leaving => Some("the backends that are left ask to be drained too"),
        Tier::Healthy | Tier::Panic | Tier::Backup => None,
    };
    let words = serving.into_iter().find_map(|share| becomes(share.version.usable().tier))?;
    Some(format!("this was the last usable backend of pool {}: {words}", pool.name))
}

/// Closes tunnels for as long as it is decided that the backend is let go and there are any.
async fn close_tunnels(shared: Arc<Shared>, backend: Arc<Backend>) {
    let order = CloseTunnels {
        backends: Arc::new([backend.id]),
        pace: Arc::new(Pace::new(Instant::now(), TUNNELS_PER_SECOND)),
    };
    while backend.in_flight() > 0 && backend.health().by_hand().is_some() {
        shared.broadcast(|| Mail::CloseTunnels(order.clone()));
        tokio::time::sleep(LOOK).await;
    }
}

fn members(pool: &Pool) -> Vec<Arc<Backend>> {
    let split = pool.state.split.load();
    let members = split.shares.iter().flat_map(|share| &share.version.members);
    members.map(|member| Arc::clone(&member.backend)).collect()
}

/// The backend of this address.
pub(super) fn find(pool: &Pool, address: &str) -> Option<Arc<Backend>> {
    members(pool).into_iter().find(|backend| *backend.label == *address)
}

fn no_backend(pool: &Pool, asked: &str) -> HandError {
    const SHOWN: usize = 10;
    let members = members(pool);
    let mut known: Vec<String> =
        members.iter().take(SHOWN).map(|backend| backend.label.to_string()).collect();
    if members.len() > SHOWN {
        known.push(format!("and {} more", members.len() - SHOWN));
    }
    HandError::NoBackend { pool: pool.name.to_string(), backend: asked.to_owned(), known }
}

fn decisions(snapshot: &Snapshot) -> Vec<Decision> {
    let decision = |backend: &Backend| {
        let by_hand = backend.health().by_hand()?;
        let since = by_hand.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Decision {
            pool: backend.pool.to_string(),
            backend: backend.label.to_string(),
            hand: match by_hand.hand {
                Hand::Drained => "drained".to_owned(),
                Hand::Disabled => "disabled".to_owned(),
            },
            since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        })
    };
    let backends = sliced(snapshot.pools.values()).flat_map(|pool| members(pool));
    backends.filter_map(|backend| decision(&backend)).collect()
}
