//! Events that are both a line of the log and a count, in one place so that the two always agree.

use std::fmt::{self, Display};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::health::{State, Transition};
use crate::state::counters::TransitionKey;
use crate::state::{Backend, Shared};

/// A backend's health changed: a line and a count.
pub fn backend_transition(backend: &Backend, transition: &Transition) {
    let (from, to) = (transition.from.label(), transition.to.label());
    let key = TransitionKey { from, to, reason: transition.reason.label() };
    backend.transitions.count(key);
    let (pool, address, reason) = (&*backend.pool, &*backend.label, &transition.reason);
    match transition.to {
        State::Healthy | State::Checking => {
            tracing::info!(pool, backend = address, from, "backend {address} is {to}: {reason}");
        }
        State::Unhealthy | State::Ejected { .. } => {
            tracing::warn!(pool, backend = address, from, "backend {address} is {to}: {reason}");
        }
    }
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
}

/// A configuration was refused; the one before stays in force. To be called by the governor only.
pub fn reload_failed(shared: &Shared, error: &dyn Display) {
    shared.reloads.failed.add(1);
    shared.reloads.last_succeeded.store(false, Ordering::Relaxed);
    tracing::error!("configuration refused, the one before stays in force: {error}");
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
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::health::{FlapSettings, Health, Reason, Settings};
    use crate::state::{Address, Snapshot};

    fn backend() -> Backend {
        let settings = Settings {
            rise: 1,
            fall: 1,
            base_ejection: Duration::from_secs(1),
            max_ejection: Duration::from_secs(1),
            flaps: FlapSettings::default(),
        };
        let address = Address::Ip(SocketAddr::from(([127, 0, 0, 1], 3001)));
        Backend::new("app".into(), address, Health::new(settings, Duration::ZERO), 1)
    }

    #[test]
    fn transitions_are_counted_by_kind() {
        let backend = backend();
        let transition = Transition {
            from: State::Checking,
            to: State::Healthy,
            reason: Reason::Passed { passes: 1 },
        };
        backend_transition(&backend, &transition);
        backend_transition(&backend, &transition);
        let key = TransitionKey { from: "checking", to: "healthy", reason: "probe_passed" };
        assert_eq!(backend.transitions.counts(), [(key, 2)]);
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
