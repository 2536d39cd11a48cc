//! From the switch to the end of the watch: the new version takes its shares and is judged.
//!
//! Before going back the old version is asked: every backend of it is probed. If fewer than half
//! pass, going back would not help, and what both versions suffer from is no fault of the new one.

use std::time::Duration;

use super::history::{Baseline, Figures};
use super::message::{Command, Milestone, Observation, Slow};
use super::plan::{Mode, Plan};
use super::sample::Counts;
use super::verdict::{Finding, Verdict};
use super::waits::LongWaits;
use super::words::plural;

/// From one question to the old version to the next.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A question that is not answered by then is asked again.
const LOST: Duration = Duration::from_secs(2);

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    Stay,
    /// The time of this share is over.
    Next,
    /// Back to the old version, for this reason.
    Back(String),
}

/// A new version that takes traffic.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    mode: Mode,
    verdict: Option<Verdict>,
    /// The step of the ramp; `None`: past it.
    step: Option<usize>,
    /// When the present share ends.
    until: Duration,
    /// What comes after that.
    later: Duration,
    /// What the new version did so far.
    figures: Figures,
    waits: LongWaits,
    finding: Finding,
    /// When the old version was asked, while it has not answered.
    asked: Option<Duration>,
    ask_next: Duration,
    /// Why it would have been rolled back, in `observe` mode.
    would: Option<String>,
}

impl Watch {
    /// One that begins with this step, has `left` of it to go, and compares with this old version.
    pub(super) fn new(
        now: Duration,
        plan: &Plan,
        baseline: Baseline,
        step: Option<usize>,
        left: Duration,
    ) -> Self {
        let later = later(plan, step);
        let horizon = left + later;
        let verdict = (plan.mode != Mode::Off && !horizon.is_zero())
            .then(|| Verdict::new(now, horizon, plan.rules, baseline));
        Self {
            mode: plan.mode,
            verdict,
            step,
            until: now + left,
            later,
            figures: Figures::default(),
            waits: LongWaits::default(),
            finding: Finding::Fit,
            asked: None,
            ask_next: now,
            would: None,
        }
    }

    /// The step of the ramp; `None`: past it.
    pub(super) fn step(&self) -> Option<usize> {
        self.step
    }

    /// The share that the new version has.
    pub(super) fn share(&self, plan: &Plan) -> f64 {
        self.step.and_then(|step| plan.ramp.get(step).copied()).unwrap_or(1.0 - plan.control)
    }

    /// What is left of the present share.
    pub(super) fn left(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }

    pub(super) fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Requests that it leaves waiting.
    pub(super) fn waits(&self) -> &LongWaits {
        &self.waits
    }

    /// What the new version did so far, in words.
    pub(super) fn seen(&self) -> String {
        let Counts { requests, failed, .. } = self.figures.counts;
        format!("{}, {failed} failed{}", plural(requests, "request"), self.waits)
    }

    /// Why it would have been rolled back, in `observe` mode.
    pub(super) fn would(&self) -> Option<&str> {
        self.would.as_deref()
    }

    /// When an attempt that begins after `from` is too slow.
    pub(super) fn slow(&self, from: Duration) -> Option<Slow> {
        let limit = self.verdict.as_ref().and_then(Verdict::latency_limit)?;
        Some(Slow { limit, from })
    }

    /// Goes on to the next share.
    pub(super) fn next_step(&mut self, now: Duration, plan: &Plan) {
        self.step = self.step.map(|step| step + 1).filter(|step| *step < plan.ramp.len());
        self.later = later(plan, self.step);
        self.until = now + if self.step.is_some() { plan.ramp_step } else { plan.watch };
    }

