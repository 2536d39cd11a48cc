//! What happened to a backend lately, for people. How often it happened is in the counters.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::health::Transition;

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

/// The last transitions of one backend. Written on a transition and read by people: a lock is fine.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<PastTransition>>);

impl History {
    /// Adds a transition that happened at `at`, counted from the start of the process.
    pub fn record(&self, at: Duration, transition: Transition) {
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(PastTransition { at, transition });
    }

    /// The last transitions, the latest last.
    pub fn last(&self) -> Vec<PastTransition> {
        self.lock().iter().cloned().collect()
    }

    /// The latest transition, if there was any.
    pub fn latest(&self) -> Option<PastTransition> {
        self.lock().back().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<PastTransition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Reason, State};

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
}
