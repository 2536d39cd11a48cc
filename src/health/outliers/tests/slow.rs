//! Who is slow loses its share, then its place; and what is no slowness.

use std::time::Duration;

use super::story::{Answer, FAULT, FINE, Story, one_sick};
use super::{at_once, ms};
use crate::health::outliers::{Action, Settings, Totals, bucket, judge};
use crate::health::reason::EjectionReason;

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
