//! The history of a backend, and when it may come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{AskError, render};
use crate::health::State;
use crate::state::{Backend, Shared};

/// What there is to say of a backend in one pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackendExplanation {
    /// Its pool.
    pub pool: String,
    /// The version that it belongs to; empty on plain pools.
    pub version: String,
    /// Its address.
    pub backend: String,
    /// Its state.
    pub state: &'static str,
    /// How long it has been that.
    pub since_seconds: f64,
    /// How its checks fail now, in words, if that is otherwise than its last transition tells; absent
    /// if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// When it may take requests again, in words; absent if it may now.
    pub comes_back: Option<String>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Whether it leaves requests waiting unusually long.
    pub suspected: bool,
    /// For how long an unused connection to it is kept at most, as learned from how it closes them and
    /// from what it says; absent while nothing was learned.
    pub learned_keepalive_seconds: Option<f64>,
    /// The last transitions, the latest first.
    pub transitions: Vec<TransitionView>,
    /// All of it as text for people.
    pub text: String,
}

/// A transition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransitionView {
    /// How long ago.
    pub ago_seconds: f64,
    /// What it was.
    pub from: &'static str,
    /// What it became.
    pub to: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// The backend at this address, in every pool that has it.
///
/// # Errors
/// If none has.
pub fn backend(shared: &Shared, address: &str) -> Result<Vec<BackendExplanation>, AskError> {
    let snapshot = shared.snapshot.load();
    let now = shared.uptime();
    let mut found = Vec::new();
    for pool in snapshot.pools.values() {
        for share in &pool.state.split.load().shares {
            let members = share.version.members.iter();
            let here = members.filter(|member| *member.backend.label == *address);
            found.extend(here.map(|member| explain(&member.backend, &share.version.name, now)));
        }
    }
    if found.is_empty() { Err(AskError::Backend(address.to_owned())) } else { Ok(found) }
}

fn explain(backend: &Backend, version: &Arc<str>, now: Duration) -> BackendExplanation {
    let past = backend.history.last();
    let transitions = past.iter().rev().map(|past| TransitionView {
        ago_seconds: now.saturating_sub(past.at).as_secs_f64(),
        from: past.transition.from.label(),
        to: past.transition.to.label(),
        reason: past.transition.reason.to_string(),
    });
    let transitions = transitions.collect();
    let suspected = backend.is_suspect();
    let learned = backend.keep_alive.limit(Instant::now());
    let health = backend.health();
    let mut told = BackendExplanation {
        pool: backend.pool.to_string(),
        version: version.to_string(),
        backend: backend.label.to_string(),
        state: backend.condition().label(),
        since_seconds: now.saturating_sub(health.since()).as_secs_f64(),
        now: backend.history.now().map(|failure| failure.to_string()),
        comes_back: comes_back(health.state(), health.held_until(now), now),
        in_flight: backend.in_flight(),
        suspected,
        learned_keepalive_seconds: learned.map(|limit| limit.as_secs_f64()),
        transitions,
        text: String::new(),
    };
    drop(health);
    told.text = render::backend(&told);
    told
}

fn comes_back(state: State, held_until: Option<Duration>, now: Duration) -> Option<String> {
    let in_seconds =
        |until: Duration| format!("in {:.0} s", until.saturating_sub(now).as_secs_f64().ceil());
    match (state, held_until) {
        (State::Healthy, _) => None,
        (State::Leaving, _) => Some("when it no longer says that it is leaving".to_owned()),
        (State::Draining, _) => Some("by hand: `tidegate undrain`".to_owned()),
        (State::Disabled, _) => Some("by hand: `tidegate enable`".to_owned()),
        (State::Checking, _) => Some("with the first check that passes".to_owned()),
        (State::Ejected { until }, _) => {
            Some(format!("{}, when its ejection is over", in_seconds(until)))
        }
        (State::Unhealthy, Some(until)) => Some(format!(
            "{} at the earliest, as it went up and down too often, and then with the first check \
             that passes",
            in_seconds(until)
        )),
        (State::Unhealthy, None) => {
            Some("as soon as `rise` checks in a row have passed".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_when_a_backend_may_come_back() {
        let now = Duration::from_secs(100);
        let until = now + Duration::from_millis(4500);
        let told = |state, held| comes_back(state, held, now).unwrap_or_default();
        assert_eq!(told(State::Healthy, None), "");
        assert!(told(State::Ejected { until }, None).starts_with("in 5 s"));
        assert!(told(State::Unhealthy, Some(until)).starts_with("in 5 s at the earliest"));
        assert!(told(State::Unhealthy, None).contains("`rise`"));
    }
}
