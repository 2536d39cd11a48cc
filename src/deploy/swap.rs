//! One swap, from the request to the last drained connection: a state machine that is told what
//! happened and tells what to do. It never blocks and never acts itself.
//!
//! gate -> (ramp) -> watch -> drain of the old version -> done, and from the ramp and the watch back
//! at any time: then it is the new version that is drained.

use std::sync::Arc;
use std::time::Duration;

use super::drain::Drain;
use super::gate::{Gate, Passage};
use super::history::Baseline;
use super::message::{Command, Event, Held, Milestone, Observation, Outcome, Side};
use super::plan::{Order, Plan};
use super::report::{Blamed, Phase, Report, VersionFigures};
use super::shadow::{ShadowFigures, ShadowTally};
use super::watch::{Turn, Watch};
use super::words::{Percent, Words};

/// A running swap.
#[derive(Clone, Debug)]
pub struct Swap {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) baseline: Option<Baseline>,
    pub(super) report: Report,
    /// What to add to a time since the process started for the time of day.
    pub(super) epoch: Duration,
    pub(super) rounds: u32,
    /// What the old version and the new one held at the last look.
    pub(super) held: [Held; 2],
}

/// What it is at.
#[derive(Clone, Debug)]
pub(super) enum State {
    Gate(Gate, Copying),
    Watch(Box<Watch>),
    Drain(Drain),
    Done(Option<Drain>),
}

/// Shadow requests, after the checks of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    No,
    Running { since: Duration },
    Passed,
}

impl Swap {
    /// A swap that begins with its gate. `now` is a time since the process started, here and
    /// everywhere, `time_of_day` the same moment since the Unix epoch.
    #[must_use]
    pub fn start(
        order: Order,
        plan: Plan,
        now: Duration,
        time_of_day: Duration,
    ) -> (Self, Vec<Command>) {
        let words = format!("{} to {}, asked by {}", order.from, order.to, order.asked_by);
        let mut swap = Self::at_gate(order, plan, now, time_of_day);
        let mut commands = vec![Command::Persist, Command::Tell(Milestone::Started, words)];
        commands.extend(swap.open_gate(now));
        (swap, commands)
    }

    pub(super) fn at_gate(order: Order, plan: Plan, now: Duration, time_of_day: Duration) -> Self {
        let gate = Gate::new(now, 1, &plan, order.backends.clone());
        let mut report = Report::new(order, time_of_day);
        report.enter(time_of_day, Phase::Gate);
        if plan.is_unchecked() {
            report.note(time_of_day, "no check was asked for: it was forced".to_owned());
        }
        let state = State::Gate(gate, Copying::No);
        let epoch = time_of_day.saturating_sub(now);
        Self { plan, state, baseline: None, report, epoch, rounds: 1, held: Default::default() }
    }

