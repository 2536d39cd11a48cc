//! The flap guard: a backend that goes up and down all the time is held down for longer.
//!
//! Every change moves the traffic of a pool about, and every return costs a slow start. So from the
//! third time down within a minute on (by default) a backend stays down for ten seconds at least,
//! however well its probes go; if it goes down again within a minute of its return, for twenty, and
//! so on up to two minutes. A minute in service wipes the slate. Passes while it is held count, so
//! that it comes back with the first one after.

use std::collections::VecDeque;
use std::time::Duration;

/// When a backend flaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlapSettings {
    /// Times down within `window` from which on it is held; 0: never.
    pub downs: u32,
    /// How far back they count.
    pub window: Duration,
    /// For how long it is held; the n-th time in a row n times as long ...
    pub hold: Duration,
    /// ... up to this.
    pub max_hold: Duration,
}

impl Default for FlapSettings {
    fn default() -> Self {
        Self {
            downs: 3,
            window: Duration::from_secs(60),
            hold: Duration::from_secs(10),
            max_hold: Duration::from_secs(120),
        }
    }
}

/// A time for which a backend stays down whatever its probes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// When it may come back.
    pub until: Duration,
    /// How long that is from when it went down.
    pub length: Duration,
}

/// The times at which one backend went down.
#[derive(Clone, Debug, Default)]
pub(super) struct FlapGuard {
    downs: VecDeque<Duration>,
    /// Holds in a row.
    level: u32,
    held_until: Duration,
}

impl FlapGuard {
    /// It went down; says whether it is to be held.
    pub(super) fn on_down(&mut self, now: Duration, settings: &FlapSettings) -> Option<Hold> {
        if settings.downs == 0 {
            return None;
        }
        // Most of the window may have been spent being held.
        let relapse = self.level > 0 && now <= self.held_until.saturating_add(settings.window);
        let begin = now.saturating_sub(settings.window);
        self.downs.push_back(now);
        while self.downs.len() > settings.downs as usize
            || self.downs.front().is_some_and(|down| *down < begin)
        {
            self.downs.pop_front();
        }
        if !relapse && self.downs.len() < settings.downs as usize {
            self.level = 0;
            return None;
        }
        self.level = if relapse { self.level.saturating_add(1) } else { 1 };
        let length = settings.hold.saturating_mul(self.level).min(settings.max_hold);
        self.held_until = now.saturating_add(length);
        Some(Hold { until: self.held_until, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn holds(downs: &[u64]) -> Vec<u64> {
        let mut guard = FlapGuard::default();
        let settings = FlapSettings { max_hold: secs(35), ..FlapSettings::default() };
        let mut hold = |at: &u64| guard.on_down(secs(*at), &settings);
        downs.iter().map(|at| hold(at).map_or(0, |hold| hold.length.as_secs())).collect()
    }

    #[test]
    fn the_third_time_in_a_minute_holds_it() {
        for (downs, lengths) in [
            (&[0, 30, 60][..], &[0, 0, 10][..]),
            (&[0, 30, 61], &[0, 0, 0]),
            (&[0, 40, 80, 120, 160], &[0, 0, 0, 0, 0]),
            (&[0, 40, 80, 90], &[0, 0, 0, 10]),
        ] {
            assert_eq!(holds(downs), lengths, "{downs:?}");
        }
    }

    #[test]
    fn relapses_are_held_longer_until_it_was_well_for_a_minute() {
        // Held until 20, 45, 76, 112 (the longest), and then once more.
        assert_eq!(holds(&[0, 5, 10, 25, 46, 77, 113]), [0, 0, 10, 20, 30, 35, 35]);
        // Back at 20, well until 80 is well for a minute; 81 is the first of a new count.
        assert_eq!(holds(&[0, 5, 10, 80]), [0, 0, 10, 20]);
        assert_eq!(holds(&[0, 5, 10, 81, 82, 83]), [0, 0, 10, 0, 0, 10]);
    }

    #[test]
    fn switched_off() {
        let off = FlapSettings { downs: 0, ..FlapSettings::default() };
        let mut guard = FlapGuard::default();
        assert!((0..100).all(|at| guard.on_down(secs(at), &off).is_none()));
    }
}
