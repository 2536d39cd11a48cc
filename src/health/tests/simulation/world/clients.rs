//! Requests, their attempts, and what is counted of them.

use std::time::Duration;

use super::super::plan::Illness;
use super::{Attempt, Backend, Event, Phase, Request, World, ms};
use crate::balance::Draw;
use crate::health::outliers::{Alarm, Outcome, TRIED_AT_ONCE, bucket, judge_alarm};

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;

impl World {
    pub(super) fn arrive(&mut self) {
        let pause = -(1.0 - self.rng.f64()).ln() / self.plan.rate;
        self.at(Duration::from_secs_f64(pause), Event::Arrive);
        self.told.requests += 1;
        let request =
            Request { began: self.now, attempts: 0, tried: Vec::new(), error_retried: false };
        self.requests.push(request);
        self.send(self.requests.len() - 1);
    }

    fn send(&mut self, request: usize) {
        let Some(i) = self.pick(request) else {
            self.told.failed += 1;
            return;
        };
        self.requests[request].attempts += 1;
        self.backends[i].in_flight += 1;
        let sick = self.backends[i].sick.filter(|sick| self.rng.f64() < sick.share);
        let answer = Some(Outcome::Success { body: true });
        let (head, answer) = match sick.map(|sick| sick.illness) {
            None if self.plan.slow_pages > 0.0 && self.rng.f64() < self.plan.slow_pages => {
                (Some(ms(self.rng.u64(500..4_000))), answer)
            }
            None => (Some(ms(self.rng.u64(1..20))), answer),
            Some(Illness::Slow) => (Some(ms(2_000)), answer),
            Some(Illness::Hangs) => (None, None),
            Some(Illness::Errors) => (Some(ms(1)), Some(Outcome::ServerError { body: true })),
            Some(Illness::Refuses | Illness::Unavailable) => {
                (Some(Duration::from_micros(300)), Some(Outcome::Failure))
            }
            Some(Illness::BreaksOff) => (Some(ms(3)), Some(Outcome::BrokeOff)),
        };
        let (backend, began) = (i, self.now);
        self.attempts.push(Attempt { backend, request, began, phase: Phase::Waiting, answer });
        let attempt = self.attempts.len() - 1;
        self.backends[i].waiting.push(attempt);
        match head {
            Some(head) => self.at(head, Event::Head(attempt)),
            None => self.at(RESPONSE_TIMEOUT, Event::TimeOut(attempt)),
        }
        if let Some(late_after) = self.backends[i].traffic.late_after() {
            self.at(late_after, Event::Overdue(attempt));
        }
    }

    fn pick(&mut self, request: usize) -> Option<usize> {
        let (places, candidates) = &self.usable;
        let tried = |place: usize| self.requests[request].tried.contains(&places[place]);
        let suspected = |place: usize| self.backends[places[place]].suspected;
        let mut rng = self.rng.clone();
        let mut draw = |skip: &dyn Fn(usize) -> bool| {
            let draw = Draw { rng: &mut rng, turn: 0, hash: 0 };
            let load = |place: usize| {
                let Backend { in_flight, traffic, .. } = &self.backends[places[place]];
                in_flight.saturating_sub(if traffic.needs_trials() { TRIED_AT_ONCE } else { 0 })
            };
            candidates.pick_sparing(load, |place| self.share(places[place]), skip, draw)
        };
        let picked = draw(&|place| tried(place) || suspected(place))
            .or_else(|| draw(&tried))
            .or_else(|| draw(&|_| false))
            .map(|place| places[place]);
        self.rng = rng;
        picked
    }

    pub(super) fn head(&mut self, attempt: usize) {
        let Attempt { backend, began, phase, answer, request } = self.attempts[attempt];
        if !matches!(phase, Phase::Waiting | Phase::Late) {
            return;
        }
        let Some(outcome) = answer else { return };
        self.backends[backend].silence.last_head = self.now;
        match outcome {
            Outcome::Success { .. } | Outcome::BrokeOff => {
                if phase == Phase::Waiting {
                    let time = self.now - began;
                    self.backends[backend].totals.heads[bucket(time)] += 1;
                }
                let waited = self.now - self.requests[request].began;
                self.told.slowest = self.told.slowest.max(waited);
                self.told.slow += u64::from(waited > ms(300));
                self.attempts[attempt].phase = Phase::Body;
                self.backends[backend].waiting.retain(|waiting| *waiting != attempt);
                self.at(ms(1), Event::End(attempt));
            }
            Outcome::ServerError { .. } | Outcome::Failure => self.fail(attempt, outcome),
        }
    }

    pub(super) fn end(&mut self, attempt: usize) {
        let Some(outcome) = self.attempts[attempt].answer else { return };
        self.done(attempt);
        self.told.failed += u64::from(outcome == Outcome::BrokeOff);
        self.count(self.attempts[attempt].backend, outcome);
    }

    pub(super) fn overdue(&mut self, attempt: usize) {
        if self.attempts[attempt].phase == Phase::Waiting {
            self.attempts[attempt].phase = Phase::Late;
            self.backends[self.attempts[attempt].backend].totals.overdue += 1;
        }
    }

    pub(super) fn done(&mut self, attempt: usize) {
        let backend = &mut self.backends[self.attempts[attempt].backend];
        self.attempts[attempt].phase = Phase::Done;
        backend.in_flight -= 1;
        backend.waiting.retain(|waiting| *waiting != attempt);
    }

    pub(super) fn fail(&mut self, attempt: usize, outcome: Outcome) {
        let Attempt { backend, request, .. } = self.attempts[attempt];
        self.done(attempt);
        self.count(backend, outcome);
        if outcome == Outcome::Failure {
            self.suspect(backend);
        }
        let server_error = matches!(outcome, Outcome::ServerError { .. });
        let hidden =
            !self.requests[request].error_retried && self.backends[backend].traffic.siblings_well();
        self.requests[request].error_retried |= server_error;
        self.again(request, backend, !server_error || hidden);
    }

    /// Another attempt, if it is wanted and the budget allows it.
    pub(super) fn again(&mut self, request: usize, backend: usize, wanted: bool) {
        self.requests[request].tried.push(backend);
        let wanted = wanted && self.requests[request].attempts < ATTEMPTS;
        if wanted && self.budget.try_spend(0.2, 10.0, self.told.requests, self.now) {
            self.told.retries += 1;
            self.send(request);
        } else {
            self.told.failed += 1;
        }
    }

    fn count(&mut self, i: usize, outcome: Outcome) {
        let totals = &mut self.backends[i].totals;
        totals.requests += 1;
        totals.failures += u64::from(!matches!(outcome, Outcome::Success { .. }));
        totals.bodies += u64::from(outcome != Outcome::Failure);
        totals.broken_off += u64::from(outcome == Outcome::BrokeOff);
        let limit = self.outliers.consecutive_failures;
        let alarm = self.backends[i].streak.count(outcome, limit);
        if matches!(alarm, Some(Alarm::BrokeOff | Alarm::BrokenOff(_))) {
            self.suspect(i);
        }
        if let Some(alarm) = alarm {
            let found = self.judged(|now, outliers, peers| {
                judge_alarm(now, outliers, peers, i, alarm).into_iter().collect()
            });
            self.act(found);
        }
    }
}
