//! What is going on, as data: for `status`, for the API, for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::swaps::view::HeldView;
use super::swaps::{Board, PoolSwaps, held};
use crate::state::{Backend, Document, Listener, Member, Pool, Shared, Version};

/// The whole process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Of the program.
    pub version: &'static str,
    /// Configurations that came into force since the start.
    pub generation: u64,
    /// Since the start.
    pub uptime_seconds: f64,
    /// What is out of the ordinary with the process, in words.
    pub notes: Vec<String>,
    /// By name.
    pub listeners: BTreeMap<Arc<str>, ListenerStatus>,
    /// By name.
    pub pools: BTreeMap<Arc<str>, PoolStatus>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListenerStatus {
    /// As they were bound.
    pub addresses: Vec<String>,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Open client connections.
    pub connections: usize,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolStatus {
    /// The version that serves; empty on plain pools.
    pub active: Arc<str>,
    /// How a backend is chosen, in the word of the configuration.
    pub policy: &'static str,
    /// By name; a plain pool has one without a name.
    pub versions: BTreeMap<Arc<str>, VersionStatus>,
    /// Requests that wait for a backend below its limit.
    pub waiting: usize,
    /// Absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreakerStatus>,
    /// What is out of the ordinary, in words.
    pub notes: Vec<String>,
    /// Which version is wanted, and the swap that runs; absent on plain pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swaps: Option<PoolSwaps>,
}

/// The circuit breaker of a pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CircuitBreakerStatus {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// How long it has been that.
    pub since_seconds: f64,
    /// Why, in words.
    pub reason: String,
}

/// One of a pool's backend sets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionStatus {
    /// Its share of new requests, 0 to 1.
    pub share: f64,
    /// Whom its requests go to: `healthy` ones, `backup` ones while no other is, those that ask to be
    /// drained (`leaving`) or of which nothing is known yet (`checking`), all because too few
    /// (`panic`) or none (`all_down`) are healthy, or nobody (`empty`).
    pub serves_from: &'static str,
    /// What it holds: not safe to stop before both are 0.
    pub held: HeldView,
    /// By address.
    pub backends: BTreeMap<Arc<str>, BackendStatus>,
}

/// A backend.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackendStatus {
    /// `healthy`, `checking`, `unhealthy`, `ejected`, `leaving`, `draining` or `disabled`.
    pub state: &'static str,
    /// How long it has been that.
    pub since_seconds: f64,
    /// Why, in words.
    pub reason: String,
    /// How its checks fail now, in words, if that is otherwise than the reason tells; absent if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// Its share relative to its siblings.
    pub weight: u32,
    /// The part of that share that it is to get now, 0 to 1: less in slow start, and while slow.
    pub weight_ratio: f64,
    /// Takes requests only if no other can.
    pub backup: bool,
    /// Requests that it is working on, tunnels included.
    pub in_flight: u32,
    /// Tunnels: WebSockets, event streams, gRPC streams.
    pub tunnels: u64,
    /// Its circuit breaker: `open` while it is ejected, `half_open` on trial after that, `closed`.
    pub circuit_breaker: &'static str,
    /// It may be ill: it is asked without pause, and others are preferred until it has answered.
    pub suspected: bool,
    /// What speaks against it and led to nothing, in words; absent if nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// For how long an unused connection to it is kept at most, as learned from how the backend closes
    /// them and from what it says; absent while nothing was learned.
    pub learned_keepalive_seconds: Option<f64>,
}

impl BackendStatus {
    /// One backend as it is now, if there is such a one.
    pub fn of(shared: &Shared, pool: &str, address: &str) -> Option<Self> {
        let snapshot = shared.snapshot.load();
        let split = snapshot.pools.get(pool)?.state.split.load();
        let mut members = split.shares.iter().flat_map(|share| &share.version.members);
        let member = members.find(|member| *member.backend.label == *address)?;
        Some(of_member(member, &member.backend, shared))
    }
}

impl Status {
    /// As things are now.
    pub fn of(shared: &Shared, swaps: &Board) -> Self {
        let snapshot = shared.snapshot.load();
        let listener =
            |listener: &Arc<Listener>| (Arc::clone(&listener.name), of_listener(listener));
        let pool = |(name, pool): (&Arc<str>, &Arc<Pool>)| {
            (Arc::clone(name), of_pool(pool, shared, swaps))
        };
        Status {
            version: env!("CARGO_PKG_VERSION"),
            generation: snapshot.generation,
            uptime_seconds: shared.uptime().as_secs_f64(),
            notes: of_process(shared, snapshot.max_requests),
            listeners: snapshot.listeners.iter().map(listener).collect(),
            pools: snapshot.pools.iter().map(pool).collect(),
        }
    }
}

