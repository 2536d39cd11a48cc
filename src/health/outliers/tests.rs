//! Stories of pools under traffic: what is found, how soon, and that nothing else is.

use super::*;
use crate::health::reason::EjectionReason;

/// Between two steps of the story.
const STEP: Duration = Duration::from_millis(10);
const TICK: Duration = Duration::from_millis(250);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What a backend does with a request.
#[derive(Clone, Copy)]
enum Answer {
    After(Duration),
    Error,
    Refused,
    Cut,
}

const FINE: Answer = Answer::After(Duration::from_millis(2));

struct Member {
    totals: Totals,
    traffic: Traffic,
    streak: Streak,
    in_service: bool,
    /// Sent and not answered yet: when, the time that it takes, and whether it is overdue.
    waiting: Vec<(Duration, Duration, bool)>,
    cut: u64,
}

/// A pool under traffic. Every backend gets its requests whatever the others do, as much of them as
/// its share says.
struct Story {
    now: Duration,
    settings: Settings,
    members: Vec<Member>,
    findings: Vec<(Duration, Finding)>,
    rng: fastrand::Rng,
    /// There is always another one that is less busy: who has somebody waiting gets no more.
    least: bool,
}

impl Story {
    fn of(members: usize) -> Self {
        Self::with(members, Settings::default())
    }

