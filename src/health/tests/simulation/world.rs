//! The pool, its clients and its fate.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::balance::{
    AllDown, Candidates, Condition, Draw, Member, MemberView, Policy, slow_start, usable,
};
use crate::health::outliers::{
    Action, Alarm, Finding, Outcome, Peer, Settings as Outliers, Streak, TRIED_AT_ONCE, Totals,
    Traffic, bucket, judge, judge_alarm,
};
use crate::health::suspicion::{Silence, patience};
use crate::health::{FlapSettings, Health, ProbeFailure, Reason, Settings, State, Transition};
use crate::state::budget::RetryBudget;

const SLOW_START: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_millis(300);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(2);
/// Between two looks at who waits, and every fifth time at everything.
const LOOK: Duration = ms(50);
const ATTEMPTS: u32 = 3;
/// A minute, so that an hour sees it.
pub(super) const MAX_EJECTION: Duration = Duration::from_secs(60);
/// Whoever is well for so long serves with a full share: the longest ejection, the longest hold,
/// slow start, and what lies between them.
const BACK_WITHIN: Duration = Duration::from_secs(60 + 40 + 10 + 30);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn settings() -> Settings {
    Settings {
        rise: 2,
        fall: 2,
        base_ejection: Duration::from_secs(10),
        max_ejection: MAX_EJECTION,
        flaps: FlapSettings { max_hold: Duration::from_secs(40), ..FlapSettings::default() },
    }
}

/// What may be wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Illness {
    Refuses,
    Hangs,
    Errors,
    Unavailable,
    Slow,
    BreaksOff,
}

const ILLNESSES: [Illness; 6] = [
    Illness::Refuses,
    Illness::Hangs,
    Illness::Errors,
    Illness::Unavailable,
    Illness::Slow,
    Illness::BreaksOff,
];

/// What is to happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) backends: usize,
    /// Requests a second.
    pub(super) rate: f64,
    /// So many may be ill at a time.
    pub(super) together: usize,
    /// Only this, and it shows in nearly every answer.
    pub(super) only: Option<Illness>,
    /// The share of requests that are for a page that takes seconds, wherever it is asked for.
    pub(super) slow_pages: f64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) requests: u64,
    /// Requests whose client saw a failure.
    pub(super) failed: u64,
    /// The longest that a client waited for a response head.
    pub(super) slowest: Duration,
    /// Requests whose client waited longer than 300 ms for it.
    pub(super) slow: u64,
    pub(super) retries: u64,
    pub(super) faults: u64,
    pub(super) ejections: u64,
    pub(super) longest_ejection: Duration,
    /// Ejections that were shorter than the last one of the same backend: it had served well meanwhile.
    pub(super) forgiven: u64,
    pub(super) downs: u64,
    /// How often a backend came to lose of its share for being slow.
    pub(super) spared: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Look,
    Fall(usize),
    Heal(usize),
    Probe(usize),
    Probed(usize),
    Head(usize),
    End(usize),
    Overdue(usize),
    TimeOut(usize),
}

#[derive(Clone, Copy, Debug)]
struct Sickness {
    illness: Illness,
    /// Of its answers.
    share: f64,
    /// Its health page shows it.
    page: bool,
}

struct Backend {
    sick: Option<Sickness>,
    well_since: Duration,
    health: Health,
    traffic: Traffic,
    totals: Totals,
    streak: Streak,
    silence: Silence,
    patience: Duration,
    /// How long its last one was.
    ejection: Duration,
    suspected: bool,
    slow: bool,
    in_flight: u32,
    /// When it began to serve, and whether slowly.
    serving: Option<(Duration, bool)>,
    /// The attempts that wait for a response head.
    waiting: Vec<usize>,
    /// When the one probe is due that is to come.
    next_probe: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Late,
    Body,
    Done,
}

struct Attempt {
    backend: usize,
    request: usize,
    began: Duration,
    phase: Phase,
    answer: Option<Outcome>,
}

struct Request {
    began: Duration,
    attempts: u32,
    tried: Vec<usize>,
    error_retried: bool,
}

pub(super) struct World {
    plan: Plan,
    rng: fastrand::Rng,
    now: Duration,
    over: bool,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    looks: u64,
    backends: Vec<Backend>,
    attempts: Vec<Attempt>,
    requests: Vec<Request>,
    usable: (Vec<usize>, Candidates),
    spared: Vec<bool>,
    outliers: Outliers,
    budget: RetryBudget,
    pub(super) told: Told,
}

