//! A pool: interchangeable backends, one policy, and who waits for them.
//!
//! [`Pool`] holds what a reload may change and lives in one snapshot. [`PoolState`] is carried from
//! snapshot to snapshot by name. A [`Version`] is a set of members; which of them may be picked now
//! is its [`UsableSet`], rebuilt on a transition (rare) and read by every pick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::PathAndQuery;
use smallvec::SmallVec;

use super::backend::BackendId;
use super::breaker::PoolBreaker;
use super::budget::RetryBudget;
use super::counters::{CodeCounters, Counter, Histogram, PerWorker};
use super::shadow::ShadowCells;
use super::split::Split;
use super::swap_counts::SwapCounts;
use super::tls::ClientTls;
pub use super::version::{
    Choice, Member, NotPicked, PickRules, PickWish, Picked, UsableSet, Version,
};
use super::waiting::WaitingLine;
use crate::balance::Policy;
use crate::health::BreakerSettings;

use crate::health::outliers;

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
    /// What one backend may have in flight, and who may wait for it.
    pub queue: QueueSettings,
    /// When everything is refused because everything fails; absent: never.
    pub circuit_breaker: Option<BreakerSettings>,
    /// When a failed attempt is followed by another.
    pub retries: RetryPolicy,
    /// When its backends are ill by what their traffic shows.
    pub outliers: outliers::Settings,
    /// How long a backend may leave requests waiting in silence, at least, before it is suspected;
    /// `None`: for ever.
    pub stall: Option<Duration>,
    /// How we speak to its backends; the same `Arc` as long as the settings are equal, so that
    /// connections made under other settings can be told.
    pub upstream: Arc<UpstreamSettings>,
    /// What outlives the configuration.
    pub state: Arc<PoolState>,
}

/// `max_requests_per_backend` and `queue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Requests in flight on one backend, over all workers; `u32::MAX` is no limit.
    pub max_requests_per_backend: u32,
    /// Requests that may wait at once.
    pub size: usize,
    /// How long one may wait.
    pub timeout: Duration,
}

impl QueueSettings {
    /// Whether there is a limit at all, and so anything to wait for.
    pub fn is_limited(&self) -> bool {
        self.max_requests_per_backend != u32::MAX
    }
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
    /// Unused connections kept open, per backend, over all workers, even when nobody asks.
    pub min_idle: usize,
    /// What is asked for on those, so that nobody on the way forgets them...
    pub keepalive_request: Option<PathAndQuery>,
    /// ... and how often.
    pub keepalive_interval: Duration,
}

/// What a pool keeps across reloads.
#[derive(Debug)]
pub struct PoolState {
    /// Which version takes what share of new attempts; written by the governor only.
    pub split: ArcSwap<Split>,
    /// More than one version takes a share: asked for each request, which needs no split for that.
    divided: AtomicBool,
    /// Requests that wait for a slot on one of its backends.
    pub line: Arc<WaitingLine>,
    /// Asked and told only where the pool has settings for it.
    pub breaker: PoolBreaker,
    /// Retries still allowed.
    pub budget: RetryBudget,
    /// What the workers count.
    pub cells: PerWorker<PoolCells>,
    /// How its swaps went.
    pub swaps: SwapCounts,
}

impl PoolState {
    /// A pool that has served nobody yet, as of `now` since the process started. `line` is where
    /// requests for its backends wait.
    pub fn new(line: Arc<WaitingLine>, split: Split, workers: usize, now: Duration) -> Self {
        PoolState {
            divided: AtomicBool::new(split.is_divided()),
            split: ArcSwap::from_pointee(split),
            line,
            breaker: PoolBreaker::new(now),
            budget: RetryBudget::new(now),
            cells: PerWorker::new(workers),
            swaps: SwapCounts::default(),
        }
    }

    /// Puts another split in force. What was cut when its version was let go is none of its new
    /// requests' business. Who waits for a version that serves no more waits for another from now on,
    /// which may have room.
    pub fn set_split(&self, split: Split) {
        for share in split.shares.iter().filter(|share| share.share > 0.0) {
            let members = share.version.members.iter();
            members.for_each(|member| member.backend.cut.store(false, Ordering::Relaxed));
        }
        // Who sees that it is divided no more sees the split that is not.
        let divided = split.is_divided();
        if divided {
            self.divided.store(true, Ordering::Release);
        }
        self.split.store(Arc::new(split));
        if !divided {
            self.divided.store(false, Ordering::Release);
        }
        self.line.hand_over();
    }

