//! A pool: interchangeable backends, one policy, and the pick.
//!
//! [`Pool`] holds what a reload may change and lives in one snapshot. [`PoolState`] is carried from
//! snapshot to snapshot by name. A [`Version`] is a set of members; which of them may be picked now
//! is its [`UsableSet`], rebuilt on a transition (rare) and read by every pick.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use smallvec::SmallVec;

use super::backend::{Backend, BackendId, Slot};
use super::budget::RetryBudget;
use super::counters::{CodeCounters, Counter, PerWorker};
use super::tls::ClientTls;
use crate::balance::affinity::Affinity;
use crate::balance::{
    self, AllDown, Candidates, Condition, Draw, MemberView, Policy, Tier, usable,
};

/// A pool as one configuration generation has it.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// How a backend is chosen; its versions have it too.
    pub policy: Policy,
    /// Whether affinity cookies are marked `Secure`.
    pub secure_cookie: SecureCookie,
    /// Time over which a new or recovered backend comes to its full share; zero: at once.
    pub slow_start: Duration,
    /// When a failed attempt is followed by another.
    pub retries: RetryPolicy,
    /// How we speak to its backends; the same `Arc` as long as the settings are equal, so that
    /// connections made under other settings can be told.
    pub upstream: Arc<UpstreamSettings>,
    /// What outlives the configuration.
    pub state: Arc<PoolState>,
}

/// When an affinity cookie is marked `Secure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureCookie {
    /// On requests that came over TLS.
    Auto,
    /// On every request.
    Always,
    /// Never.
    Never,
}

/// `[pools.X.retries]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// Retries allowed as a share of recent requests...
    pub budget: f64,
    /// ... plus so many a second.
    pub budget_floor: f64,
    /// The connection could not be opened.
    pub on_connect: bool,
    /// The connection broke before an answer.
    pub on_reset: bool,
    /// The stream was refused unprocessed.
    pub on_refused_stream: bool,
    /// No answer within the response timeout.
    pub on_timeout: bool,
    /// Answers with these statuses.
    pub on_status: SmallVec<[u16; 4]>,
}

/// How HTTP is spoken to the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge where there is no TLS.
    H2,
    /// What ALPN says; HTTP/1.1 where there is no TLS.
    Auto,
}

/// TLS towards the backends of a pool.
#[derive(Debug)]
pub struct UpstreamTls {
    /// Offers by ALPN what the pool's protocol allows.
    pub any: ClientTls,
    /// Offers HTTP/1.1 only: tunnels need a connection of their own.
    pub http1: ClientTls,
}

/// `[pools.X.upstream]`. `None` is no limit.
#[derive(Debug)]
pub struct UpstreamSettings {
    /// HTTP version.
    pub protocol: Protocol,
    /// TLS to the backends, or plain text.
    pub tls: Option<UpstreamTls>,
    /// To open a connection, TLS included.
    pub connect_timeout: Duration,
    /// From the request fully sent to the response head.
    pub response_timeout: Option<Duration>,
    /// Between two body bytes, either way.
    pub body_idle_timeout: Option<Duration>,
    /// Between two bytes of a tunnel.
    pub tunnel_idle_timeout: Option<Duration>,
    /// For unused connections.
    pub keepalive_timeout: Duration,
    /// Unused connections kept, per backend, over all workers.
    pub keepalive_connections: usize,
}

/// What a pool keeps across reloads.
#[derive(Debug)]
pub struct PoolState {
    /// Which version takes what share of new attempts; written by the governor only.
    pub split: ArcSwap<Split>,
    /// Retries still allowed.
    pub budget: RetryBudget,
    /// What the workers count.
    pub cells: PerWorker<PoolCells>,
}

impl PoolState {
    /// A pool that has served nobody yet, as of `now` since the process started.
    pub fn new(split: Split, workers: usize, now: Duration) -> Self {
        PoolState {
            split: ArcSwap::from_pointee(split),
            budget: RetryBudget::new(now),
            cells: PerWorker::new(workers),
        }
    }
}