impl World {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let backend = |_| Backend {
            sick: None,
            well_since: Duration::ZERO,
            health: Health::new(settings(), Duration::ZERO),
            traffic: Traffic::new(&Totals::default()),
            totals: Totals::default(),
            streak: Streak::default(),
            silence: Silence::default(),
            patience: STALL,
            ejection: Duration::ZERO,
            suspected: false,
            slow: false,
            in_flight: 0,
            serving: None,
            waiting: Vec::new(),
            next_probe: Duration::ZERO,
        };
        let mut world = Self {
            plan,
            rng: fastrand::Rng::with_seed(seed),
            now: Duration::ZERO,
            over: false,
            events: BinaryHeap::new(),
            sequence: 0,
            looks: 0,
            backends: (0..plan.backends).map(backend).collect(),
            attempts: Vec::new(),
            requests: Vec::new(),
            usable: (Vec::new(), Candidates::new(Policy::LeastConnections, &[])),
            spared: Vec::new(),
            outliers: Outliers::default(),
            budget: RetryBudget::new(Duration::ZERO),
            told: Told::default(),
        };
        world.rebuild();
        (0..plan.backends).for_each(|i| world.at(Duration::ZERO, Event::Probe(i)));
        world.at(ms(100), Event::Arrive);
        world.at(LOOK, Event::Look);
        (0..plan.backends).for_each(|i| world.plan_fall(i, Duration::from_secs(20)));
        world
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + delay, self.sequence, event)));
    }

    /// Traffic and illness for so long, then traffic until all must be well, then silence.
    pub(super) fn run(&mut self, length: Duration) {
        self.until(length);
        self.over = true;
        for i in 0..self.backends.len() {
            self.heal(i);
        }
        self.until(length + BACK_WITHIN + ms(1_000));
    }

    fn until(&mut self, end: Duration) {
        while let Some(Reverse((at, ..))) = self.events.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else { return };
            self.now = at;
            self.happen(event);
        }
    }

    /// Everybody is back in full, nothing is in flight, and no more was retried than was allowed.
    pub(super) fn assert_recovered(&mut self) {
        for (i, backend) in self.backends.iter().enumerate() {
            assert_eq!(backend.health.state(), State::Healthy, "backend {i}");
            assert!(self.share(i) >= 1.0, "backend {i} has {} of its share", self.share(i));
        }
        let allowed = 0.2 * self.told.requests as f64 + 10.0 * self.now.as_secs_f64() + 100.0;
        assert!(self.told.retries as f64 <= allowed, "{:?}", self.told);
        self.events.retain(|event| !matches!(event.0.2, Event::Arrive));
        self.until(self.now + Duration::from_secs(30));
        assert!(self.backends.iter().all(|backend| backend.in_flight == 0), "slots were lost");
        assert!(self.attempts.iter().all(|attempt| attempt.phase == Phase::Done));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Look => self.look(),
            Event::Fall(i) => self.fall(i),
            Event::Heal(i) => {
                self.heal(i);
                self.plan_fall(i, Duration::from_secs(5));
            }
            Event::Probe(i) => self.probe(i),
            Event::Probed(i) => self.probed(i),
            Event::Head(attempt) => self.head(attempt),
            Event::End(attempt) => self.end(attempt),
            Event::Overdue(attempt) => self.overdue(attempt),
            Event::TimeOut(attempt) => {
                if matches!(self.attempts[attempt].phase, Phase::Waiting | Phase::Late) {
                    self.fail(attempt, Outcome::Failure);
                }
            }
        }
    }

    // Fate.

    fn plan_fall(&mut self, i: usize, pause: Duration) {
        let more = Duration::from_secs(self.rng.u64(..120));
        self.at(pause + more, Event::Fall(i));
    }

    fn fall(&mut self, i: usize) {
        let ill = self.backends.iter().filter(|backend| backend.sick.is_some()).count();
        // With one at a time the others have to be back first.
        let busy = self.plan.together == 1
            && self.backends.iter().enumerate().any(|(i, backend)| {
                backend.health.state() != State::Healthy || self.share(i) < 1.0
            });
        if self.over || ill >= self.plan.together || busy {
            self.plan_fall(i, Duration::from_secs(5));
            return;
        }
        let some = self.rng.choice(ILLNESSES).unwrap_or(Illness::Refuses);
        let illness = self.plan.only.unwrap_or(some);
        let share = if self.plan.only.is_some() || self.rng.bool() { 1.0 } else { self.rng.f64() };
        let page = self.rng.bool() && self.plan.only.is_none_or(|only| only == Illness::Refuses)
            || self.plan.only == Some(Illness::Hangs);
        self.backends[i].sick = Some(Sickness { illness, share, page });
        self.told.faults += 1;
        let length = match self.rng.u32(..3) {
            // One that flaps.
            0 if self.plan.only.is_none() => ms(self.rng.u64(200..3_000)),
            _ => Duration::from_secs(self.rng.u64(5..60)),
        };
        self.at(length, Event::Heal(i));
    }

    fn heal(&mut self, i: usize) {
        self.backends[i].sick = None;
        self.backends[i].well_since = self.now;
    }

    // Clients.

    fn arrive(&mut self) {
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

    fn share(&self, i: usize) -> f64 {
        let backend = &self.backends[i];
        let ramp = match backend.serving {
            Some((since, true)) => slow_start::ramp(self.now - since, SLOW_START),
            _ => 1.0,
        };
        ramp * backend.traffic.share()
    }

    fn head(&mut self, attempt: usize) {
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

    fn end(&mut self, attempt: usize) {
        let Some(outcome) = self.attempts[attempt].answer else { return };
        self.done(attempt);
        self.told.failed += u64::from(outcome == Outcome::BrokeOff);
        self.count(self.attempts[attempt].backend, outcome);
    }

    fn overdue(&mut self, attempt: usize) {
        if self.attempts[attempt].phase == Phase::Waiting {
            self.attempts[attempt].phase = Phase::Late;
            self.backends[self.attempts[attempt].backend].totals.overdue += 1;
        }
    }

    fn done(&mut self, attempt: usize) {
        let backend = &mut self.backends[self.attempts[attempt].backend];
        self.attempts[attempt].phase = Phase::Done;
        backend.in_flight -= 1;
        backend.waiting.retain(|waiting| *waiting != attempt);
    }

    fn fail(&mut self, attempt: usize, outcome: Outcome) {
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
    fn again(&mut self, request: usize, backend: usize, wanted: bool) {
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

    // The control plane.

    fn look(&mut self) {
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

    fn assert_rules(&self) {
        for (i, backend) in self.backends.iter().enumerate() {
            let well_for = self.now - backend.well_since;
            if backend.sick.is_none() && well_for > BACK_WITHIN {
                let state = backend.health.state();
                assert_eq!(state, State::Healthy, "backend {i} has been well for {well_for:?}");
            }
            let slots = self
                .attempts
                .iter()
                .rev()
                .take(5_000)
                .filter(|attempt| attempt.backend == i && attempt.phase != Phase::Done);
            if self.looks.is_multiple_of(1_000) {
                assert_eq!(slots.count(), backend.in_flight as usize, "slots of backend {i}");
            }
        }
    }

    fn judged(
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

    fn act(&mut self, found: Vec<Finding>) {
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

    fn suspect(&mut self, i: usize) {
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

    fn probe(&mut self, i: usize) {
        if self.backends[i].next_probe != self.now {
            return;
        }
        let hangs = |sick: &Sickness| sick.page && sick.illness == Illness::Hangs;
        let silent = self.backends[i].sick.as_ref().is_some_and(hangs);
        // The next one is not sent before this one has come back.
        self.backends[i].next_probe = Duration::MAX;
        self.at(if silent { PROBE_TIMEOUT } else { ms(2) }, Event::Probed(i));
    }

    fn probed(&mut self, i: usize) {
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

    fn rebuild(&mut self) {
        let view = |backend: &Backend| MemberView {
            condition: match backend.health.state() {
                State::Checking => Condition::Checking,
                State::Healthy => Condition::Healthy,
                State::Unhealthy => Condition::Unhealthy,
                State::Ejected { .. } => Condition::Ejected,
                State::Leaving => Condition::Leaving,
                State::Draining => Condition::Draining,
                State::Disabled => Condition::Disabled,
            },
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
