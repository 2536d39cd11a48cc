//! A pool under traffic, step by step.

use std::time::Duration;

use super::ms;
use crate::health::outliers::{
    Action, Finding, Outcome, Peer, Settings, Streak, TRIED_AT_ONCE, Totals, Traffic, bucket,
    judge, judge_alarm,
};

/// Between two steps of the story.
const STEP: Duration = Duration::from_millis(10);
const TICK: Duration = Duration::from_millis(250);

/// What a backend does with a request.
#[derive(Clone, Copy)]
pub enum Answer {
    After(Duration),
    Error,
    Refused,
    Cut,
}

pub const FINE: Answer = Answer::After(Duration::from_millis(2));

pub struct Member {
    pub totals: Totals,
    pub traffic: Traffic,
    streak: Streak,
    pub in_service: bool,
    /// Sent and not answered yet: when, the time that it takes, and whether it is overdue.
    waiting: Vec<(Duration, Duration, bool)>,
    pub cut: u64,
}

/// A pool under traffic. Every backend gets its requests whatever the others do, as much of them as
/// its share says.
pub struct Story {
    now: Duration,
    settings: Settings,
    pub members: Vec<Member>,
    pub findings: Vec<(Duration, Finding)>,
    pub rng: fastrand::Rng,
    /// There is always another one that is less busy: who has somebody waiting gets no more.
    pub least: bool,
}

impl Story {
    pub fn of(members: usize) -> Self {
        Self::with(members, Settings::default())
    }

    pub fn with(members: usize, settings: Settings) -> Self {
        let member = |_| Member {
            totals: Totals::default(),
            traffic: Traffic::new(&Totals::default()),
            streak: Streak::default(),
            in_service: true,
            waiting: Vec::new(),
            cut: 0,
        };
        Self {
            now: Duration::from_secs(1_000),
            settings,
            members: (0..members).map(member).collect(),
            findings: Vec::new(),
            rng: fastrand::Rng::with_seed(3),
            least: false,
        }
    }

    /// `rate` requests a second to each backend for so long; `behave` says what becomes of one.
    pub fn run(
        &mut self,
        length: Duration,
        rate: f64,
        mut behave: impl FnMut(usize, &mut fastrand::Rng) -> Answer,
    ) {
        let end = self.now + length;
        while self.now < end {
            self.now += STEP;
            for at in 0..self.members.len() {
                self.heads(at);
                let share = self.members[at].traffic.share();
                let wanted = rate * share * STEP.as_secs_f64() + self.rng.f64();
                let requests = if self.members[at].in_service { wanted as u32 } else { 0 };
                for _ in 0..requests {
                    if self.is_passed_over(at) {
                        break;
                    }
                    let answer = behave(at, &mut self.rng);
                    self.request(at, answer);
                }
            }
            if self.now.as_millis().is_multiple_of(TICK.as_millis()) {
                self.tick();
            }
        }
    }

    fn is_passed_over(&self, at: usize) -> bool {
        let Member { traffic, waiting, .. } = &self.members[at];
        let tried = if traffic.needs_trials() { TRIED_AT_ONCE } else { 0 };
        self.least && waiting.len() > tried as usize
    }

    fn request(&mut self, at: usize, answer: Answer) {
        let Member { totals, waiting, .. } = &mut self.members[at];
        let outcome = match answer {
            Answer::After(time) => {
                waiting.push((self.now, time, false));
                return;
            }
            Answer::Error => Outcome::ServerError { body: true },
            Answer::Refused => Outcome::Failure,
            Answer::Cut => Outcome::BrokeOff,
        };
        totals.requests += 1;
        totals.failures += 1;
        if matches!(outcome, Outcome::ServerError { .. } | Outcome::BrokeOff) {
            totals.bodies += 1;
        }
        if outcome == Outcome::BrokeOff {
            totals.broken_off += 1;
            self.members[at].cut += 1;
        }
        self.tell(at, outcome);
    }

    fn tell(&mut self, at: usize, outcome: Outcome) {
        let limit = self.settings.consecutive_failures;
        if let Some(alarm) = self.members[at].streak.count(outcome, limit) {
            let found = self.judged(|now, settings, peers| {
                judge_alarm(now, settings, peers, at, alarm).into_iter().collect()
            });
            self.act(found);
        }
    }

    /// Heads come, and what waits too long is overdue.
    fn heads(&mut self, at: usize) {
        let now = self.now;
        let member = &mut self.members[at];
        let late_after = member.traffic.late_after();
        let mut whole = 0;
        member.waiting.retain_mut(|(sent, time, overdue)| {
            let waited = now - *sent;
            if !*overdue && late_after.is_some_and(|limit| waited > limit) {
                *overdue = true;
                member.totals.overdue += 1;
            }
            if waited < *time {
                return true;
            }
            if !*overdue {
                member.totals.heads[bucket(*time)] += 1;
            }
            member.totals.requests += 1;
            member.totals.bodies += 1;
            whole += 1;
            false
        });
        for _ in 0..whole {
            self.tell(at, Outcome::Success { body: true });
        }
    }

    fn tick(&mut self) {
        let found = self.judged(judge);
        self.act(found);
    }

    pub fn judged(
        &mut self,
        judge: impl FnOnce(Duration, &Settings, &mut [Peer<'_>]) -> Vec<Finding>,
    ) -> Vec<Finding> {
        let (now, window) = (self.now, self.settings.window);
        let peer = |member: &'_ mut Member| -> (Totals, bool) {
            (member.totals.clone(), member.in_service)
        };
        let state: Vec<_> = self.members.iter_mut().map(peer).collect();
        let mut peers: Vec<Peer<'_>> = self
            .members
            .iter_mut()
            .zip(&state)
            .map(|(member, (totals, in_service))| {
                member.traffic.observe(now, window, totals);
                Peer { traffic: &mut member.traffic, in_service: *in_service }
            })
            .collect();
        judge(now, &self.settings, &mut peers)
    }

    fn act(&mut self, found: Vec<Finding>) {
        for finding in found {
            if finding.action == Action::Eject {
                self.members[finding.member].in_service = false;
                self.members[finding.member].streak.reset();
            }
            self.findings.push((self.now, finding));
        }
    }

    /// Every ejection so far: who, by what sign, and how long after a moment.
    pub fn ejections(&self, since: Duration) -> Vec<(usize, &'static str, Duration)> {
        let ejected = self.findings.iter().filter(|(_, finding)| finding.action == Action::Eject);
        ejected.map(|(at, f)| (f.member, f.reason.label(), at.saturating_sub(since))).collect()
    }

    #[track_caller]
    pub fn assert_only(&self, member: usize, label: &str, since: Duration, within: Duration) {
        let ejections = self.ejections(since);
        assert!(
            matches!(ejections[..], [(m, l, t)] if m == member && l == label && t <= within),
            "{ejections:?}"
        );
    }
}

/// Ten good seconds, then so many with one backend that behaves otherwise.
pub fn one_sick(
    rate: f64,
    seconds: u64,
    mut sick: impl FnMut(&mut fastrand::Rng) -> Answer,
) -> Story {
    let mut story = Story::of(3);
    story.run(ms(10_000), rate, |_, _| FINE);
    assert_eq!(story.findings, []);
    story.run(ms(seconds * 1_000), rate, |at, rng| if at == 1 { sick(rng) } else { FINE });
    story
}

pub const FAULT: Duration = Duration::from_secs(1_010);
