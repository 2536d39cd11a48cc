//! A pool of two versions that a swap is tried on: it obeys the commands, and answers.

use std::sync::Arc;
use std::time::Duration;

use super::simulation::RULES;
use crate::deploy::{
    BackendSample, Check, Checked, Command, Counts, Event, Held, History, Latencies, Milestone,
    Mode, Observation, Order, Plan, Swap, Tunnels, bucket,
};

pub const SECOND: u32 = 4;

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Some time of day.
pub const DAWN: Duration = secs(1_700_000_000);

pub fn order() -> Order {
    Order {
        id: 7,
        pool: "shop".to_owned(),
        from: "blue".to_owned(),
        to: "green".to_owned(),
        back: false,
        asked_by: "a test".to_owned(),
        backends: backends(3),
    }
}

pub fn backends(n: usize) -> Vec<Arc<str>> {
    (1..=n).map(|n| Arc::from(format!("10.0.0.{n}:80"))).collect()
}

pub fn plan() -> Plan {
    Plan {
        gate_checks: 3,
        check_pause: Duration::from_millis(500),
        gate_timeout: secs(60),
        smoke: 1,
        expect_version: false,
        warm_up: true,
        shadow: None,
        ramp: Vec::new(),
        ramp_step: secs(10),
        watch: secs(60),
        control: 0.0,
        drain_timeout: secs(5),
        tunnels: Tunnels { close: false, deadline: None, per_second: 50 },
        mode: Mode::Enforce,
        grace: secs(3),
        rules: RULES,
    }
}

/// The world around a swap. Its answers and its traffic are what the fields say.
pub struct World {
    pub swap: Swap,
    pub now: Duration,
    /// Every command so far but the checks.
    pub commands: Vec<Command>,
    pub checks: Vec<(Arc<str>, Check)>,
    /// How a check is answered.
    pub answer: fn(&str, Check) -> Checked,
    /// What each backend of the new version does between two looks.
    pub new: [Counts; 3],
    /// Whether the backends are usable.
    pub usable: [bool; 3],
    /// How many backends of the old version pass, of three; `None`: no answer.
    pub old_passes: Option<usize>,
    pub old_held: Held,
    pub new_held: Held,
    pub new_waiting: u64,
    history: History,
}

pub fn good(requests: u64) -> [Counts; 3] {
    [Counts { requests, timed: requests, ..Counts::default() }; 3]
}

pub fn bad(requests: u64) -> [Counts; 3] {
    [Counts { requests, failed: requests, timed: requests, slow: 0 }; 3]
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let now = secs(1000);
        Self::around(Swap::start(order(), plan, now, DAWN), now)
    }

    pub fn around((swap, commands): (Swap, Vec<Command>), now: Duration) -> Self {
        let mut history = History::new(secs(60));
        let mut latencies = Latencies::default();
        (0..1000).for_each(|_| latencies.record(Duration::from_millis(20)));
        let counts = Counts { requests: 1000, failed: 1, ..Counts::default() };
        history.add(now, counts, &latencies);
        let mut world = Self {
            swap,
            now,
            commands: Vec::new(),
            checks: Vec::new(),
            answer: |_, _| Checked::Passed,
            new: good(20),
            usable: [true; 3],
            old_passes: Some(3),
            old_held: Held::default(),
            new_held: Held::default(),
            new_waiting: 0,
            history,
        };
        world.obey(commands);
        world
    }

    /// One look.
    pub fn look(&mut self) {
        self.now += Duration::from_millis(250);
        let is_serving = self.swap.share() > 0.0;
        let counts = if is_serving { self.new } else { [Counts::default(); 3] };
        let new: Vec<BackendSample> = backends(3)
            .into_iter()
            .zip(self.usable.into_iter().zip(counts))
            .map(|(backend, (usable, counts))| BackendSample { backend, usable, counts })
            .collect();
        let mut new_latencies = Latencies::default();
        let requests: u64 = counts.iter().map(|counts| counts.requests).sum();
        new_latencies.add_to_bucket(bucket(Duration::from_millis(25)), requests as u32);
        let observation = Observation {
            new: &new,
            new_latencies: &new_latencies,
            new_waiting: self.new_waiting,
            old: Counts::default(),
            old_history: &self.history,
            old_held: self.old_held,
            new_held: self.new_held,
        };
        let commands = self.swap.tick(self.now, &observation);
        self.obey(commands);
    }

    pub fn looks(&mut self, n: u32) {
        (0..n).for_each(|_| self.look());
    }

    /// Looks until this was told; how long that took.
    #[track_caller]
    pub fn until(&mut self, milestone: Milestone) -> Duration {
        let began = self.now;
        for _ in 0..1200 {
            if self.told(milestone).is_some() {
                return self.now - began;
            }
            self.look();
        }
        panic!("{milestone:?} never came: {:#?}", self.commands);
    }

    pub fn event(&mut self, event: Event) {
        let commands = self.swap.handle(self.now, event);
        self.obey(commands);
    }

    fn obey(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Check { round, backend, check } => {
                    self.checks.push((Arc::clone(&backend), check));
                    let outcome = (self.answer)(&backend, check);
                    self.event(Event::Checked { round, backend, check, outcome });
                }
                Command::ProbeOld => {
                    self.commands.push(Command::ProbeOld);
                    if let Some(passed) = self.old_passes {
                        self.event(Event::OldProbed { passed, asked: 3 });
                    }
                }
                Command::Eject { ref backend, .. } => {
                    let index = backends(3).iter().position(|other| other == backend);
                    self.usable[index.unwrap()] = false;
                    self.commands.push(command);
                }
                command => self.commands.push(command),
            }
        }
    }

    /// The words that came with the last milestone of this kind.
    pub fn told(&self, milestone: Milestone) -> Option<&str> {
        self.commands.iter().rev().find_map(|command| match command {
            Command::Tell(told, words) if *told == milestone => Some(&**words),
            _ => None,
        })
    }

    /// The shares that the new version had one after the other.
    pub fn shares(&self) -> Vec<f64> {
        let share = |command: &Command| match command {
            Command::Split(share) => Some(*share),
            _ => None,
        };
        self.commands.iter().filter_map(share).collect()
    }

    pub fn count(&self, command: &Command) -> usize {
        self.commands.iter().filter(|other| *other == command).count()
    }
}