    fn with(members: usize, settings: Settings) -> Self {
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
    fn run(
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

    fn judged(
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
    fn ejections(&self, since: Duration) -> Vec<(usize, &'static str, Duration)> {
        let ejected = self.findings.iter().filter(|(_, finding)| finding.action == Action::Eject);
        ejected.map(|(at, f)| (f.member, f.reason.label(), at.saturating_sub(since))).collect()
    }

    #[track_caller]
    fn assert_only(&self, member: usize, label: &str, since: Duration, within: Duration) {
        let ejections = self.ejections(since);
        assert!(
            matches!(ejections[..], [(m, l, t)] if m == member && l == label && t <= within),
            "{ejections:?}"
        );
    }
}

/// Ten good seconds, then so many with one backend that behaves otherwise.
fn one_sick(rate: f64, seconds: u64, mut sick: impl FnMut(&mut fastrand::Rng) -> Answer) -> Story {
    let mut story = Story::of(3);
    story.run(ms(10_000), rate, |_, _| FINE);
    assert_eq!(story.findings, []);
    story.run(ms(seconds * 1_000), rate, |at, rng| if at == 1 { sick(rng) } else { FINE });
    story
}

const FAULT: Duration = Duration::from_secs(1_010);

#[test]
fn plain_illness_shows_within_a_tick_or_two() {
    one_sick(200.0, 5, |_| Answer::Error).assert_only(1, "failure_rate", FAULT, ms(750));
    one_sick(200.0, 5, |_| Answer::Refused).assert_only(1, "consecutive_failures", FAULT, ms(60));
    // With two requests a second, after the twenty that a rate needs.
    one_sick(2.0, 15, |_| Answer::Error).assert_only(1, "failure_rate", FAULT, ms(12_000));
}

#[test]
fn partial_illness_shows_when_it_is_a_share_of_the_window() {
    let ill = |share: f64| {
        move |rng: &mut fastrand::Rng| if rng.f64() < share { Answer::Error } else { FINE }
    };
    one_sick(200.0, 15, ill(0.3)).assert_only(1, "failure_rate", FAULT, ms(8_000));
    assert_eq!(one_sick(200.0, 60, ill(0.15)).findings, []);
}

#[test]
fn what_all_do_ejects_nobody() {
    for answer in [Answer::Error, Answer::After(ms(2_000))] {
        let mut story = Story::of(4);
        story.run(ms(10_000), 100.0, |_, _| FINE);
        story.run(ms(30_000), 100.0, |_, rng| if rng.f64() < 0.6 { answer } else { FINE });
        assert_eq!(story.ejections(FAULT), []);
    }
    // Failures in a row eject on their own evidence, but not when most of the rest fails too.
    let mut story = Story::of(4);
    story.run(ms(10_000), 100.0, |_, _| FINE);
    story.run(ms(60_000), 100.0, |_, _| Answer::Refused);
    assert!(story.ejections(FAULT).len() <= 2);
    assert!(story.ejections(FAULT).iter().all(|ejection| ejection.2 < ms(300)));
}

#[test]
fn where_all_fail_alike_it_is_said_until_it_is_over() {
    let all_fail = |story: &mut Story, before| {
        let mut said = None;
        story.judged(|now, settings, peers| {
            said = all_fail(now, settings, peers, before);
            Vec::new()
        });
        said
    };
    for members in [1, 3] {
        let mut story = Story::of(members);
        story.run(ms(10_000), 100.0, |_, _| FINE);
        assert_eq!(all_fail(&mut story, false), None);
        story.run(ms(2_000), 100.0, |_, _| Answer::Error);
        let said = all_fail(&mut story, false).expect("it is said");
        assert_eq!((said.backends, story.ejections(FAULT).len()), (members, 0));
        story.run(ms(4_000), 100.0, |_, _| FINE);
        assert_eq!(all_fail(&mut story, true), None);
    }
    // One that fails alone stands out, also where it may not be ejected.
    let mut story = Story::with(2, Settings { max_ejected: 0.4, ..Settings::default() });
    story.run(ms(20_000), 100.0, |at, _| if at == 0 { Answer::Error } else { FINE });
    assert_eq!(all_fail(&mut story, true), None);
}

#[test]
fn few_clients_see_a_broken_off_response() {
    for (share, most) in [(1.0, 7), (0.5, 10), (0.3, 10), (0.1, 10)] {
        for rate in [200.0, 20.0] {
            let story =
                one_sick(rate, 20, |rng| if rng.f64() < share { Answer::Cut } else { FINE });
            story.assert_only(1, "broken_off", FAULT, ms(20_000));
            let cut = story.members[1].cut;
            assert!(cut <= most, "{cut} at {share} of {rate}/s");
        }
    }
}

#[test]
fn a_rare_broken_off_response_ejects_nobody() {
    let story = one_sick(200.0, 60, |rng| if rng.f64() < 0.01 { Answer::Cut } else { FINE });
    assert_eq!(story.ejections(FAULT), []);
    let mut story = Story::of(3);
    story.run(ms(60_000), 100.0, |_, rng| if rng.f64() < 0.03 { Answer::Cut } else { FINE });
    assert_eq!(story.ejections(Duration::ZERO), [], "all of them do it");
}

#[test]
fn a_slow_backend_loses_its_share_within_a_second_and_its_place_within_two() {
    let mut story = Story::of(3);
    story.run(ms(10_000), 200.0, |_, _| FINE);
    let slow = |at, _: &mut fastrand::Rng| if at == 1 { Answer::After(ms(2_002)) } else { FINE };
    story.run(ms(1_000), 200.0, slow);
    assert!(story.members[1].traffic.share() < 0.1);
    assert_eq!(story.members[0].traffic.share(), 1.0);
    story.run(ms(2_000), 200.0, slow);
    story.assert_only(1, "latency", FAULT, ms(2_250));
    // Back with trial traffic only, and out again for as little.
    story.members[1].in_service = true;
    let before = story.members[1].totals.overdue;
    story.run(ms(5_000), 200.0, slow);
    assert_eq!(story.ejections(FAULT).len(), 2);
    assert!(story.members[1].totals.overdue - before < 60);
}

#[test]
fn two_late_heads_are_enough_where_least_connections_leaves_no_more() {
    let mut story = Story::of(6);
    story.least = true;
    story.run(ms(10_000), 200.0, |_, _| FINE);
    let slow = |at, _: &mut fastrand::Rng| if at == 1 { Answer::After(ms(2_002)) } else { FINE };
    // One request at a time, each for two seconds.
    story.run(ms(2_500), 200.0, slow);
    let (at, finding) = story.findings.first().expect("it is found");
    assert_eq!(*at - FAULT, ms(2_500));
    let EjectionReason::LateInARow { late: 2, limit, rest_late: 0, rest_heads } = finding.reason
    else {
        panic!("{finding:?}")
    };
    assert!(limit == ms(250) && rest_heads > 900, "{finding:?}");
    assert_eq!((finding.member, finding.action), (1, Action::Spared));
    // Then others have to follow, whoever waits there.
    story.run(ms(1_500), 200.0, slow);
    story.assert_only(1, "latency", FAULT, ms(4_000));
    assert!(story.members[1].totals.overdue < 20);
}

#[test]
fn beside_few_heads_of_siblings_it_takes_three() {
    let mut story = Story::of(4);
    story.least = true;
    story.run(ms(10_000), 15.0, |_, _| FINE);
    story.run(ms(10_000), 15.0, |at, _| if at == 1 { Answer::After(ms(2_002)) } else { FINE });
    let (_, finding) = story.findings.first().expect("it is found");
    assert!(matches!(finding.reason, EjectionReason::LateInARow { late: 3, .. }), "{finding:?}");
}

#[test]
fn what_siblings_do_too_is_no_run_of_late_heads() {
    // A page of two seconds that is asked for wherever it falls, while each of them waits for it alone.
    for share in [0.002, 0.02, 0.2] {
        let mut story = Story::of(6);
        story.least = true;
        story.run(ms(120_000), 200.0, |_, rng| match rng.f64() < share {
            true => Answer::After(ms(2_000)),
            false => FINE,
        });
        assert_eq!(story.findings, [], "{share}");
    }
    // All of them at once.
    let mut story = Story::of(6);
    story.least = true;
    story.run(ms(10_000), 200.0, |_, _| FINE);
    story.run(ms(10_000), 200.0, |_, _| Answer::After(ms(2_000)));
    assert_eq!(story.findings, []);
}

#[test]
fn trial_traffic_brings_a_backend_back() {
    // A pause of a second: everything that comes in it waits until its end.
    let mut story = Story::of(3);
    story.run(ms(10_000), 200.0, |_, _| FINE);
    let mut left = 200_u64;
    story.run(ms(1_000), 200.0, |at, _| {
        if at != 1 {
            return FINE;
        }
        left = left.saturating_sub(1);
        Answer::After(ms(5 * left + 2))
    });
    let mut lowest: f64 = 1.0;
    for _ in 0..40 {
        story.run(ms(250), 200.0, |_, _| FINE);
        lowest = lowest.min(story.members[1].traffic.share());
    }
    assert_eq!(story.ejections(FAULT), []);
    assert!(lowest < 0.5, "{lowest}");
    assert_eq!(story.members[1].traffic.share(), 1.0);
}

#[test]
fn honest_differences_are_no_illness() {
    for seed in 0..5 {
        let mut story = Story::of(3);
        story.rng = fastrand::Rng::with_seed(seed);
        // One is three times as slow, one page in twenty takes seconds, one in a hundred fails.
        story.run(ms(60_000), 50.0, |at, rng| match rng.u32(..100) {
            0 => Answer::Error,
            1..6 => Answer::After(ms(rng.u64(500..3_000))),
            _ => Answer::After(ms(rng.u64(1..200) * if at == 1 { 3 } else { 1 })),
        });
        // The slower one may lose of its share for a moment.
        story.findings.retain(|(_, finding)| finding.action != Action::Spared);
        assert_eq!(story.findings, [], "seed {seed}");
        assert!(story.members.iter().all(|member| member.traffic.share() == 1.0));
    }
}

#[test]
fn below_the_floor_nothing_is_slow() {
    let story = one_sick(100.0, 20, |_| Answer::After(ms(200)));
    assert_eq!(story.findings, []);
    assert_eq!(story.members[1].traffic.share(), 1.0);
}

#[test]
fn one_that_fails_fast_makes_nobody_look_slow() {
    let mut story = Story::of(3);
    story.run(ms(20_000), 100.0, |at, _| Answer::After(ms(if at == 1 { 1 } else { 400 })));
    assert_eq!(story.findings, []);
}

#[test]
fn not_more_than_the_allowed_share_goes_and_never_the_last() {
    for (members, max_ejected, gone) in
        [(1, 1.0, 0), (2, 1.0, 1), (2, 0.4, 0), (4, 0.5, 2), (5, 0.3, 1)]
    {
        let settings = Settings { max_ejected, failure_factor: 1.0, ..Settings::default() };
        let mut story = Story::with(members, settings);
        story.run(ms(10_000), 100.0, |_, _| FINE);
        // All but the last fail, one after another.
        for step in 0..members.max(2) - 1 {
            story.run(ms(3_000), 100.0, |at, _| if at <= step { Answer::Error } else { FINE });
        }
        let out = story.members.iter().filter(|member| !member.in_service).count();
        assert_eq!(out, gone, "of {members}: {:?}", story.findings);
        let withheld = |(_, f): &&(Duration, Finding)| matches!(f.action, Action::Withheld(_));
        let reports = story.findings.iter().filter(withheld).count();
        assert!(reports <= 8, "{reports} reports: it is told every ten seconds, not every tick");
    }
}

#[test]
fn why_one_is_not_ejected() {
    for (members, max_ejected, why) in
        [(1, 1.0, Withheld::Only), (2, 0.4, Withheld::Share), (2, 1.0, Withheld::Last)]
    {
        let mut story = Story::with(members, Settings { max_ejected, ..Settings::default() });
        story.members[0].in_service = members == 1 || why != Withheld::Last;
        let alarm = Alarm::Failures(5);
        let found = story.judged(|now, settings, peers| {
            judge_alarm(now, settings, peers, members - 1, alarm).into_iter().collect()
        });
        assert_eq!(found[0].action, Action::Withheld(why));
    }
}

#[test]
fn who_loses_its_share_for_being_slow_is_told_of_every_ten_seconds() {
    let story = one_sick(200.0, 3, |_| Answer::After(ms(2_000)));
    let spared = story.findings.iter().find(|(_, finding)| finding.action == Action::Spared);
    let (_, finding) = spared.expect("it is told");
    assert!(finding.reason.is_slowness(), "{finding:?}");
    let times = story.findings.iter().filter(|(_, it)| it.action == Action::Spared);
    let times: Vec<Duration> = times.map(|(at, _)| *at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= ms(10_000)), "{times:?}");
}

#[test]
fn observing_reports_and_does_nothing() {
    let mut story = Story::with(3, Settings { mode: Mode::Observe, ..Settings::default() });
    story.run(ms(10_000), 100.0, |_, _| FINE);
    story.run(ms(9_000), 100.0, |at, _| match at {
        0 => Answer::Error,
        1 => Answer::After(ms(2_000)),
        _ => FINE,
    });
    assert_eq!(story.findings.len(), 2, "{:?}", story.findings);
    assert!(story.findings.iter().all(|(_, finding)| finding.action == Action::Observed));
    assert!(story.members.iter().all(|member| member.traffic.share() == 1.0));
}

#[test]
fn switched_off_nothing_is_judged_but_how_the_siblings_are() {
    let mut story = Story::with(2, Settings { mode: Mode::Off, ..Settings::default() });
    story.run(ms(5_000), 100.0, |at, _| if at == 0 { Answer::Error } else { FINE });
    assert_eq!(story.findings, []);
    assert_eq!(story.members[0].traffic.late_after(), None);
    assert!(story.members[0].traffic.siblings_well());
    assert!(!story.members[1].traffic.siblings_well());
}

#[test]
fn who_comes_back_is_judged_anew() {
    let mut story = one_sick(200.0, 3, |_| Answer::Error);
    story.members[1].in_service = true;
    story.run(ms(20_000), 200.0, |_, _| FINE);
    assert_eq!(story.ejections(FAULT).len(), 1);
    assert_eq!(story.members[1].traffic.share(), 1.0);
}

#[test]
fn a_backend_without_traffic_keeps_nothing() {
    let mut story = Story::of(2);
    story.run(ms(5_000), 10.0, |_, _| FINE);
    assert!(!story.members[0].traffic.is_quiet());
    assert!(story.members[0].traffic.head_quantile(0.99).unwrap() < ms(3));
    story.run(ms(12_000), 0.0, |_, _| FINE);
    assert!(story.members[0].traffic.is_quiet());
    assert_eq!(story.members[0].traffic.head_quantile(0.99), None);
}

#[test]
fn an_illness_does_not_raise_its_own_measure() {
    let story = one_sick(100.0, 1, |_| Answer::After(ms(5_000)));
    let traffic = &story.members[1].traffic;
    assert!(traffic.head_quantile(0.99).unwrap() > ms(200));
    assert!(traffic.usual_p99().unwrap() < ms(3));
    assert_eq!(Traffic::new(&Totals::default()).usual_p99(), None);
}

#[test]
fn a_new_window_begins_empty() {
    let mut traffic = Traffic::new(&Totals::default());
    let totals = Totals { requests: 5, ..Totals::default() };
    traffic.observe(ms(1_000), ms(10_000), &totals);
    assert!(!traffic.is_quiet());
    traffic.observe(ms(1_000), ms(5_000), &totals);
    assert!(traffic.is_quiet());
}

/// A moment at which all of them take part and have these totals.
fn at_once<T>(totals: &[Totals], judge: impl FnOnce(Duration, &mut [Peer<'_>]) -> T) -> T {
    let (now, window) = (ms(1_000_000), Settings::default().window);
    let seen = |totals: &Totals| {
        let mut traffic = Traffic::new(&Totals::default()).taking_part(true);
        traffic.observe(now, window, totals);
        traffic
    };
    let mut seen: Vec<Traffic> = totals.iter().map(seen).collect();
    let peers = seen.iter_mut().map(|traffic| Peer { traffic, in_service: true });
    judge(now, &mut peers.collect::<Vec<_>>())
}

#[test]
fn siblings_are_well_while_less_fails_than_would_be_held_against_one() {
    for (failures, requests, well) in
        [(0, 100, true), (5, 100, true), (19, 100, true), (20, 100, false), (3, 3, true)]
    {
        let rest = Totals { failures, requests, ..Totals::default() };
        let told = at_once(&[Totals::default(), rest], |now, peers| {
            judge(now, &Settings::default(), peers);
            peers[0].traffic.siblings_well()
        });
        assert_eq!(told, well, "{failures} of {requests}");
    }
}

#[test]
fn five_broken_off_say_nothing_beside_siblings_of_whom_little_is_known() {
    for (rest, found) in [(2, false), (100, true)] {
        let own =
            Totals { requests: 5, failures: 5, bodies: 5, broken_off: 5, ..Totals::default() };
        let rest = Totals { requests: rest, bodies: rest, ..Totals::default() };
        let finding = at_once(&[own, rest], |now, peers| {
            judge_alarm(now, &Settings::default(), peers, 0, Alarm::BrokeOff)
        });
        assert_eq!(finding.is_some(), found, "{finding:?}");
    }
}

#[test]
fn late_is_what_would_be_slow_for_the_strictest_comparison() {
    let of_median = |median| {
        let mut totals = Totals { requests: 50, bodies: 50, ..Totals::default() };
        totals.heads[bucket(ms(median))] = 50;
        totals
    };
    // Beside those of 100 ms, 0.5 s would be slow; beside the one of 400 ms, 2 s.
    let late_after = at_once(&[100, 100, 400].map(of_median), |now, peers| {
        judge(now, &Settings::default(), peers);
        peers[0].traffic.late_after().unwrap()
    });
    assert!(late_after < ms(1_000), "{late_after:?}");
}

#[test]
fn how_many_may_be_ejected() {
    for (total, out, share, may) in [
        (0, 0, 1.0, false),
        (1, 0, 1.0, false),
        (2, 0, 1.0, true),
        (2, 1, 1.0, false),
        (2, 0, 0.5, true),
        (2, 0, 0.4, false),
        (3, 0, 0.5, true),
        (3, 1, 0.5, false),
        (3, 1, 1.0, true),
        (3, 2, 1.0, false),
        (5, 0, 0.2, true),
        (5, 1, 0.2, false),
        (10, 2, 0.3, true),
        (10, 3, 0.3, false),
        (10, 0, 0.0, false),
        (4, 9, 1.0, false),
    ] {
        assert_eq!(may_eject(total, out, share), may, "{out} of {total} at {share}");
    }
}

#[test]
fn signs_in_words() {
    let rate = EjectionReason::FailureRate {
        failed: 180,
        requests: 200,
        rest_failed: 1,
        rest_requests: 400,
    };
    let slow = EjectionReason::Slow { median: ms(2_000), siblings: ms(3), limit: ms(250) };
    let waiting = EjectionReason::Slow { median: ms(260), siblings: ms(3), limit: ms(250) };
    let late =
        EjectionReason::LateInARow { late: 2, limit: ms(250), rest_late: 0, rest_heads: 1_343 };
    for (reason, words) in [
        (
            late,
            "its latest 2 requests waited longer than 250 ms for the response head, 0 of 1343 on \
             the other backends",
        ),
        (rate, "180 of its latest 200 requests failed, 1 of 400 on the other backends"),
        (
            slow,
            "its median to the response head is 2 s, that of the other backends 3 ms (the limit \
             is 250 ms)",
        ),
        (
            waiting,
            "its median to the response head is at least 260 ms, that of the other backends 3 ms \
             (the limit is 250 ms)",
        ),
        (EjectionReason::BrokenOffInARow(5), "5 responses in a row broke off"),
        (
            EjectionReason::BrokenOff { broken_off: 5, bodies: 60 },
            "5 of its latest 60 responses broke off",
        ),
    ] {
        assert_eq!(reason.to_string(), words);
    }
}
