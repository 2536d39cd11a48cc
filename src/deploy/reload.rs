//! What a reload means for a swap that runs.
//!
//! It goes on if nothing that concerns it changed. At the gate it begins again with other backends or
//! another `[swap]`. It is given up if the file wants yet another version, or if one of the two is
//! gone; in the watch that means going back, unless there is nothing to go back to: then the new
//! version stays, and what the file wants is reached by a swap from there.

use std::sync::Arc;
use std::time::Duration;

use super::gate::Gate;
use super::message::{Command, Doubt, Outcome, Reloaded};
use super::plan::Plan;
use super::swap::{Copying, State, Swap};

impl Swap {
    pub(super) fn reloaded(&mut self, now: Duration, file: Reloaded) -> Vec<Command> {
        let to = self.order().to.clone();
        if matches!(self.state, State::Drain(_) | State::Done(_)) {
            return Vec::new();
        }
        if matches!(self.state, State::Watch(_)) && !file.has_old && file.candidate.is_some() {
            let why = "the old version is not in the file any more: there is no way back";
            return self.keep(now, Some(Doubt::NoWayBack), why.to_owned());
        }
        if let Some(active) = file.active.filter(|active| *active != to) {
            return self.stop(now, Outcome::Cancelled, format!("the file wants {active} now"));
        }
        let Some(backends) = file.candidate else {
            return self.stop(now, Outcome::Cancelled, format!("{to} is not in the file any more"));
        };
        let at = self.at(now);
        match &mut self.state {
            State::Gate(..) if !file.has_old => {
                let why = format!("{} is not in the file any more", self.order().from);
                return self.stop(now, Outcome::Cancelled, why);
            }
            State::Watch(_) if file.plan != self.plan => {
                let text = "[swap] changed; this one goes on as it began".to_owned();
                self.report.note(at, text);
            }
            State::Gate(gate, _) if gate.backends() != backends || file.plan != self.plan => {
                self.report.note(at, "the file changed: the gate begins again".to_owned());
                self.report.order.backends.clone_from(&backends);
                return self.restart_gate(now, file.plan, backends);
            }
            _ => {}
        }
        Vec::new()
    }

    fn restart_gate(&mut self, now: Duration, plan: Plan, backends: Vec<Arc<str>>) -> Vec<Command> {
        let is_copying = matches!(self.state, State::Gate(_, Copying::Running { .. }));
        self.report.shadow = None;
        self.rounds += 1;
        self.plan = plan;
        self.state = State::Gate(Gate::new(now, self.rounds, &self.plan, backends), Copying::No);
        let mut commands = vec![Command::Persist];
        commands.extend(is_copying.then_some(Command::StopShadow));
        commands.extend(self.open_gate(now));
        commands
    }
}