    /// Takes a look.
    pub(super) fn tick(
        &mut self,
        now: Duration,
        plan: &Plan,
        seen: &Observation<'_>,
    ) -> (Turn, Vec<Command>) {
        let ended = seen.new.iter().map(|sample| sample.counts.requests).sum();
        self.waits.look(now, seen.new_waiting, ended);
        seen.new.iter().for_each(|sample| self.figures.counts += sample.counts);
        self.figures.latencies.add(seen.new_latencies);
        let control = (self.share(plan) < 1.0).then_some(seen.old);
        let mut commands = Vec::new();
        if let Some(verdict) = &mut self.verdict {
            self.finding = verdict.observe(now, seen.new, control);
            if let Finding::Lone { backend, why } = &self.finding {
                let words = format!("{backend}: {why}");
                if self.mode == Mode::Enforce {
                    let (backend, why) = (backend.clone(), why.clone());
                    let lasts = self.until.saturating_sub(now) + self.later;
                    commands.push(Command::Eject { backend, lasts, why });
                    commands.push(Command::Tell(Milestone::Ejected, words));
                } else {
                    commands.push(Command::Tell(Milestone::WouldEject, words));
                }
            }
        }
        commands.extend(self.ask(now));
        let turn = if now >= self.until && !self.is_open() { Turn::Next } else { Turn::Stay };
        (turn, commands)
    }

    /// Takes the old version's answer.
    pub(super) fn old_probed(
        &mut self,
        now: Duration,
        passed: usize,
        asked: usize,
    ) -> (Turn, Vec<Command>) {
        let is_well = asked > 0 && 2 * passed >= asked;
        let (true, Some(verdict)) = (self.asked.take().is_some(), &mut self.verdict) else {
            return (Turn::Stay, Vec::new());
        };
        let was_excused = verdict.is_excused();
        if !is_well {
            verdict.set_excused(now, true);
            let words = format!(
                "{}, but only {passed} of {asked} backends of the old version pass their check: \
                 going back would not help",
                self.suspicion()
            );
            self.finding = Finding::Fit;
            let tell = (!was_excused).then_some(Command::Tell(Milestone::Held, words));
            return (Turn::Stay, tell.into_iter().collect());
        }
        if was_excused {
            verdict.set_excused(now, false);
            let words = "the old version passes its checks again".to_owned();
            return (Turn::Stay, vec![Command::Tell(Milestone::Resumed, words)]);
        }
        let Finding::Bad(fault) = &self.finding else { return (Turn::Stay, Vec::new()) };
        let why = fault.to_string();
        if self.mode == Mode::Enforce {
            return (Turn::Back(why), Vec::new());
        }
        self.would = Some(why.clone());
        (Turn::Stay, vec![Command::Tell(Milestone::WouldRollBack, why)])
    }

    /// What speaks against the new version at the moment, in words.
    fn suspicion(&self) -> String {
        match &self.finding {
            Finding::Bad(fault) => fault.to_string(),
            Finding::Suspect(words) | Finding::Unclear(words) => words.clone(),
            Finding::Fit | Finding::Lone { .. } => "the new version is held".to_owned(),
        }
    }

    /// Whether something is to be found out before the next share.
    fn is_open(&self) -> bool {
        let suspected = matches!(self.finding, Finding::Suspect(_) | Finding::Bad(_));
        self.would.is_none() && suspected
    }

    /// Asks the old version if there is reason to.
    fn ask(&mut self, now: Duration) -> Option<Command> {
        let is_excused = self.verdict.as_ref().is_some_and(Verdict::is_excused);
        let lost = self.asked.is_none_or(|at| now.saturating_sub(at) >= LOST);
        if !(self.is_open() || is_excused) || !lost || now < self.ask_next {
            return None;
        }
        self.asked = Some(now);
        self.ask_next = now + ASK_AGAIN;
        Some(Command::ProbeOld)
    }
}

/// What comes after this step of the ramp: the other steps and the watch.
fn later(plan: &Plan, step: Option<usize>) -> Duration {
    let Some(step) = step else { return Duration::ZERO };
    let steps = u32::try_from(plan.ramp.len().saturating_sub(step + 1)).unwrap_or(u32::MAX);
    plan.ramp_step * steps + plan.watch
}
