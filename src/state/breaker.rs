//! The circuit breaker of a pool, asked by every request and told by every request.
//!
//! The state machine is in [`health`](crate::health::Breaker). While it is closed and the last request
//! went well, which is nearly always, neither needs its lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::counters::TransitionCounters;
use crate::health::{
    Admission, Breaker, BreakerReason, BreakerSettings, BreakerState, BreakerTransition, Trial,
};

/// A pool's breaker, carried across reloads. What its pool has no settings for is not asked.
#[derive(Debug)]
pub struct PoolBreaker {
    /// [`Breaker::is_quiet`] as it was when the lock was last let go.
    quiet: AtomicBool,
    breaker: Mutex<(Breaker, Option<BreakerReason>)>,
    /// How often it changed, and how.
    pub transitions: TransitionCounters,
}

/// A breaker as it is at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// What it does.
    pub state: BreakerState,
    /// Since when, counted from the start of the process.
    pub since: Duration,
    /// Why, if it ever changed.
    pub reason: Option<BreakerReason>,
}

impl PoolBreaker {
    /// A closed one, as of `now` since the process started.
    pub fn new(now: Duration) -> Self {
        PoolBreaker {
            quiet: AtomicBool::new(true),
            breaker: Mutex::new((Breaker::new(BreakerSettings::default(), now), None)),
            transitions: TransitionCounters::default(),
        }
    }

    /// Other settings from now on; it stays what it is.
    pub fn configure(&self, settings: BreakerSettings) {
        self.lock().0.configure(settings);
    }

    /// Whether everything flows and nothing has failed just now: then it need not be asked.
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Whether a request may pass.
    pub fn admit(&self, now: Duration) -> (Admission, Option<BreakerTransition>) {
        self.with(|breaker| breaker.admit(now), |(_, transition)| *transition)
    }

    /// Takes the outcome of a request that was let through; `None`: there is none.
    pub fn tell(
        &self,
        now: Duration,
        trial: Option<Trial>,
        success: Option<bool>,
    ) -> Option<BreakerTransition> {
        let tell = |breaker: &mut Breaker| match (success, trial) {
            (Some(success), trial) => breaker.on_outcome(now, trial, success),
            (None, Some(trial)) => {
                breaker.on_abandoned(trial);
                None
            }
            (None, None) => None,
        };
        self.with(tell, |transition| *transition)
    }

    /// A backend of the pool became well.
    pub fn recovered(&self, now: Duration) -> Option<BreakerTransition> {
        if self.is_quiet() {
            return None;
        }
        self.with(|breaker| breaker.on_recovery(now), |transition| *transition)
    }

    /// What it does at `now`. Nobody may have asked since its time was over.
    pub fn look(&self, now: Duration) -> BreakerView {
        let (breaker, reason) = &*self.lock();
        match breaker.state() {
            BreakerState::Open { until } if until <= now => BreakerView {
                state: BreakerState::HalfOpen,
                since: until,
                reason: Some(BreakerReason::Waited),
            },
            state => BreakerView { state, since: breaker.since(), reason: *reason },
        }
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Breaker) -> T,
        transition: impl FnOnce(&T) -> Option<BreakerTransition>,
    ) -> T {
        let (breaker, reason) = &mut *self.lock();
        let result = act(breaker);
        if let Some(transition) = transition(&result) {
            *reason = Some(transition.reason);
        }
        self.quiet.store(breaker.is_quiet(), Ordering::Relaxed);
        result
    }

    fn lock(&self) -> MutexGuard<'_, (Breaker, Option<BreakerReason>)> {
        // Every method of it leaves it whole.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_quiet_while_nothing_fails() {
        let breaker = PoolBreaker::new(at(0));
        let quiet_after = |success| {
            breaker.tell(at(1), None, Some(success));
            breaker.is_quiet()
        };
        assert_eq!([true, false, true].map(quiet_after), [true, false, true]);
    }

    #[test]
    fn it_is_shown_half_open_as_soon_as_trials_may_pass() {
        let breaker = PoolBreaker::new(at(0));
        for _ in 0..5 {
            breaker.tell(at(1), None, Some(false));
        }
        assert_eq!(breaker.look(at(60)).state, BreakerState::Open { until: at(61) });
        let half_open = breaker.look(at(70));
        assert_eq!((half_open.state, half_open.since), (BreakerState::HalfOpen, at(61)));
    }
}