/// What one worker counts for one pool. Totals stay here when a backend goes.
#[derive(Debug, Default)]
pub struct PoolCells {
    /// Requests that were routed here.
    pub requests: Counter,
    /// Answers that a backend made, by status.
    pub from_backend: CodeCounters,
    /// Answers that we made, by status.
    pub from_proxy: CodeCounters,
    /// Retries that the budget did not allow.
    pub budget_exhausted: Counter,
}

/// Shares of new attempts by version.
#[derive(Debug, Default)]
pub struct Split {
    /// Every version of the pool, those without a share included.
    pub shares: SmallVec<[Share; 2]>,
}

/// One version's part of a [`Split`].
#[derive(Clone, Debug)]
pub struct Share {
    /// The version.
    pub version: Arc<Version>,
    /// From 0 to 1; over a split they sum to 1.
    pub share: f64,
}

impl Split {
    /// All traffic to one version.
    pub fn all_to(version: Arc<Version>) -> Self {
        Split { shares: SmallVec::from_iter([Share { version, share: 1.0 }]) }
    }

    fn choose(&self, rng: &mut fastrand::Rng) -> Option<&Arc<Version>> {
        let serving = |share: &&Share| share.share > 0.0;
        let mut left = self.shares.iter().filter(serving);
        let first = left.next()?;
        if first.share >= 1.0 {
            return Some(&first.version);
        }
        let mut point = rng.f64() - first.share;
        let mut chosen = first;
        for share in left {
            if point < 0.0 {
                break;
            }
            point -= share.share;
            chosen = share;
        }
        Some(&chosen.version)
    }
}

/// A backend as a member of a version.
#[derive(Clone, Debug)]
pub struct Member {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Its share relative to its siblings, at least 1.
    pub weight: u32,
    /// Takes traffic only when no primary can.
    pub backup: bool,
}

/// The rules by which members become usable and one of them is picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PickRules {
    /// How one is chosen.
    pub policy: Policy,
    /// Below this share of usable primaries health is ignored; 0 to 1.
    pub panic_threshold: f64,
    /// What to do when no member is usable.
    pub all_down: AllDown,
}

/// One of a pool's backend sets; a plain pool has one, without a name.
#[derive(Debug)]
pub struct Version {
    /// `blue`, `green`; empty on plain pools.
    pub name: Arc<str>,
    /// Every member, usable or not.
    pub members: Vec<Member>,
    /// When a member may be picked, and how.
    pub rules: PickRules,
    /// Which cookie stands for which member; absent without affinity.
    pub affinity: Option<Affinity>,
    usable: ArcSwap<UsableSet>,
    // Rebuilding reads the members' conditions and then publishes: of two at once the one with the
    // older view could publish last.
    rebuilding: Mutex<()>,
    turn: AtomicU64,
}

/// The members of a version that may be picked now.
pub struct UsableSet {
    /// Why these.
    pub tier: Tier,
    /// Indexes into the version's members, ascending; candidates are numbered by their place here.
    members: Box<[u32]>,
    candidates: Candidates,
}

