//! A swap across a restart of the process.
//!
//! At the gate it begins again: the old version serves, nothing is lost. In the ramp and the watch the
//! new version goes on serving its share, and is judged for the time that is left, by fresh evidence
//! beside the same old version. In the drain nothing is left to wait for: the connections ended with
//! the process, and that is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::history::Baseline;
use super::message::{Command, Held, Milestone, Side};
use super::plan::Plan;
use super::report::{Phase, Report};
use super::swap::{State, Swap};
use super::watch::Watch;

/// What of a swap must survive: plain data, to be written at every [`Command::Persist`], and often
/// enough that `left` is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// Its report so far: who asked for what, what was gone through, what is decided.
    pub report: Report,
    /// Where it is.
    pub phase: Phase,
    /// What is left of the present step of the ramp, or of the watch.
    pub left: Duration,
    /// The old version before the switch.
    pub baseline: Option<Baseline>,
}

impl Resume {
    /// Which version serves: the name of the one that gets most of the traffic, or is to get it.
    #[must_use]
    pub fn serving(&self) -> &str {
        let side = match (self.report.outcome, self.phase) {
            (Some(outcome), _) => outcome.serving(),
            (None, Phase::Ramp(_) | Phase::Watch) => Side::New,
            (None, _) => Side::Old,
        };
        self.report.order.version(side)
    }
}

impl Resume {
    /// Forgets what the swap has seen so far, which may be much; it can go on without.
    pub fn forget_details(&mut self) {
        let report = &mut self.report;
        report.order.backends.clear();
        report.gate.clear();
        report.tests.clear();
        report.blamed.clear();
        report.notes.clear();
    }
}

impl Swap {
    /// What must survive a restart.
    #[must_use]
    pub fn resume_form(&self, now: Duration) -> Resume {
        let left = match &self.state {
            State::Watch(watch) => watch.left(now),
            _ => Duration::ZERO,
        };
        Resume { report: self.report(), phase: self.phase(), left, baseline: self.baseline }
    }

    /// The swap after a restart. Both versions must still be in the file, and `backends` of the
    /// order be those of the file: else the swap is to be dropped, and
    /// [`Standing::at_start`](super::Standing::at_start) says what serves.
    #[must_use]
    pub fn resume(
        kept: Resume,
        plan: Plan,
        now: Duration,
        time_of_day: Duration,
    ) -> (Self, Vec<Command>) {
        let Resume { mut report, phase, left, baseline } = kept;
        if let Some(drained) = report.drained.as_mut().filter(|_| phase == Phase::Drain) {
            drained.left = Held::default();
        }
        let outcome = report.outcome;
        let mut swap = Self::at_gate(report.order.clone(), plan, now, time_of_day);
        swap.report = report;
        swap.baseline = baseline;
        let label = phase.label();
        swap.report.note(time_of_day, format!("the proxy was restarted in the phase {label}"));
        let step = match phase {
            Phase::Ramp(step) => Some(step).filter(|step| *step < swap.plan.ramp.len()),
            _ => None,
        };
        let commands = match (outcome, phase) {
            (Some(_), Phase::Done) => {
                swap.state = State::Done(None);
                Vec::new()
            }
            (Some(outcome), _) => {
                swap.state = State::Done(None);
                let drained = swap.order().version(outcome.serving().other());
                let words = format!("{drained} is safe to stop");
                let mut commands = vec![Command::Tell(Milestone::Drained, words)];
                commands.extend(swap.finish(now));
                commands
            }
            (None, Phase::Ramp(_) | Phase::Watch) => {
                let baseline = baseline.unwrap_or_default();
                let watch = Watch::new(now, &swap.plan, baseline, step, left);
                swap.state = State::Watch(Box::new(watch));
                let mut commands: Vec<Command> = swap.count_slow(now).into_iter().collect();
                commands.extend(swap.enter_share(now));
                commands.push(Command::Persist);
                commands
            }
            (None, Phase::Gate | Phase::Drain | Phase::Done) => {
                swap.report.enter(time_of_day, Phase::Gate);
                swap.report.shadow = None;
                swap.open_gate(now)
            }
        };
        (swap, commands)
    }
}