fn of_process(shared: &Shared, max_requests: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if shared.overload.is_fresh(shared.uptime()) {
        let refused = shared.overload.refused();
        notes.push(format!(
            "requests are answered 503 because {max_requests} are in flight (server.max_requests): \
             {refused} so far"
        ));
    }
    notes.extend(shared.unsaved.words(&Document::ALL));
    notes
}

fn of_listener(listener: &Listener) -> ListenerStatus {
    ListenerStatus {
        addresses: listener.addresses.clone(),
        tls: listener.tls.is_some(),
        connections: listener.state.connections.taken(),
    }
}

fn of_pool(pool: &Pool, shared: &Shared, swaps: &Board) -> PoolStatus {
    let split = pool.state.split.load();
    let largest = split.shares.iter().max_by(|a, b| a.share.total_cmp(&b.share));
    let serving = largest.map(|share| &share.version);
    let versions = split.shares.iter().map(|share| {
        let status = VersionStatus {
            share: share.share,
            serves_from: share.version.usable().tier.label(),
            held: held(&share.version).into(),
            backends: backends(&share.version, shared),
        };
        (Arc::clone(&share.version.name), status)
    });
    PoolStatus {
        active: serving.map_or_else(|| "".into(), |version| Arc::clone(&version.name)),
        policy: pool.policy.label(),
        versions: versions.collect(),
        waiting: pool.state.line.len(),
        circuit_breaker: circuit_breaker(pool, shared),
        notes: notes(pool, shared),
        swaps: swaps.pool(&pool.name),
    }
}

fn circuit_breaker(pool: &Pool, shared: &Shared) -> Option<CircuitBreakerStatus> {
    pool.circuit_breaker?;
    let now = shared.uptime();
    let view = pool.state.breaker.look(now);
    Some(CircuitBreakerStatus {
        state: view.state.label(),
        since_seconds: now.saturating_sub(view.since).as_secs_f64(),
        reason: view.reason.map_or_else(|| "nothing has failed".to_owned(), |why| why.to_string()),
    })
}

fn notes(pool: &Pool, shared: &Shared) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(breaker) = circuit_breaker(pool, shared).filter(|one| one.state != "closed") {
        let word = pool.state.breaker.look(shared.uptime()).state.word();
        notes.push(format!("the circuit breaker is {word}: {}", breaker.reason));
    }
    for share in pool.state.split.load().shares.iter().filter(|share| share.share > 0.0) {
        let version = &share.version;
        let of = |words: &str| match &*version.name {
            "" => words.to_owned(),
            name => format!("version {name}: {words}"),
        };
        notes.extend(version.usable().tier.alarm().map(of));
        notes.extend(version.ailment.load().as_deref().map(|words| of(words)));
    }
    match pool.state.line.len() {
        0 => {}
        1 => notes.push("1 request waits for a backend with room".to_owned()),
        count => notes.push(format!("{count} requests wait for a backend with room")),
    }
    notes
}

fn backends(version: &Version, shared: &Shared) -> BTreeMap<Arc<str>, BackendStatus> {
    let status = |member: &Member| {
        (Arc::clone(&member.backend.label), of_member(member, &member.backend, shared))
    };
    version.members.iter().map(status).collect()
}

fn of_member(member: &Member, backend: &Backend, shared: &Shared) -> BackendStatus {
    // Before its reason, which is recorded before it.
    let state = backend.condition().label();
    let (since, by_hand) = {
        let health = backend.health();
        (shared.uptime().saturating_sub(health.since()), health.by_hand())
    };
    // Which may have been in the life of another process.
    let since = by_hand.map_or(since, |by_hand| by_hand.since.elapsed().unwrap_or_default());
    let reason = backend.history.latest().map(|past| past.transition.reason.to_string());
    BackendStatus {
        state,
        since_seconds: since.as_secs_f64(),
        reason: reason.unwrap_or_else(|| "no verdict yet".to_owned()),
        now: backend.history.now().map(|failure| failure.to_string()),
        weight: member.weight,
        weight_ratio: backend.weight_ratio(),
        backup: member.backup,
        in_flight: backend.in_flight(),
        tunnels: backend.tunnels(),
        circuit_breaker: backend.circuit(),
        suspected: backend.is_suspect(),
        finding: backend.findings.latest(shared.uptime()),
        learned_keepalive_seconds: {
            let learned = backend.keep_alive.limit(std::time::Instant::now());
            learned.map(|limit| limit.as_secs_f64())
        },
    }
}
