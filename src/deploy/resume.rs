//! A swap across a restart of the process.
//!
//! At the gate it begins again: the old version serves, nothing is lost. In the ramp and the watch the
//! new version goes on serving its share, and is judged for the time that is left, by fresh evidence
//! beside the same old version. In the drain nothing is left to wait for: the connections ended with
//! the process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::drain::Drained;
use super::history::Baseline;
use super::message::{Command, Outcome, Side};
use super::plan::{Order, Plan};
use super::report::{Blamed, Note, Phase, PhaseRecord};
use super::shadow::ShadowFigures;
use super::swap::{State, Swap};
use super::watch::Watch;

/// What of a swap must survive: plain data, to be written at every [`Command::Persist`], and often
/// enough that `left` is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// Who asked for what.
    pub order: Order,
    /// When, since the Unix epoch.
    pub asked_at: Duration,
    /// Where it is.
    pub phase: Phase,
    /// What is left of the present step of the ramp, or of the watch.
    pub left: Duration,
    /// The old version before the switch.
    pub baseline: Option<Baseline>,
    /// How it ended or will end, if that is decided.
    pub outcome: Option<Outcome>,
    /// Why.
    pub reason: String,
    /// What was gone through.
    pub phases: Vec<PhaseRecord>,
    /// What happened on the way.
    pub notes: Vec<Note>,
    /// What copies of live requests showed, once they were all made.
    #[serde(default)]
    pub shadow: Option<ShadowFigures>,
    /// Backends that were blamed.
    pub blamed: Vec<Blamed>,
    /// How a version was let go, once it is.
    pub drained: Option<Drained>,
}

impl Resume {
    /// Which version serves: the name of the one that gets most of the traffic, or is to get it.
    #[must_use]
    pub fn serving(&self) -> &str {
        let side = match (self.outcome, self.phase) {
            (Some(outcome), _) => outcome.serving(),
            (None, Phase::Ramp(_) | Phase::Watch) => Side::New,
            (None, _) => Side::Old,
        };
        match side {
            Side::Old => &self.order.from,
            Side::New => &self.order.to,
        }
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
        let report = &self.report;
        Resume {
            order: report.order.clone(),
            asked_at: report.asked_at,
            phase: self.phase(),
            left,
            baseline: self.baseline,
            outcome: report.outcome,
            reason: report.reason.clone(),
            phases: report.phases.clone(),
            notes: report.notes.clone(),
            shadow: report.shadow,
            blamed: report.blamed.clone(),
            drained: report.drained,
        }
    }

    /// The swap after a restart. Both versions must still be in the file, and `order.backends` be
    /// those of the file: else the swap is to be dropped, and
    /// [`Standing::at_start`](super::Standing::at_start) says what serves.
    #[must_use]
    pub fn resume(
        kept: Resume,
        plan: Plan,
        now: Duration,
        time_of_day: Duration,
    ) -> (Self, Vec<Command>) {
        let mut swap = Self::at_gate(kept.order, plan, now, time_of_day);
        let at_gate = std::mem::replace(&mut swap.report.phases, kept.phases);
        swap.report.asked_at = kept.asked_at;
        swap.report.outcome = kept.outcome;
        swap.report.reason = kept.reason;
        swap.report.notes = kept.notes;
        swap.report.shadow = kept.shadow;
        swap.report.blamed = kept.blamed;
        swap.report.drained = kept.drained;
        swap.baseline = kept.baseline;
        let label = kept.phase.label();
        swap.report.note(time_of_day, format!("the proxy was restarted in the phase {label}"));
        let step = match kept.phase {
            Phase::Ramp(step) => Some(step).filter(|step| *step < swap.plan.ramp.len()),
            _ => None,
        };
        let commands = match kept.phase {
            _ if kept.outcome.is_some() => {
                swap.state = State::Done(None);
                if kept.phase == Phase::Done { Vec::new() } else { swap.finish(now) }
            }
            Phase::Ramp(_) | Phase::Watch => {
                let baseline = kept.baseline.unwrap_or_default();
                let watch = Watch::new(now, &swap.plan, baseline, step, kept.left);
                swap.state = State::Watch(Box::new(watch));
                let mut commands: Vec<Command> = swap.count_slow(now).into_iter().collect();
                commands.extend(swap.enter_share(now));
                commands.push(Command::Persist);
                commands
            }
            Phase::Gate | Phase::Drain | Phase::Done => {
                at_gate.iter().for_each(|gate| swap.report.enter(gate.began, gate.phase));
                swap.report.shadow = None;
                swap.tick_gate(now)
            }
        };
        (swap, commands)
    }
}
