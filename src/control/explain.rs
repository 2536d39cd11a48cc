//! Why things are as they are, told from the state itself: the live way of a request, and the
//! history of a backend.
//!
//! Who would be picked is not computed here a second time: the pick itself is asked, many times and
//! without taking a slot. So it cannot say anything else than what a request would meet.

mod backend;
mod render;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Uri;
use serde::Serialize;

pub use backend::{BackendExplanation, TransitionView, backend};

use crate::balance::{Condition, Policy, Tier, client_hash, score};
use crate::health::BreakerState;
use crate::state::pool::{NotPicked, PickWish};
use crate::state::route::{HostMatch, NoRoute};
use crate::state::snapshot::Fallback;
use crate::state::{Listener, Member, Pool, Share, Shared, Snapshot, Target, Version};

/// Requests that are sent through the pick in thought.
const REHEARSALS: u64 = 1000;

/// A request to be explained.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// `http://` or `https://`, with a host.
    pub url: String,
    /// Name and value of its fields.
    pub headers: Vec<(String, String)>,
    /// The listener that it comes to; else one is found by scheme and port.
    pub listener: Option<String>,
    /// The client's address, for `ip_hash`.
    pub client: Option<IpAddr>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The address means nothing.
    #[error("`{0}` is no address; write it like https://app.example.com/path")]
    Url(String),
    /// No listener of that name.
    #[error("there is no listener `{0}`; there are: {1}")]
    Listener(String, String),
    /// No listener takes such a request.
    #[error("no listener speaks {0}; there are: {1}. Name one to explain the request there")]
    Scheme(String, String),
    /// No backend at that address.
    #[error("there is no backend `{0}` in any pool; `tidegate status` lists them")]
    Backend(String),
}

/// The live way of a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestExplanation {
    /// What was asked about.
    pub url: String,
    /// The listener that it comes to.
    pub listener: String,
    /// The route that takes it, if one does.
    pub route: Option<String>,
    /// Why that one, or why none.
    pub route_why: String,
    /// What is answered without a backend, if anything.
    pub answer: Option<String>,
    /// The pool.
    pub pool: Option<String>,
    /// How a backend is chosen there.
    pub policy: Option<&'static str>,
    /// Its versions with their shares, the largest first.
    pub versions: Vec<VersionExplanation>,
    /// All of it as text for people.
    pub text: String,
}

/// A version of the pool, as such a request meets it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionExplanation {
    /// Its name; empty on plain pools.
    pub name: String,
    /// Its share of new requests, 0 to 1.
    pub share: f64,
    /// Which members may be picked, in words.
    pub usable: &'static str,
    /// What would happen instead of a pick, if nobody can be picked.
    pub nobody: Option<&'static str>,
    /// The backend that the request's cookie stands for.
    pub bound_to: Option<String>,
    /// Every member, those that are most likely first.
    pub candidates: Vec<Candidate>,
}

/// A member of a version, as such a request meets it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Its address.
    pub backend: String,
    /// Its state.
    pub state: &'static str,
    /// The share of such requests that it would get now, 0 to 1, out of the version's.
    pub part: f64,
    /// What policies that look at loads compare: the lowest is picked.
    pub score: f64,
    /// Requests in flight on it.
    pub in_flight: u32,
    /// Its weight.
    pub weight: u32,
    /// What it gets of its share: less than 1 in slow start and while it is slow.
    pub weight_ratio: f64,
    /// Why it gets what it gets, in words.
    pub why: String,
}