impl std::fmt::Debug for UsableSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UsableSet")
            .field("tier", &self.tier)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl UsableSet {
    fn compute(members: &[Member], rules: &PickRules) -> Self {
        let views: Vec<MemberView> = members
            .iter()
            .map(|member| MemberView {
                condition: member.backend.condition(),
                backup: member.backup,
            })
            .collect();
        let usable = usable(&views, rules.panic_threshold, rules.all_down);
        let candidates: Vec<balance::Member> = usable
            .indexes
            .iter()
            .map(|index| balance::Member {
                key: members[*index].backend.hash,
                weight: members[*index].weight,
            })
            .collect();
        let spared = usable.indexes.iter().enumerate();
        let spared = spared.filter(|(_, index)| members[**index].backend.is_spared());
        let spared = spared.map(|(place, _)| place);
        UsableSet {
            tier: usable.tier,
            // A pool has far fewer than 2^32 members: each is a line of a file.
            members: usable.indexes.iter().map(|index| *index as u32).collect(),
            candidates: Candidates::new(rules.policy, &candidates).sparing(spared),
        }
    }

    /// How many members may be picked.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody may be picked.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl Version {
    /// A version whose usable set follows from its members' present conditions.
    pub fn new(
        name: Arc<str>,
        members: Vec<Member>,
        rules: PickRules,
        affinity: Option<Affinity>,
    ) -> Self {
        let usable = ArcSwap::from_pointee(UsableSet::compute(&members, &rules));
        Version {
            name,
            members,
            rules,
            affinity,
            usable,
            rebuilding: Mutex::new(()),
            turn: AtomicU64::new(0),
        }
    }

    /// To be called by whoever changed a member's condition, or whether it is spared.
    pub fn rebuild(&self) {
        let _one_at_a_time = self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner);
        self.usable.store(Arc::new(UsableSet::compute(&self.members, &self.rules)));
    }

    /// The members that may be picked now.
    pub fn usable(&self) -> Arc<UsableSet> {
        self.usable.load_full()
    }

    fn pick(&self, wish: &PickWish<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
        let usable = self.usable.load();
        let backend = |place: usize| &self.members[usable.members[place] as usize].backend;
        if let Some(bound) = wish.bound_to
            && let Ok(place) = usable.members.binary_search(&(bound as u32))
            && !wish.tried.contains(&backend(place).id)
        {
            return Some(bound);
        }
        let turn = match self.rules.policy {
            Policy::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed),
            Policy::LeastConnections | Policy::RandomTwo | Policy::IpHash => 0,
        };
        let mut draw = |skip: &dyn Fn(&Backend) -> bool| {
            usable.candidates.pick_sparing(
                |place| backend(place).in_flight(),
                |place| backend(place).weight_ratio(),
                |place| skip(backend(place)),
                Draw { rng, turn, hash: wish.hash },
            )
        };
        // Rather an untried one that is under suspicion than one that has failed this request.
        let tried = |backend: &Backend| wish.tried.contains(&backend.id);
        draw(&|backend| tried(backend) || backend.suspected.load(Ordering::Relaxed))
            .or_else(|| draw(&tried))
            .or_else(|| draw(&|_| false))
            .map(|place| usable.members[place] as usize)
    }
}

/// What a request brings to the pick.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickWish<'a> {
    /// The member that an affinity cookie stands for.
    bound_to: Option<usize>,
    /// Of the client's address, for `ip_hash`.
    pub hash: u64,
    /// Backends that have failed this request.
    pub tried: &'a [BackendId],
}

/// A picked backend.
#[derive(Debug)]
pub struct Picked {
    /// Its slot.
    pub slot: Slot,
    /// How it was found.
    pub choice: Choice,
}

/// Which member of which version was picked.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The version that it serves.
    pub version: Arc<Version>,
    /// Its index among the version's members.
    pub member: usize,
    /// The client has to be told its new backend by cookie.
    pub rebind: bool,
}

impl Pool {
    /// Whether somebody well could be picked who is neither this backend nor has failed the request.
    pub fn has_other(&self, than: BackendId, tried: &[BackendId]) -> bool {
        let split = self.state.split.load();
        let mut serving = split.shares.iter().filter(|share| share.share > 0.0);
        serving.any(|share| {
            let usable = share.version.usable.load();
            let members = &share.version.members;
            usable.members.iter().map(|index| &members[*index as usize].backend).any(|backend| {
                let fit = matches!(backend.condition(), Condition::Healthy | Condition::Checking);
                fit && backend.id != than && !tried.contains(&backend.id)
            })
        })
    }

    /// Picks a backend for one attempt, by the split as it is now; `None` if nobody may be picked.
    ///
    /// `cookies` are the values of the request's `Cookie` fields, `hash` is of the client's
    /// address, `tried` are the backends that have failed this request: they are picked again only
    /// if there is nobody else.
    pub fn pick<'a>(
        &self,
        cookies: impl IntoIterator<Item = &'a [u8]>,
        hash: u64,
        tried: &[BackendId],
        rng: &mut fastrand::Rng,
    ) -> Option<Picked> {
        let split = self.state.split.load();
        let version = split.choose(rng)?;
        let bound_to = version.affinity.as_ref().and_then(|affinity| affinity.member(cookies));
        let member = version.pick(&PickWish { bound_to, hash, tried }, rng)?;
        Some(Picked {
            slot: version.members[member].backend.take_slot(),
            choice: Choice {
                version: Arc::clone(version),
                member,
                rebind: version.affinity.is_some() && bound_to != Some(member),
            },
        })
    }
}
