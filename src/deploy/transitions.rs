//! How a swap goes from phase to phase.

use std::time::Duration;

use super::drain::Drain;
use super::message::{Command, Doubt, Milestone, Outcome, Side};
use super::plan::Mode;
use super::report::{Phase, Report};
use super::swap::{Copying, State, Swap};
use super::verdict::{TestReport, Verdict};
use super::watch::Watch;
use super::words::{Percent, plural};

impl Swap {
    /// Gives the new version its first share.
    pub(super) fn switch(&mut self, now: Duration) -> Vec<Command> {
        let step = (!self.plan.ramp.is_empty()).then_some(0);
        let left = if step.is_some() { self.plan.ramp_step } else { self.plan.watch };
        let watch = Watch::new(now, &self.plan, self.baseline.unwrap_or_default(), step, left);
        self.state = State::Watch(Box::new(watch));
        let mut commands = vec![Command::Persist];
        commands.extend(self.count_slow(now));
        commands.extend(self.enter_share(now));
        commands
    }

    /// Says from when on which attempts are too slow.
    pub(super) fn count_slow(&self, now: Duration) -> Option<Command> {
        let State::Watch(watch) = &self.state else { return None };
        Some(Command::CountSlow(watch.slow(now + self.plan.grace)))
    }

    /// The share of the present step begins.
    pub(super) fn enter_share(&mut self, now: Duration) -> Vec<Command> {
        self.report.enter(self.at(now), self.phase());
        let (share, to) = (self.share(), &self.order().to);
        let words = format!("{to} takes {} of the requests", Percent(share));
        vec![Command::Split(share), Command::Tell(Milestone::Switched, words)]
    }

    pub(super) fn next_share(&mut self, now: Duration) -> Vec<Command> {
        let State::Watch(watch) = &mut self.state else { return Vec::new() };
        if watch.step().is_none() {
            let (doubt, reason) = ending(watch, self.plan.mode);
            return self.keep(now, doubt, reason);
        }
        watch.next_step(now, &self.plan);
        let mut commands = self.enter_share(now);
        commands.push(Command::Persist);
        commands
    }

    /// The watch is over, and the new version stays, in doubt or not.
    pub(super) fn keep(
        &mut self,
        now: Duration,
        doubt: Option<Doubt>,
        why: String,
    ) -> Vec<Command> {
        let (outcome, milestone) = match doubt {
            Some(_) => (Outcome::Undecided, Milestone::Undecided),
            None => (Outcome::Kept, Milestone::Kept),
        };
        self.report.doubt = doubt;
        self.decide(outcome, &why);
        let mut commands = vec![Command::Persist, Command::Split(1.0), Command::CountSlow(None)];
        commands.push(Command::Tell(milestone, why));
        commands.extend(self.drain(now, Side::Old));
        commands
    }

    /// Ends it before its time, wherever it is.
    pub(super) fn stop(&mut self, now: Duration, outcome: Outcome, why: String) -> Vec<Command> {
        let milestone = match outcome {
            Outcome::Refused => Milestone::Refused,
            Outcome::RolledBack => Milestone::RolledBack,
            _ => Milestone::Cancelled,
        };
        let is_copying = matches!(self.state, State::Gate(_, Copying::Running { .. }));
        match self.state {
            State::Gate(..) => {
                self.decide(outcome, &why);
                let stop = is_copying.then_some(Command::StopShadow);
                let mut commands: Vec<Command> = stop.into_iter().collect();
                commands.push(Command::Tell(milestone, why));
                commands.extend(self.finish(now));
                commands
            }
            State::Watch(_) => {
                self.decide(outcome, &why);
                // Nothing may come before this: every moment costs requests.
                let mut commands = vec![Command::Split(0.0), Command::CountSlow(None)];
                commands.extend([Command::Persist, Command::Tell(milestone, why)]);
                commands.extend(self.drain(now, Side::New));
                commands
            }
            // It is decided already; only the waiting ends.
            State::Drain(_) => {
                self.report.note(self.at(now), format!("the drain was left to itself: {why}"));
                self.report.cut_short = Some(why);
                self.finish(now)
            }
            State::Done(_) => Vec::new(),
        }
    }

    fn decide(&mut self, outcome: Outcome, why: &str) {
        let reason = why.to_owned();
        self.report = Report { outcome: Some(outcome), reason, ..self.report() };
    }

