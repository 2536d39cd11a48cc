//! Copies of live requests at the gate: begun, looked at, ended. The workers make and compare them.

use std::sync::Arc;
use std::time::Duration;

use super::guarded::Guarded;
use crate::deploy::{Command, Event, Order, Shadow as Plan, ShadowTally};
use crate::state::shadow::{Shadow, ShadowRun};

/// How long answers are waited for when no more copies are made: a little longer than a copy lives,
/// and then it is one of a worker that panicked.
const LAST_ANSWERS: Duration = Duration::from_secs(12);

/// The copies that are being made for a swap.
#[derive(Debug)]
pub(super) struct Copies {
    run: Arc<ShadowRun>,
    until: Duration,
    /// What earlier ones had come to.
    before: ShadowTally,
}

impl Guarded {
    /// Has requests copied to the new version.
    pub(super) fn begin_copying(&mut self, order: &Order, plan: Plan, now: Duration) {
        self.end_copying();
        let Some(version) = self.version(&order.to) else { return };
        let Some(running) = &mut self.running else { return };
        let state = &self.pool.state;
        let run = ShadowRun::new(self.plan.rules, now + self.plan.grace);
        let shadow = Shadow { version, share: plan.share, run: Arc::clone(&run) };
        let before = state.cells.shadow_tally();
        running.copies = Some(Copies { run, until: now + plan.lasts, before });
        state.set_split(state.split.load().with_shadow(Some(shadow)));
    }

    /// Has no more made, and gives up those that are under way.
    pub(super) fn end_copying(&mut self) {
        self.copy_no_more();
        let copies = self.running.as_mut().and_then(|running| running.copies.take());
        copies.iter().for_each(|copies| copies.run.end());
    }

    /// Tells the swap what copies have shown, and of the end when their time is over and none is under
    /// way, or when there is no use in going on.
    pub(super) fn look_at_copies(&mut self, now: Duration) -> Vec<Command> {
        let Some(running) = &self.running else { return Vec::new() };
        let Some(copies) = &running.copies else { return Vec::new() };
        let (is_closing, in_flight) = (now >= copies.until, copies.run.in_flight());
        let is_late = now >= copies.until + LAST_ANSWERS;
        let tally = self.pool.state.cells.shadow_tally().since(copies.before);
        let is_over = is_closing && (in_flight == 0 || is_late);
        let event = if is_over || tally.is_hopeless(&self.plan.rules) {
            self.end_copying();
            Event::Shadowed(tally)
        } else {
            if is_closing {
                self.copy_no_more();
            }
            Event::Shadowing(tally)
        };
        let Some(running) = &mut self.running else { return Vec::new() };
        running.swap.handle(now, event)
    }

    fn copy_no_more(&self) {
        let split = self.pool.state.split.load();
        if split.shadow.is_some() {
            self.pool.state.set_split(split.with_shadow(None));
        }
    }
}