    /// What was asked for.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.report.order
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Gate(..) => Phase::Gate,
            State::Watch(watch) => watch.step().map_or(Phase::Watch, Phase::Ramp),
            State::Drain(_) => Phase::Drain,
            State::Done(_) => Phase::Done,
        }
    }

    /// How it ended or will end; `None`: that is open.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.report.outcome
    }

    /// The share of new attempts that the new version has now.
    #[must_use]
    pub fn share(&self) -> f64 {
        match (&self.state, self.report.outcome.map(Outcome::serving)) {
            (_, Some(Side::New)) => 1.0,
            (State::Watch(watch), None) => watch.share(&self.plan),
            _ => 0.0,
        }
    }

    /// Which version is let go, if one is.
    #[must_use]
    pub fn draining(&self) -> Option<Side> {
        match &self.state {
            State::Drain(drain) => Some(drain.side()),
            _ => None,
        }
    }

    /// Whether another swap of the pool may begin.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    /// Whether it needs no more looks.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(&self.state, State::Done(drain) if drain.as_ref().is_none_or(Drain::is_over))
    }

    /// Where it is in words, for whoever asks for another swap meanwhile.
    #[must_use]
    pub fn describe(&self, now: Duration) -> String {
        let Order { id, from, to, asked_by, .. } = self.order();
        let at = match &self.state {
            State::Gate(_, Copying::Running { .. }) => {
                let shadow = self.report.shadow.map(|shadow| shadow.to_string());
                format!("at its gate, copying {}", shadow.unwrap_or_default())
            }
            State::Gate(..) => "at its gate".to_owned(),
            State::Watch(watch) => {
                let phase = if watch.step().is_some() { "ramp" } else { "watch" };
                let (left, seen) = (Words(watch.left(now)), watch.seen());
                format!("in its {phase}, {left} to go, {seen}")
            }
            State::Drain(_) => "draining".to_owned(),
            State::Done(_) => "over".to_owned(),
        };
        format!("swap {id} from {from} to {to}, asked by {asked_by}, is {at}")
    }

    /// The report as it stands.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = self.report.clone();
        self.fill_in(&mut report);
        report
    }

    /// Takes an event.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Command> {
        match event {
            Event::Checked { round, backend, check, outcome } => {
                if let State::Gate(gate, _) = &mut self.state
                    && gate.round() == round
                {
                    gate.checked(now, &backend, check, outcome);
                }
                self.tick_gate(now)
            }
            Event::Shadowing(tally) => {
                self.count_copies(now, tally);
                Vec::new()
            }
            Event::Shadowed(tally) => self.shadowed(now, tally),
            Event::OldProbed { passed, asked } => {
                let State::Watch(watch) = &mut self.state else { return Vec::new() };
                let (turn, commands) = watch.old_probed(now, passed, asked);
                self.follow(now, turn, commands)
            }
            Event::Cancel(why) => self.stop(now, Outcome::Cancelled, why),
            Event::RollBack(why) => match self.state {
                State::Gate(..) => self.stop(now, Outcome::Cancelled, why),
                State::Watch(_) => self.stop(now, Outcome::RolledBack, why),
                State::Drain(_) | State::Done(_) => Vec::new(),
            },
            Event::Reloaded(reloaded) => self.reloaded(now, reloaded),
        }
    }

    /// Takes a look, every 250 ms.
    pub fn tick(&mut self, now: Duration, seen: &Observation<'_>) -> Vec<Command> {
        self.held = [seen.old_held, seen.new_held];
        match &mut self.state {
            State::Gate(..) => {
                let mut commands = self.tick_gate(now);
                commands.extend(self.pass_gate(now, seen));
                commands
            }
            State::Watch(watch) => {
                let (turn, commands) = watch.tick(now, &self.plan, seen);
                self.follow(now, turn, commands)
            }
            State::Drain(drain) => {
                let held = self.held[usize::from(drain.side() == Side::New)];
                let (is_done, mut commands) = drain.tick(now, held);
                if is_done {
                    commands.extend(self.finish(now));
                }
                commands
            }
            State::Done(drain) => drain.as_mut().map(|d| d.close_late(now)).unwrap_or_default(),
        }
    }

    /// Names a backend of the new version that was taken out while it is watched, and why. Each is
    /// named once.
    pub fn blame(&mut self, backend: &Arc<str>, why: &impl ToString) {
        let blamed = &mut self.report.blamed;
        if matches!(self.state, State::Watch(_)) && blamed.iter().all(|b| b.backend != *backend) {
            blamed.push(Blamed { backend: Arc::clone(backend), why: why.to_string() });
        }
    }

    /// The time of day.
    pub(super) fn at(&self, now: Duration) -> Duration {
        self.epoch + now
    }

    /// Begins to ask. What the new version did when it had traffic is no longer of interest.
    pub(super) fn open_gate(&mut self, now: Duration) -> Vec<Command> {
        let mut commands = vec![Command::ForgetTraffic];
        commands.extend(self.tick_gate(now));
        commands
    }

    /// Asks what is due at the gate; ends the swap if the gate refused.
    pub(super) fn tick_gate(&mut self, now: Duration) -> Vec<Command> {
        let State::Gate(gate, _) = &mut self.state else { return Vec::new() };
        let commands = gate.tick(now);
        match gate.passage() {
            Passage::Refused(why) => self.stop(now, Outcome::Refused, why),
            Passage::Open | Passage::Passed => commands,
        }
    }

    /// Copies requests, or switches, once all checks have passed.
    fn pass_gate(&mut self, now: Duration, seen: &Observation<'_>) -> Vec<Command> {
        let State::Gate(gate, copying) = &mut self.state else { return Vec::new() };
        match (gate.passage(), self.plan.shadow, *copying) {
            (Passage::Passed, Some(shadow), Copying::No) => {
                *copying = Copying::Running { since: now };
                self.report.shadow = Some(ShadowFigures::begin(shadow));
                let (share, lasts) = (Percent(shadow.share), Words(shadow.lasts));
                let to = &self.order().to;
                let words = format!("{share} of the GET requests are copied to {to} for {lasts}");
                vec![Command::Shadow(shadow), Command::Tell(Milestone::Shadowing, words)]
            }
            (Passage::Passed, None, _) | (Passage::Passed, _, Copying::Passed) => {
                self.report.gate = gate.table();
                self.baseline = Some(Baseline::of(&seen.old_history.sum(now)));
                self.switch(now)
            }
            _ => Vec::new(),
        }
    }

    /// Writes down what copies have shown so far; whether any are being made.
    fn count_copies(&mut self, now: Duration, tally: ShadowTally) -> bool {
        let State::Gate(_, Copying::Running { since }) = self.state else { return false };
        if let Some(shadow) = &mut self.report.shadow {
            (shadow.lasted, shadow.tally) = (now.saturating_sub(since), tally);
        }
        true
    }

    fn shadowed(&mut self, now: Duration, tally: ShadowTally) -> Vec<Command> {
        if !self.count_copies(now, tally) {
            return Vec::new();
        }
        if let Some(why) = tally.refusal(&self.plan.rules) {
            return self.stop(now, Outcome::Refused, why);
        }
        if let State::Gate(_, copying) = &mut self.state {
            *copying = Copying::Passed;
        }
        vec![Command::Tell(Milestone::Shadowed, tally.to_string())]
    }

    /// Does what a look at the watch, or an answer, led to.
    fn follow(&mut self, now: Duration, turn: Turn, commands: Vec<Command>) -> Vec<Command> {
        let mut commands = commands;
        for command in &commands {
            self.remember(now, command);
        }
        commands.extend(match turn {
            Turn::Stay => Vec::new(),
            Turn::Back(why) => self.stop(now, Outcome::RolledBack, why),
            Turn::Next => self.next_share(now),
        });
        commands
    }

    /// Writes down what the report should tell of.
    fn remember(&mut self, now: Duration, command: &Command) {
        match command {
            Command::Eject { backend, why, .. } => self.blame(backend, why),
            Command::Tell(milestone, words) if *milestone != Milestone::Ejected => {
                let text = format!("{}: {words}", milestone.label().replace('_', " "));
                self.report.note(self.at(now), text);
            }
            _ => {}
        }
    }

    /// Adds what the present phase knows.
    fn fill_in(&self, report: &mut Report) {
        report.old = self.baseline.as_ref().map(Into::into);
        match &self.state {
            State::Gate(gate, _) => report.gate = gate.table(),
            State::Watch(watch) => {
                let waiting = watch.waits().waiting();
                report.new = Some(VersionFigures { waiting, ..watch.figures().into() });
                if let Some(verdict) = watch.verdict() {
                    report.judged(verdict);
                }
            }
            State::Drain(drain) => report.drained = Some(drain.drained()),
            State::Done(_) => {}
        }
    }
}