/// The live way of a request.
///
/// # Errors
/// If it cannot be said what the request is.
pub fn request(shared: &Shared, ask: &Ask) -> Result<RequestExplanation, AskError> {
    let wrong = || AskError::Url(ask.url.clone());
    let url: Uri = ask.url.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(wrong());
    };
    let snapshot = shared.snapshot.load();
    let listener = find_listener(&snapshot, ask, scheme, &url)?;
    let sent = ask.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = sent.map_or(authority.as_str(), |(_, host)| host.as_str());
    let mut told = RequestExplanation {
        url: ask.url.clone(),
        listener: listener.name.to_string(),
        route: None,
        route_why: String::new(),
        answer: None,
        pool: None,
        policy: None,
        versions: Vec::new(),
        text: String::new(),
    };
    match snapshot.routes.explain(snapshot.index_of(listener), host, url.path()) {
        Err(why) => {
            told.route_why = no_route(why, host, url.path());
            told.answer = Some("404".to_owned());
        }
        Ok((route, by)) => {
            told.route = Some(route.name.to_string());
            told.route_why = format!("it takes {}; {}", route.takes, host_words(by));
            match &route.target {
                Target::Redirect(redirect) => told.answer = Some(redirect.status.to_string()),
                Target::Pool(pool) => {
                    explain_pool(pool, ask, &mut told);
                    told.answer = refusal(pool, route.fallback.as_ref(), shared);
                }
            }
        }
    }
    told.text = told.render();
    Ok(told)
}

/// The one that was named, else one by scheme, if possible the one at the port.
fn find_listener<'s>(
    snapshot: &'s Snapshot,
    ask: &Ask,
    scheme: &str,
    url: &Uri,
) -> Result<&'s Arc<Listener>, AskError> {
    let all = || {
        let names: Vec<&str> = snapshot.listeners.iter().map(|listener| &*listener.name).collect();
        names.join(", ")
    };
    if let Some(name) = &ask.listener {
        let found = snapshot.listeners.iter().find(|listener| *listener.name == **name);
        return found.ok_or_else(|| AskError::Listener(name.clone(), all()));
    }
    let secure = scheme == "https";
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let speak = || snapshot.listeners.iter().filter(|listener| listener.tls.is_some() == secure);
    speak()
        .find(|listener| listener.port == port)
        .or_else(|| speak().next())
        .ok_or_else(|| AskError::Scheme(scheme.to_owned(), all()))
}

fn host_words(by: HostMatch) -> &'static str {
    match by {
        HostMatch::Exact => "the host itself has routes, so no wildcard is asked",
        HostMatch::Wildcard => "this wildcard is the longest that stands for the host",
        HostMatch::Any => "no route names the host",
    }
}

fn no_route(why: NoRoute, host: &str, path: &str) -> String {
    match why {
        NoRoute::Host => format!("no route on this listener is for {host}"),
        NoRoute::Path(by) => {
            format!("no route for the host takes the path {path}: {}", host_words(by))
        }
    }
}

/// What is answered without a pick, as long as the pool's circuit breaker is open.
fn refusal(pool: &Pool, fallback: Option<&Fallback>, shared: &Shared) -> Option<String> {
    pool.circuit_breaker?;
    let BreakerState::Open { .. } = pool.state.breaker.look(shared.uptime()).state else {
        return None;
    };
    let answer = match fallback {
        None => "503".to_owned(),
        Some(Fallback::Static(answer)) => format!("the fallback's file with {}", answer.status),
        Some(Fallback::Pool(other)) => format!("what the fallback, pool {}, answers", other.name),
    };
    Some(format!("{answer} (the circuit breaker is open)"))
}

fn explain_pool(pool: &Pool, ask: &Ask, told: &mut RequestExplanation) {
    told.pool = Some(pool.name.to_string());
    told.policy = Some(pool.policy.label());
    let hash = match (pool.policy, ask.client) {
        (Policy::IpHash, Some(client)) => client_hash(client),
        _ => 0,
    };
    let split = pool.state.split.load();
    told.versions = split.shares.iter().map(|share| version(share, ask, hash)).collect();
    told.versions.sort_by(|one, other| other.share.total_cmp(&one.share));
}

