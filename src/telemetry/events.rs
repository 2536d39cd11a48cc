//! Events that are a line of the log, a count, and told to whoever listens to the feed: in one place,
//! so that the three always agree.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::health::outliers::{Action, Withheld};
use crate::health::{BreakerState, BreakerTransition, EjectionReason, State, Transition};
use crate::state::counters::TransitionKey;
use crate::state::{Backend, Happening, Pool, Shared, SwapEvent};

/// A backend's health changed.
pub fn backend_transition(shared: &Shared, backend: &Backend, transition: &Transition) {
    let (from, to) = (transition.from.label(), transition.to.label());
    let key = TransitionKey { from, to, reason: transition.reason.label() };
    backend.transitions.count(key);
    let (pool, address, reason) = (&*backend.pool, &*backend.label, &transition.reason);
    match transition.to {
        State::Healthy | State::Checking | State::Leaving | State::Draining | State::Disabled => {
            tracing::info!(pool, backend = address, from, "backend {address} is {to}: {reason}");
        }
        State::Unhealthy | State::Ejected { .. } => {
            tracing::warn!(pool, backend = address, from, "backend {address} is {to}: {reason}");
        }
    }
    shared.feed.tell(Happening::Transition {
        pool: backend.pool.clone(),
        backend: backend.label.clone(),
        from,
        to,
        reason: transition.reason.to_string(),
    });
}

/// Something speaks against a backend, and nothing follows from it.
pub fn outlier_found(
    shared: &Shared,
    backend: &Backend,
    now: Duration,
    reason: &EjectionReason,
    action: Action,
) {
    let (done, words) = match action {
        Action::Observed => ("observed", format!("would be ejected: {reason}")),
        Action::Spared => ("spared", format!("gets less of its share: {reason}")),
        // Who is to be ejected is no business of this function.
        Action::Eject => return,
        Action::Withheld(why) => {
            let why = match why {
                Withheld::Only => "it is the only backend",
                Withheld::Last => "all others are out",
                Withheld::Share => "max_ejected lets no more be out",
            };
            ("withheld", format!("not ejected, since {why}: {reason}"))
        }
    };
    let (pool, address) = (&*backend.pool, &*backend.label);
    tracing::warn!(pool, backend = address, "backend {address} {words}");
    let told = format!("backend {address} {words}");
    shared.feed.tell(Happening::Note { pool: Some(Arc::clone(&backend.pool)), words: told });
    backend.findings.record(now, done, reason.label(), words);
}

/// Which way a pool turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Somebody is to look at it.
    Worse,
    /// It is over.
    Better,
}

/// A pool as a whole turned: `words` say what it is with it, or with one of its versions.
pub fn pool_turned(shared: &Shared, pool: &Arc<str>, version: &str, turn: Turn, words: &str) {
    let (name, version) = (&**pool, Some(version).filter(|version| !version.is_empty()));
    let words = match version {
        None => format!("pool {name}: {words}"),
        Some(version) => format!("pool {name}, version {version}: {words}"),
    };
    match turn {
        Turn::Worse => tracing::warn!(pool = name, version, "{words}"),
        Turn::Better => tracing::info!(pool = name, version, "{words}"),
    }
    shared.feed.tell(Happening::Note { pool: Some(Arc::clone(pool)), words });
}

/// A swap came to something. To be called by the governor only.
pub fn swap(shared: &Shared, event: SwapEvent) {
    let SwapEvent { id, pool, from, to, milestone, words, .. } = &event;
    match *milestone {
        "refused" | "rolled_back" | "would_roll_back" | "held" | "ejected" | "would_eject" => {
            tracing::warn!(
                pool = &**pool,
                swap = id,
                from = &**from,
                to = &**to,
                milestone,
                "swap {id} of pool {pool}: {words}"
            );
        }
        _ => tracing::info!(
            pool = &**pool,
            swap = id,
            from = &**from,
            to = &**to,
            milestone,
            "swap {id} of pool {pool}: {words}"
        ),
    }
    shared.feed.tell(Happening::Swap(event));
}

/// A pool's circuit breaker changed.
pub fn breaker_transition(shared: &Shared, pool: &Pool, transition: &BreakerTransition) {
    let (from, to) = (transition.from.label(), transition.to.label());
    let key = TransitionKey { from, to, reason: transition.reason.label() };
    pool.state.breaker.transitions.count(key);
    let name = &*pool.name;
    let words = format!(
        "circuit breaker of pool {name} is {}: {}",
        transition.to.word(),
        transition.reason
    );
    match transition.to {
        BreakerState::Open { .. } => tracing::warn!(pool = name, from, "{words}"),
        BreakerState::HalfOpen | BreakerState::Closed => {
            tracing::info!(pool = name, from, "{words}")
        }
    }
    shared.feed.tell(Happening::Note { pool: Some(Arc::clone(&pool.name)), words });
}

/// A configuration came into force, the one at start included. `changes` tells what it changed; empty
/// if nothing did. To be called by the governor only.
pub fn reload_succeeded(shared: &Shared, generation: u64, changes: &dyn Display) {
    let reloads = &shared.reloads;
    reloads.succeeded.add(1);
    reloads.last_succeeded.store(true, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    reloads.last_success_timestamp.store(now.as_secs(), Ordering::Relaxed);
    tracing::info!(generation, "configuration in force{}", After(": ", changes));
    shared.feed.tell(Happening::Reloaded { generation, changes: changes.to_string() });
}

/// A configuration was refused; the one before stays in force. To be called by the governor only.
pub fn reload_failed(shared: &Shared, error: &dyn Display) {
    shared.reloads.failed.add(1);
    shared.reloads.last_succeeded.store(false, Ordering::Relaxed);
    tracing::error!("configuration refused, the one before stays in force: {error}");
    shared.feed.tell(Happening::ReloadRefused { error: error.to_string() });
}

/// A text with something before it, unless it is empty.
struct After<'a>(&'a str, &'a dyn Display);

impl Display for After<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.1.to_string();
        if text.is_empty() { Ok(()) } else { write!(f, "{}{text}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Reason;
    use crate::state::Snapshot;

    #[test]
    fn transitions_are_counted_by_kind_and_told() {
        let (shared, _ends) = Shared::new(1, "".into(), Snapshot::empty(), u64::MAX);
        let backend = Backend::sample(3001);
        let transition = Transition {
            from: State::Checking,
            to: State::Healthy,
            reason: Reason::Passed { passes: 1 },
        };
        backend_transition(&shared, &backend, &transition);
        backend_transition(&shared, &backend, &transition);
        let key = TransitionKey { from: "checking", to: "healthy", reason: "probe_passed" };
        assert_eq!(backend.transitions.counts(), [(key, 2)]);
        let told = shared.feed.latest(2)[1].what.words().into_owned();
        assert_eq!(told, "app: 127.0.0.1:3001 is healthy: passed its check");
    }

    #[test]
    fn a_refused_configuration_leaves_the_time_of_the_last_good_one() {
        let (shared, _ends) = Shared::new(1, "".into(), Snapshot::empty(), u64::MAX);
        reload_succeeded(&shared, 1, &"");
        let time = shared.reloads.last_success_timestamp.load(Ordering::Relaxed);
        reload_failed(&shared, &"no such file");
        let reloads = &shared.reloads;
        assert_eq!((reloads.succeeded.get(), reloads.failed.get()), (1, 1));
        assert!(!reloads.last_succeeded.load(Ordering::Relaxed));
        assert_eq!(reloads.last_success_timestamp.load(Ordering::Relaxed), time);
    }
}
