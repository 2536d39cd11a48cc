//! What a finding leads to: not every one to an ejection.

use std::time::Duration;

use super::ms;
use super::story::{Answer, FINE, Story};
use crate::health::outliers::{
    Action, Alarm, Finding, Mode, Settings, Withheld, judge_alarm, may_eject,
};

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
