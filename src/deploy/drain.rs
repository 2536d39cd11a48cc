//! Letting a version go: its requests finish, its tunnels are kept or closed by and by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{Command, Held, Side};
use super::plan::Plan;

/// What closing takes at most, beyond what the numbers say.
const SLACK: Duration = Duration::from_secs(10);

/// How a version was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Which.
    pub side: Side,
    /// What it held when it began ...
    pub at_first: Held,
    /// ... and what it still holds.
    pub left: Held,
    /// Requests that had to be cut.
    pub requests_cut: u64,
    /// Since when it lasts, or how long it took.
    pub lasted: Duration,
}

/// A version that is being let go.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    plan: Plan,
    began: Duration,
    is_first: bool,
    is_cut: bool,
    /// When tunnels that were kept are to be closed.
    close_at: Option<Duration>,
    drained: Drained,
}

impl Drain {
    /// `held` is what the version held at the last look before.
    pub(super) fn new(now: Duration, plan: &Plan, side: Side, held: Held) -> (Self, Vec<Command>) {
        let (at_first, left) = (held, held);
        let tunnels = plan.tunnels;
        let drain = Self {
            plan: plan.clone(),
            began: now,
            is_first: true,
            is_cut: false,
            close_at: tunnels.deadline.filter(|_| !tunnels.close).map(|after| now + after),
            drained: Drained { side, at_first, left, requests_cut: 0, lasted: Duration::ZERO },
        };
        let mut commands = vec![Command::Drain(side)];
        if tunnels.close {
            commands.push(Command::CloseTunnels { side, per_second: tunnels.per_second });
        }
        (drain, commands)
    }

    pub(super) fn side(&self) -> Side {
        self.drained.side
    }

    pub(super) fn drained(&self) -> Drained {
        self.drained
    }

    /// Takes what the version holds, as counted after the drain began; whether it is let go.
    pub(super) fn tick(&mut self, now: Duration, held: Held) -> (bool, Vec<Command>) {
        if std::mem::take(&mut self.is_first) {
            // Some may have gone since the look before, and some have come.
            let before = &mut self.drained.at_first;
            before.requests = before.requests.max(held.requests);
            before.tunnels = before.tunnels.max(held.tunnels);
        }
        self.drained.left = held;
        let lasted = now.saturating_sub(self.began);
        self.drained.lasted = lasted;
        let mut commands = self.close_late(now);
        let (plan, at_first) = (&self.plan, self.drained.at_first);
        if held.requests > 0 && lasted >= plan.drain_timeout && !self.is_cut {
            self.is_cut = true;
            self.drained.requests_cut = held.requests;
            commands.push(Command::CutRequests(self.drained.side));
        }
        let closing =
            Duration::from_secs(at_first.tunnels / u64::from(plan.tunnels.per_second.max(1)));
        let is_empty = held.requests == 0 && (!plan.tunnels.close || held.tunnels == 0);
        (is_empty || lasted >= plan.drain_timeout.max(closing) + SLACK, commands)
    }

    /// Closes tunnels that were kept until a deadline.
    pub(super) fn close_late(&mut self, now: Duration) -> Vec<Command> {
        if self.close_at.take_if(|at| *at <= now).is_none() {
            return Vec::new();
        }
        let per_second = self.plan.tunnels.per_second;
        vec![Command::CloseTunnels { side: self.drained.side, per_second }]
    }

    /// Whether there is nothing left to do for it.
    pub(super) fn is_over(&self) -> bool {
        self.close_at.is_none() || self.drained.left.tunnels == 0
    }
}
