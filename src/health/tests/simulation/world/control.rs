//! What the control plane does: it looks, judges, probes and publishes.

use std::time::Duration;

use super::super::plan::Illness;
use super::{Backend, Event, LOOK, SLOW_START, STALL, Sickness, World, ms};
use crate::balance::{AllDown, Candidates, Member, MemberView, Policy, slow_start, usable};
use crate::health::outliers::{Action, Finding, Peer, Settings as Outliers, judge};
use crate::health::suspicion::patience;
use crate::health::{ProbeFailure, Reason, State, Transition};

const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(2);

impl World {
    pub(super) fn look(&mut self) {
        self.at(LOOK, Event::Look);
        for i in 0..self.backends.len() {
            let backend = &self.backends[i];
            let patience = backend.patience;
            let mut began = backend.waiting.iter().map(|waiting| self.attempts[*waiting].began);
            if began.any(|began| backend.silence.is_suspect(self.now, began, patience)) {
                self.suspect(i);
            }
        }
        self.looks += 1;
        if !self.looks.is_multiple_of(5) {
            return;
        }
        for i in 0..self.backends.len() {
            let transition = self.backends[i].health.on_time(self.now);
            self.publish(i, transition);
        }
        let found = self.judged(judge);
        self.act(found);
        for backend in &mut self.backends {
            backend.patience = patience(STALL, backend.traffic.usual_p99());
        }
        let spared: Vec<bool> = (0..self.backends.len()).map(|i| self.share(i) < 1.0).collect();
        if spared != self.spared {
            self.rebuild();
        }
        for backend in &mut self.backends {
            let slow = backend.traffic.share() < 1.0;
            self.told.spared += u64::from(slow && !backend.slow);
            backend.slow = slow;
        }
        self.assert_rules();
    }

    pub(super) fn judged(
        &mut self,
        judge: impl FnOnce(Duration, &Outliers, &mut [Peer<'_>]) -> Vec<Finding>,
    ) -> Vec<Finding> {
        let (now, window) = (self.now, self.outliers.window);
        let mut peers = Vec::with_capacity(self.backends.len());
        for backend in &mut self.backends {
            backend.traffic.observe(now, window, &backend.totals);
            let in_service = backend.health.state() == State::Healthy;
            peers.push(Peer { traffic: &mut backend.traffic, in_service });
        }
        judge(now, &self.outliers, &mut peers)
    }

    pub(super) fn act(&mut self, found: Vec<Finding>) {
        for finding in found.into_iter().filter(|finding| finding.action == Action::Eject) {
            let i = finding.member;
            let now = self.now;
            let transition = self.backends[i].health.on_ejection(now, finding.reason);
            let Some(Reason::Ejected { length, .. }) = transition.as_ref().map(|it| &it.reason)
            else {
                panic!("one was ejected that was out already: {transition:?}");
            };
            let before = std::mem::replace(&mut self.backends[i].ejection, *length);
            self.told.forgiven += u64::from(*length < before);
            self.told.longest_ejection = self.told.longest_ejection.max(*length);
            self.backends[i].streak.reset();
            self.publish(i, transition);
            self.told.ejections += 1;
            let in_service = |backend: &&Backend| backend.health.state() == State::Healthy;
            let left = self.backends.iter().filter(in_service).count();
            let out = self.backends.len() - left;
            assert!(left > 0, "the last one was ejected");
            let share = out as f64 / self.backends.len() as f64;
            assert!(share <= self.outliers.max_ejected, "{share} of the pool is out");
        }
    }

    pub(super) fn suspect(&mut self, i: usize) {
        if !self.backends[i].suspected && self.backends[i].health.state() != State::Unhealthy {
            self.backends[i].suspected = true;
            self.schedule_probe(i, Duration::ZERO);
        }
    }

    /// The one probe that is to come; a later one that was planned before is void.
    fn schedule_probe(&mut self, i: usize, delay: Duration) {
        self.backends[i].next_probe = self.now + delay;
        self.at(delay, Event::Probe(i));
    }

    pub(super) fn probe(&mut self, i: usize) {
        if self.backends[i].next_probe != self.now {
            return;
        }
        let hangs = |sick: &Sickness| sick.page && sick.illness == Illness::Hangs;
        let silent = self.backends[i].sick.as_ref().is_some_and(hangs);
        // The next one is not sent before this one has come back.
        self.backends[i].next_probe = Duration::MAX;
        self.at(if silent { PROBE_TIMEOUT } else { ms(2) }, Event::Probed(i));
    }

    pub(super) fn probed(&mut self, i: usize) {
        let failed = self.backends[i].sick.is_some_and(|sick| sick.page);
        let outcome = if failed { Err(ProbeFailure::Refused) } else { Ok(()) };
        let now = self.now;
        let backend = &mut self.backends[i];
        if outcome.is_ok() {
            backend.suspected = false;
            backend.silence.cleared = now;
        }
        let transition = backend.health.on_probe(now, outcome);
        let delay = match backend.suspected && backend.health.state() != State::Unhealthy {
            true => ms(50),
            false => backend.health.next_probe_delay(INTERVAL, self.rng.f64()),
        };
        self.publish(i, transition);
        self.schedule_probe(i, delay);
    }

    fn publish(&mut self, i: usize, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        if transition.to == State::Healthy {
            let now = self.now;
            let others = self.backends.iter().filter_map(|other| other.serving);
            let slowly =
                slow_start::begins_slowly(others.map(|(since, _)| now - since), SLOW_START);
            self.backends[i].serving = Some((now, slowly));
        } else {
            self.backends[i].serving = None;
        }
        self.rebuild();
        if transition.to == State::Unhealthy {
            self.backends[i].suspected = false;
            self.told.downs += 1;
            // Rescue: who waits there goes elsewhere.
            for attempt in self.backends[i].waiting.clone() {
                let request = self.attempts[attempt].request;
                self.done(attempt);
                self.again(request, i, true);
            }
        }
    }

    pub(super) fn rebuild(&mut self) {
        let view = |backend: &Backend| MemberView {
            condition: backend.health.state().into(),
            backup: false,
        };
        let views: Vec<MemberView> = self.backends.iter().map(view).collect();
        let usable = usable(&views, 0.0, AllDown::Try);
        let member = |&i: &usize| Member { key: i as u64, weight: 1 };
        let members: Vec<Member> = usable.indexes.iter().map(member).collect();
        let spared = (0..members.len()).filter(|place| self.share(usable.indexes[*place]) < 1.0);
        let candidates = Candidates::new(Policy::LeastConnections, &members).sparing(spared);
        self.spared = (0..self.backends.len()).map(|i| self.share(i) < 1.0).collect();
        self.usable = (usable.indexes, candidates);
    }
}