    fn drain(&mut self, now: Duration, side: Side) -> Vec<Command> {
        let held = self.held[usize::from(side == Side::New)];
        let (drain, commands) = Drain::new(now, &self.plan, side, held);
        self.state = State::Drain(drain);
        self.report.enter(self.at(now), Phase::Drain);
        commands
    }

    pub(super) fn finish(&mut self, now: Duration) -> Vec<Command> {
        let Some(outcome) = self.report.outcome else { return Vec::new() };
        let mut commands = Vec::new();
        let drain = match std::mem::replace(&mut self.state, State::Done(None)) {
            State::Drain(drain) => {
                self.report.drained = Some(drain.drained());
                let side = self.order().version(drain.side());
                let left = drain.drained().left;
                let words = if left.requests == 0 && left.tunnels == 0 {
                    format!("{side} is safe to stop")
                } else {
                    let (requests, tunnels) =
                        (plural(left.requests, "request"), plural(left.tunnels, "tunnel"));
                    format!("{side} still holds {requests} and {tunnels}")
                };
                commands.push(match &self.report.cut_short {
                    None => Command::Tell(Milestone::Drained, words),
                    Some(why) => {
                        let words = format!("the drain of {side} was not waited for: {why}");
                        Command::Tell(Milestone::Cancelled, words)
                    }
                });
                Some(drain)
            }
            _ => None,
        };
        self.state = State::Done(drain);
        self.report.enter(self.at(now), Phase::Done);
        commands.extend([Command::Persist, Command::Finished(outcome)]);
        commands
    }
}

/// How a watch that ends in time ends: what is in doubt, if anything is, and why, in words.
fn ending(watch: &Watch, mode: Mode) -> (Option<Doubt>, String) {
    let seen = watch.seen();
    let Some(verdict) = watch.verdict() else {
        return (None, format!("it was not to be judged; {seen}"));
    };
    if let (Mode::Observe, Some(why)) = (mode, watch.would()) {
        return (None, format!("only observed: it would have been rolled back, since {why}"));
    }
    if verdict.is_excused() {
        let why = "it looked bad, but the old version did not pass its checks either";
        return (Some(Doubt::BothBad), format!("{why}; {seen}"));
    }
    match Verdict::undecided(verdict) {
        _ if watch.waits().prevail() => {
            (Some(Doubt::Waiting), format!("it leaves more waiting than it answers: {seen}"))
        }
        Some((doubt, why)) => (Some(doubt), why),
        None => (None, kept_words(&verdict.tests(), &seen)),
    }
}

/// A test whose share is plainly higher than accepted is told, though that was not enough.
fn kept_words(tests: &[TestReport], seen: &str) -> String {
    let above = tests.iter().filter(|test| test.not_judged.is_none());
    let above = above.filter(|test| test.interval.0 > test.accepted);
    let words: Vec<String> = above
        .map(|TestReport { measure, n, bad, accepted, .. }| {
            let (share, accepted) = (Percent(*bad as f64 / *n as f64), Percent(*accepted));
            format!("{}: {share} bad, {accepted} accepted", measure.label())
        })
        .collect();
    if words.is_empty() {
        return format!("nothing speaks against it: {seen}");
    }
    format!("not enough speaks against it: {seen} ({})", words.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::Measure;

    #[test]
    fn what_speaks_against_a_version_that_stays_is_told() {
        let slow = TestReport {
            measure: Measure::Latency,
            not_judged: None,
            n: 1037,
            bad: 94,
            interval: (0.062, 0.127),
            accepted: 0.05,
            accepted_from: String::new(),
            evidence: 16.0,
            threshold: 1000.0,
        };
        let words = |test: &TestReport| kept_words(std::slice::from_ref(test), "1620 requests");
        let expected =
            "not enough speaks against it: 1620 requests (latency: 9.1% bad, 5% accepted)";
        assert_eq!(words(&slow), expected);
        let within = TestReport { interval: (0.04, 0.127), ..slow.clone() };
        assert_eq!(words(&within), "nothing speaks against it: 1620 requests");
        let not_judged = TestReport { not_judged: Some("no history".to_owned()), ..slow };
        assert_eq!(words(&not_judged), "nothing speaks against it: 1620 requests");
    }
}
