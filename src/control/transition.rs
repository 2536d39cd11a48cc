//! What follows when a backend is in another state.

use super::publisher::Publisher;
use crate::balance::Condition;
use crate::health::Transition;
use crate::state::{Backend, Mail, Shared};
use crate::telemetry::events;

/// Publishes what was made of a backend's health, and tells of it.
pub(super) fn publish(
    shared: &Shared,
    publisher: &Publisher,
    backend: &Backend,
    transitions: &[Transition],
) {
    if transitions.is_empty() {
        return;
    }
    // Whoever sees the new condition is to find its reason.
    let now = shared.uptime();
    transitions.iter().for_each(|transition| backend.history.record(now, transition.clone()));
    let condition = backend.publish_health();
    if matches!(condition, Condition::Unhealthy | Condition::Ejected) {
        publisher.judged_unfit(backend.id);
        backend.findings.end();
    }
    publisher.changed(&backend.pool);
    match condition {
        Condition::Unhealthy | Condition::Leaving | Condition::Draining | Condition::Disabled => {
            shared.broadcast(|| Mail::BackendDown(backend.id));
        }
        Condition::Healthy | Condition::Checking | Condition::Ejected => {}
    }
    for transition in transitions {
        events::backend_transition(shared, backend, transition);
    }
}
