//! What happened to a backend lately, for people. How often it happened is in the counters.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::health::{ProbeFailure, Reason, Transition};

/// Transitions that are kept.
const KEPT: usize = 20;

/// A transition and when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastTransition {
    /// Since the process started.
    pub at: Duration,
    /// What changed, and why.
    pub transition: Transition,
}

/// The last transitions of one backend, and how its last probe failed. Written by whoever probes it
/// and read by people: a lock is fine.
#[derive(Debug, Default)]
pub struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    transitions: VecDeque<PastTransition>,
    /// Absent if the last probe passed.
    failure: Option<ProbeFailure>,
}

impl History {
    /// Adds a transition that happened at `at`, counted from the start of the process.
    pub fn record(&self, at: Duration, transition: Transition) {
        let kept = &mut self.lock().transitions;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(PastTransition { at, transition });
    }

    /// Takes note of how the latest probe ended.
    pub fn probed(&self, outcome: Result<(), &ProbeFailure>) {
        let failure = &mut self.lock().failure;
        if failure.as_ref() != outcome.err() {
            *failure = outcome.err().cloned();
        }
    }

    /// How the latest probe failed, where it did otherwise than the latest transition tells.
    pub fn now(&self) -> Option<ProbeFailure> {
        let inner = self.lock();
        let told = match inner.transitions.back().map(|past| &past.transition.reason) {
            Some(Reason::Failed { last, .. }) => Some(last),
            _ => None,
        };
        inner.failure.as_ref().filter(|failure| Some(*failure) != told).cloned()
    }

    /// The last transitions, the latest last.
    pub fn last(&self) -> Vec<PastTransition> {
        self.lock().transitions.iter().cloned().collect()
    }

    /// The latest transition, if there was any.
    pub fn latest(&self) -> Option<PastTransition> {
        self.lock().transitions.back().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::State;

    #[test]
    fn the_oldest_go_first() {
        let history = History::default();
        for passes in 0..25 {
            let reason = Reason::Passed { passes };
            let transition = Transition { from: State::Checking, to: State::Healthy, reason };
            history.record(Duration::from_secs(passes.into()), transition);
        }
        let last = history.last();
        assert_eq!(last.len(), KEPT);
        assert_eq!(last[0].at, Duration::from_secs(5));
        assert_eq!(history.latest(), last.last().cloned());
    }

    #[test]
    fn a_failure_is_told_where_it_is_another_than_the_one_that_made_the_backend_unhealthy() {
        let history = History::default();
        let last = ProbeFailure::Other("connection refused".into());
        let reason = Reason::Failed { failures: 2, last: last.clone(), hold: None };
        let transition = Transition { from: State::Checking, to: State::Unhealthy, reason };
        history.record(Duration::ZERO, transition);
        history.probed(Err(&last));
        assert_eq!(history.now(), None);
        let other = ProbeFailure::Other("TLS handshake failed".into());
        history.probed(Err(&other));
        assert_eq!(history.now(), Some(other));
        history.probed(Ok(()));
        assert_eq!(history.now(), None);
    }
}
