//! What fails or breaks off, and what only looks like it.

use std::time::Duration;

use super::story::{Answer, FAULT, FINE, Story, one_sick};
use super::{at_once, ms};
use crate::health::outliers::{Alarm, Settings, Totals, all_fail, judge, judge_alarm};

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
fn who_comes_back_is_judged_anew() {
    let mut story = one_sick(200.0, 3, |_| Answer::Error);
    story.members[1].in_service = true;
    story.run(ms(20_000), 200.0, |_, _| FINE);
    assert_eq!(story.ejections(FAULT).len(), 1);
    assert_eq!(story.members[1].traffic.share(), 1.0);
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
