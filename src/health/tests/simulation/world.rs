//! The pool, its clients and its fate.

mod clients;
mod control;
mod fate;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::plan::{Illness, Plan, Told};
use crate::balance::{Candidates, Policy, slow_start};
use crate::health::outliers::{Outcome, Settings as Outliers, Streak, Totals, Traffic};
use crate::health::suspicion::Silence;
use crate::health::{FlapSettings, Health, Settings, State};
use crate::state::budget::RetryBudget;

const SLOW_START: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_millis(300);
/// Between two looks at who waits, and every fifth time at everything.
const LOOK: Duration = ms(50);
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

    fn share(&self, i: usize) -> f64 {
        let backend = &self.backends[i];
        let ramp = match backend.serving {
            Some((since, true)) => slow_start::ramp(self.now - since, SLOW_START),
            _ => 1.0,
        };
        ramp * backend.traffic.share()
    }
}
