//! The circuit breaker of one backend: open while it is ejected, and half-open after that, until it has
//! shown that it is well.
//!
//! On trial, it gets one request at a time as long as others can serve
//! ([`choose`](crate::state::Version::pick)), and one failure ejects it again, for longer. Two good
//! answers end the trial.

use std::sync::atomic::Ordering;

use crate::balance::Condition;
use crate::health::outliers::Totals;
use crate::state::Backend;

/// Good answers that end a trial.
const SUCCESSES: u64 = 2;

/// What is remembered of one backend.
#[derive(Debug, Default)]
pub(super) struct Trial {
    ejected: bool,
    /// Good answers before it began, while it lasts.
    from: Option<u64>,
}

impl Trial {
    /// Begins a trial, or ends it. `consecutive_failures` is what the configuration says of those who
    /// are not on trial.
    pub(super) fn look(&mut self, backend: &Backend, totals: &Totals, consecutive_failures: u32) {
        let good = totals.requests.saturating_sub(totals.failures);
        match backend.condition() {
            Condition::Healthy | Condition::Checking if self.ejected => {
                self.ejected = false;
                self.from = Some(good);
            }
            Condition::Ejected => *self = Trial { ejected: true, from: None },
            Condition::Healthy => {
                self.from = self.from.filter(|from| good.saturating_sub(*from) < SUCCESSES);
            }
            _ => self.from = None,
        }
        let on_trial = self.from.is_some();
        if backend.on_trial.swap(on_trial, Ordering::Relaxed) || on_trial {
            let limit = if on_trial { 1 } else { consecutive_failures };
            backend.yardstick.set_consecutive_failures(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_good_answers_end_a_trial_that_follows_an_ejection() {
        let backend = Backend::sample(1);
        let mut trial = Trial::default();
        let mut on_trial = |condition, requests, failures| {
            backend.set_condition(condition);
            let totals = Totals { requests, failures, ..Totals::default() };
            trial.look(&backend, &totals, 5);
            backend.on_trial.load(Ordering::Relaxed)
        };
        let story = [
            (Condition::Healthy, 10, 0, false),
            (Condition::Ejected, 15, 5, false),
            (Condition::Healthy, 15, 5, true),
            (Condition::Healthy, 16, 5, true),
            // A failure has it ejected again.
            (Condition::Ejected, 17, 6, false),
            (Condition::Healthy, 17, 6, true),
            (Condition::Healthy, 19, 6, false),
            (Condition::Unhealthy, 19, 6, false),
            (Condition::Healthy, 19, 6, false),
        ];
        for (condition, requests, failures, expected) in story {
            assert_eq!(on_trial(condition, requests, failures), expected, "{requests} requests");
        }
    }
}
