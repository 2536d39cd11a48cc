//! Who falls ill, with what, and for how long.

use std::time::Duration;

use super::super::plan::{ILLNESSES, Illness};
use super::{Event, Sickness, World, ms};
use crate::health::State;

impl World {
    pub(super) fn plan_fall(&mut self, i: usize, pause: Duration) {
        let more = Duration::from_secs(self.rng.u64(..120));
        self.at(pause + more, Event::Fall(i));
    }

    pub(super) fn fall(&mut self, i: usize) {
        let ill = self.backends.iter().filter(|backend| backend.sick.is_some()).count();
        // With one at a time the others have to be back first.
        let busy = self.plan.together == 1
            && self.backends.iter().enumerate().any(|(i, backend)| {
                backend.health.state() != State::Healthy || self.share(i) < 1.0
            });
        if self.over || ill >= self.plan.together || busy {
            self.plan_fall(i, Duration::from_secs(5));
            return;
        }
        let some = self.rng.choice(ILLNESSES).unwrap_or(Illness::Refuses);
        let illness = self.plan.only.unwrap_or(some);
        let share = if self.plan.only.is_some() || self.rng.bool() { 1.0 } else { self.rng.f64() };
        let page = self.rng.bool() && self.plan.only.is_none_or(|only| only == Illness::Refuses)
            || self.plan.only == Some(Illness::Hangs);
        self.backends[i].sick = Some(Sickness { illness, share, page });
        self.told.faults += 1;
        let length = match self.rng.u32(..3) {
            // One that flaps.
            0 if self.plan.only.is_none() => ms(self.rng.u64(200..3_000)),
            _ => Duration::from_secs(self.rng.u64(5..60)),
        };
        self.at(length, Event::Heal(i));
    }

    pub(super) fn heal(&mut self, i: usize) {
        self.backends[i].sick = None;
        self.backends[i].well_since = self.now;
    }
}
