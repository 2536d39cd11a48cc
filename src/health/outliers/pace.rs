//! What slowness costs a backend: first its share, then its place.
//!
//! A backend that is found to be slow keeps the part of its share that it is fast, and half of that
//! with every further quarter of a second, down to 5 %. That is enough to see whether it is still slow,
//! and costs few requests. If those of a second are slow too, it is ejected; if they are not, its share
//! doubles every second. After an ejection it begins with the same 5 %, so that a backend that is still
//! slow shows it to few.

use std::time::Duration;

use super::latency::Latencies;

/// No backend loses more of its share: trial traffic.
const FLOOR: f64 = 0.05;
/// Requests of so long a time have to be slow before it is ejected.
const PATIENCE: Duration = Duration::from_secs(1);
/// No ejection on fewer heads than this since it was found to be slow.
const TRIALS: f64 = 5.0;

/// Looks come a little early or late: what came between two of them is not to be lost for that.
const JITTER: Duration = Duration::from_millis(25);

/// So many requests may be in flight on a backend that is [tried
/// out](super::Traffic::needs_trials) before it counts as busy: twice as many as are needed, as some
/// waited before it was found to be slow.
pub const TRIED_AT_ONCE: u32 = 10;

/// The share of one backend.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    share: f64,
    slow: bool,
    changed: Duration,
    slow_before: bool,
}

/// Heads that came, or are overdue, of attempts that were made since a backend was found to be slow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trial {
    /// What is overdue before this was sent before it was found.
    from: Duration,
    heads: f64,
    late: f64,
}

impl Trial {
    fn begin(now: Duration, limit: Duration) -> Self {
        Self { from: now + limit.saturating_sub(JITTER), ..Self::default() }
    }

    /// These came after `since`, or are later than `limit` since then.
    pub(super) fn add(&mut self, latencies: &Latencies, limit: Duration, since: Duration) {
        if since >= self.from {
            self.heads += latencies.count() as f64;
            self.late += latencies.above(limit);
        }
    }

    /// Whether there were enough.
    pub(super) fn is_complete(self) -> bool {
        self.heads >= TRIALS
    }

    fn failed(self) -> bool {
        self.is_complete() && self.late * 2.0 > self.heads
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { share: 1.0, slow: false, changed: Duration::ZERO, slow_before: false }
    }
}

impl Pace {
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    /// It was ejected; that it was for being slow is remembered for when it comes back.
    pub(super) fn on_ejected(&mut self, slow: bool) {
        self.slow_before = slow;
    }

    pub(super) fn come_back(&mut self) {
        let share = if self.slow_before { FLOOR } else { 1.0 };
        *self = Self { share, ..Self::default() };
    }

    /// Takes the finding of a tick; `slowness` is how many times its siblings' time it takes, if it
    /// is slow, and `limit` the age at which a head is late. Says whether it is to be ejected.
    pub(super) fn on_tick(
        &mut self,
        now: Duration,
        slowness: Option<f64>,
        limit: Duration,
        trial: &mut Trial,
    ) -> bool {
        let elapsed = now.saturating_sub(self.changed);
        self.changed = now;
        let Some(slowness) = slowness else {
            self.slow = false;
            if self.share < 1.0 {
                // Of a long time without a look only the last second counts.
                let seconds = elapsed.as_secs_f64().min(1.0);
                self.share = (self.share * seconds.exp2()).min(1.0);
            }
            return false;
        };
        if !self.slow {
            self.slow = true;
            self.share = self.share.min(1.0 / slowness.max(1.0)).max(FLOOR);
            *trial = Trial::begin(now, limit);
            return false;
        }
        // Of those that still wait nobody knows how slow they are: at least as slow as was thought.
        self.share = (self.share * (elapsed.as_secs_f64() * -4.0).exp2()).max(FLOOR);
        now.saturating_sub(trial.from) >= PATIENCE && trial.failed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::outliers::latency::bucket;

    const LIMIT: Duration = Duration::from_millis(250);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// One that began when a backend was found to be slow at `found`, with so many heads.
    fn trial(found: u64, fast: u32, late: u32) -> Trial {
        let mut latencies = Latencies::default();
        latencies.add(bucket(ms(2)), fast);
        latencies.add(bucket(ms(2_000)), late);
        let mut trial = Trial::begin(ms(found), LIMIT);
        trial.add(&latencies, LIMIT, ms(found));
        assert_eq!(trial.heads, 0.0, "those were sent before");
        trial.add(&latencies, LIMIT, ms(found) + LIMIT);
        trial
    }

    #[test]
    fn a_slow_backend_keeps_the_part_that_it_is_fast() {
        for (slowness, share) in [(2.0, 0.5), (10.0, 0.1), (1_000.0, FLOOR), (0.5, 1.0)] {
            let mut pace = Pace::default();
            pace.on_tick(ms(250), Some(slowness), LIMIT, &mut Trial::default());
            assert!((pace.share() - share).abs() < 1e-9, "{slowness}: {}", pace.share());
        }
    }

    #[test]
    fn it_is_ejected_when_a_second_of_trials_was_slow() {
        let mut pace = Pace::default();
        let mut eject = |now, mut trial| pace.on_tick(ms(now), Some(100.0), LIMIT, &mut trial);
        assert!(!eject(250, trial(250, 0, 100)), "before any trial");
        assert!(!eject(1_250, trial(250, 0, 100)), "too soon");
        assert!(!eject(1_500, trial(250, 0, 4)), "too few trials");
        assert!(!eject(1_500, trial(250, 5, 5)), "trials went well");
        assert!(eject(1_500, trial(250, 4, 5)));
    }

    #[test]
    fn the_share_comes_back_within_seconds() {
        let mut pace = Pace::default();
        pace.on_tick(ms(0), Some(100.0), LIMIT, &mut Trial::default());
        let mut shares = Vec::new();
        for tick in 1..=20 {
            pace.on_tick(ms(250 * tick), None, LIMIT, &mut Trial::default());
            shares.push(pace.share());
        }
        assert!((shares[3] - 0.1).abs() < 1e-9 && (shares[7] - 0.2).abs() < 1e-9, "{shares:?}");
        assert_eq!(shares[19], 1.0);
    }

    #[test]
    fn a_pause_without_ticks_gives_little_back() {
        let mut pace = Pace::default();
        pace.on_tick(ms(0), Some(100.0), LIMIT, &mut Trial::default());
        pace.on_tick(ms(3_600_000), None, LIMIT, &mut Trial::default());
        assert!((pace.share() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_relapse_has_its_own_second() {
        let mut pace = Pace::default();
        let mut trials = trial(0, 0, 100);
        pace.on_tick(ms(0), Some(100.0), LIMIT, &mut trials);
        pace.on_tick(ms(900), None, LIMIT, &mut trials);
        assert!(!pace.on_tick(ms(1_250), Some(100.0), LIMIT, &mut trials));
        assert!(!pace.on_tick(ms(2_250), Some(100.0), LIMIT, &mut trial(1_250, 0, 100)));
        assert!(pace.on_tick(ms(2_500), Some(100.0), LIMIT, &mut trial(1_250, 0, 100)));
    }

    #[test]
    fn after_an_ejection_for_slowness_it_begins_with_trial_traffic() {
        let mut pace = Pace::default();
        pace.come_back();
        assert_eq!(pace.share(), 1.0);
        pace.on_ejected(true);
        pace.come_back();
        assert_eq!(pace.share(), FLOOR);
        pace.come_back();
        assert_eq!(pace.share(), 1.0, "remembered once");
    }
}