fn version(share: &Share, ask: &Ask, hash: u64) -> VersionExplanation {
    let version = &share.version;
    let cookies = ask.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
    let cookies = cookies.map(|(_, value)| value.as_bytes());
    let bound_to = version.affinity.as_ref().and_then(|affinity| affinity.member(cookies));
    let wish = PickWish { bound_to, hash, tried: &[] };
    let (counts, nobody) = rehearse(version, &wish);
    let candidate = |(index, member): (usize, &Member)| {
        let part = counts.get(&index).copied().unwrap_or(0) as f64 / REHEARSALS as f64;
        candidate(version, index, member, part)
    };
    let mut candidates: Vec<Candidate> =
        version.members.iter().enumerate().map(candidate).collect();
    candidates.sort_by(|one, other| other.part.total_cmp(&one.part));
    VersionExplanation {
        name: version.name.to_string(),
        share: share.share,
        usable: tier_words(version.usable().tier),
        nobody,
        bound_to: bound_to.map(|member| version.members[member].backend.label.to_string()),
        candidates,
    }
}

/// How often each member is picked, by its index.
fn rehearse(
    version: &Version,
    wish: &PickWish<'_>,
) -> (BTreeMap<usize, u64>, Option<&'static str>) {
    let mut rng = fastrand::Rng::new();
    let mut counts = BTreeMap::new();
    let mut nobody = None;
    for ahead in 0..REHEARSALS {
        match version.rehearse(wish, ahead, &mut rng) {
            Ok(member) => *counts.entry(member).or_insert(0) += 1,
            Err(NotPicked::Nobody) => nobody = Some("503: nobody may be picked"),
            Err(NotPicked::Full) => nobody = Some("everybody is at the limit: it waits in line"),
            Err(NotPicked::BoundIsFull) => {
                nobody = Some("its own backend is at the limit: it waits for that");
            }
        }
    }
    (counts, nobody)
}

fn candidate(version: &Version, index: usize, member: &Member, part: f64) -> Candidate {
    let backend = &member.backend;
    let condition = backend.condition();
    let reason = backend.history.latest().map(|past| past.transition.reason.to_string());
    let ratio = backend.weight_ratio();
    let why = if !version.usable().contains(index) {
        let reason = reason.unwrap_or_else(|| "no verdict yet".to_owned());
        why_not(condition, member.backup, reason)
    } else if backend.is_full() {
        "at the limit of its requests".to_owned()
    } else if backend.suspected.load(Ordering::Relaxed) {
        "under suspicion: others are preferred".to_owned()
    } else if backend.on_trial.load(Ordering::Relaxed) {
        "on trial after an ejection: one request at a time while others can serve".to_owned()
    } else if ratio < 1.0 {
        format!("gets {:.0}% of its share: it is new, has recovered, or is slow", ratio * 100.0)
    } else {
        reason.unwrap_or_else(|| "no verdict yet".to_owned())
    };
    Candidate {
        backend: backend.label.to_string(),
        state: condition.label(),
        part,
        score: score(backend.in_flight(), member.weight),
        in_flight: backend.in_flight(),
        weight: member.weight,
        weight_ratio: ratio,
        why,
    }
}

/// Why one is not usable; `reason` is that for its condition.
fn why_not(condition: Condition, backup: bool, reason: String) -> String {
    match (condition, backup) {
        (Condition::Healthy, true) => "a backup: only if no other is well".to_owned(),
        // Whose reason begins with that word, as it tells for how long.
        (Condition::Ejected, _) => reason,
        _ => format!("{}: {reason}", condition.label()),
    }
}

fn tier_words(tier: Tier) -> &'static str {
    match tier {
        Tier::Healthy => "the healthy ones",
        Tier::Panic => "everybody: too few are healthy (panic_threshold)",
        Tier::Backup => "the backups: no other is healthy",
        Tier::Checking => "those without a verdict: none is known to be healthy",
        Tier::Leaving => "those that are leaving: nobody better is there",
        Tier::AllDown => "everybody: none is well, and all_down is \"try\"",
        Tier::Empty => "nobody",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_one_is_not_usable_is_told_once() {
        for (condition, reason, told) in [
            (Condition::Ejected, "ejected for 10 s: a request failed", None),
            (Condition::Unhealthy, "failed its check", Some("unhealthy: failed its check")),
        ] {
            assert_eq!(why_not(condition, false, reason.to_owned()), told.unwrap_or(reason));
        }
    }
}