    /// Whether more than one version takes a share.
    pub fn is_divided(&self) -> bool {
        self.divided.load(Ordering::Acquire)
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
    /// Requests that were refused because the circuit breaker was open.
    pub circuit_open: Counter,
    /// Requests that went to their route's fallback.
    pub fallbacks: Counter,
    /// Requests that stood in line for a slot.
    pub queued: Counter,
    /// How long they did, however that ended.
    pub queue_wait: Histogram,
    /// Requests that were turned away because the line was full.
    pub queue_full: Counter,
    /// Requests that waited too long.
    pub queue_timeouts: Counter,
    /// Copies of requests to a version that is to serve.
    pub shadow: ShadowCells,
}

impl Pool {
    /// Whether somebody well could be picked who is neither this backend nor has failed the request.
    pub fn has_other(&self, than: BackendId, tried: &[BackendId]) -> bool {
        let split = self.state.split.load();
        let mut serving = split.shares.iter().filter(|share| share.share > 0.0);
        let refuge = split.refuge.as_deref().and_then(|name| split.version(name));
        serving.any(|share| share.version.has_other(than, tried))
            || refuge.is_some_and(|version| version.has_other(than, tried))
    }

    /// Whether a request that failed on this version goes to the one before, which is still warm.
    pub fn has_refuge_from(&self, version: &Version) -> bool {
        self.state.split.load().refuge_from(version).is_some()
    }

    /// Picks a backend for one attempt, by the split as it is now.
    ///
    /// `cookies` are the values of the request's `Cookie` fields, `hash` is of the client's address
    /// (0 where nobody needs it), `tried` are the backends that have failed this request: they are
    /// picked again only if there is nobody else.
    ///
    /// # Errors
    /// If nobody may be picked, or if there is no slot, or somebody waits for one: then it is time to
    /// [stand in line](super::waiting::WaitingLine::join).
    pub fn pick<'a, C: IntoIterator<Item = &'a [u8]>>(
        &self,
        cookies: impl Fn() -> C,
        hash: u64,
        tried: &[BackendId],
        rng: &mut fastrand::Rng,
    ) -> Result<Picked, NotPicked> {
        if self.queue.is_limited() && !self.state.line.is_empty() {
            return Err(NotPicked::Full);
        }
        let split = self.state.split.load();
        let chosen = split.choose(hash, &cookies, rng).ok_or(NotPicked::Nobody)?;
        let refuge = if tried.is_empty() { None } else { split.refuge_from(chosen) };
        let version = refuge.unwrap_or(chosen);
        let bound_to = version.affinity.as_ref().and_then(|affinity| affinity.member(cookies()));
        let mut picked = version.pick(&PickWish { bound_to, hash, tried }, rng)?;
        picked.shadow = split.shadow.as_ref().and_then(|shadow| shadow.draw(rng));
        Ok(picked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::AllDown;
    use crate::state::Backend;

    fn version(name: &str, port: u16) -> Arc<Version> {
        let backend = Arc::new(Backend::sample(port));
        let members = vec![Member { backend, weight: 1, backup: false }];
        let rules =
            PickRules { policy: Policy::RoundRobin, panic_threshold: 0.0, all_down: AllDown::Try };
        Arc::new(Version::new(name.into(), members, rules, None))
    }

    #[test]
    fn a_pool_knows_whether_it_is_divided() {
        let versions = [version("blue", 1), version("green", 2)];
        let whole = Split::all_to(Arc::clone(&versions[0])).carried(&versions, "blue");
        let pool = PoolState::new(Arc::default(), whole.clone(), 1, Duration::ZERO);
        assert!(!pool.is_divided());
        pool.set_split(whole.between("blue", "green", 0.5));
        assert!(pool.is_divided());
        pool.set_split(whole);
        assert!(!pool.is_divided());
    }

    #[test]
    fn who_gets_a_share_again_is_not_cut_any_more() {
        let versions = [version("blue", 1), version("green", 2)];
        let split = Split::all_to(Arc::clone(&versions[1])).carried(&versions, "green");
        let pool = PoolState::new(Arc::default(), split.clone(), 1, Duration::ZERO);
        let is_cut = |at: usize| versions[at].members[0].backend.cut.load(Ordering::Relaxed);
        versions[0].members[0].backend.cut.store(true, Ordering::Relaxed);
        pool.set_split(split);
        assert!(is_cut(0), "it has no share");
        // As a reload does to a pool that has no versions any more.
        pool.set_split(Split::all_to(Arc::clone(&versions[0])));
        assert!(!is_cut(0));
    }
}
