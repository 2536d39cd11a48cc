use super::*;

const SETTINGS: BreakerSettings =
    BreakerSettings { failures: 3, open_for: secs(60), trials: 2, successes: 2 };

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn breaker() -> Breaker {
    Breaker::new(SETTINGS, secs(0))
}

/// Requests without trial: `s` a success, `f` a failure.
fn run(breaker: &mut Breaker, at: u64, outcomes: &str) -> Option<BreakerTransition> {
    outcomes.chars().fold(None, |last, c| breaker.on_outcome(secs(at), None, c == 's').or(last))
}

/// One that opened at 0.
fn open() -> Breaker {
    let mut breaker = breaker();
    run(&mut breaker, 0, "fff").unwrap();
    breaker
}

fn trial(breaker: &mut Breaker, at: u64) -> Trial {
    match breaker.admit(secs(at)).0 {
        Admission::Trial(trial) => trial,
        other => panic!("{other:?}"),
    }
}

#[test]
fn failures_in_a_row_open_it() {
    let mut breaker = breaker();
    assert_eq!(run(&mut breaker, 1, "ffsffs"), None);
    assert_eq!(breaker.admit(secs(1)), (Admission::Pass, None));
    let opened = run(&mut breaker, 2, "fff").unwrap();
    assert_eq!(
        (opened.from, opened.to),
        (BreakerState::Closed, BreakerState::Open { until: secs(62) })
    );
    assert_eq!(opened.reason.to_string(), "3 requests in a row failed; open for 60 s");
    assert_eq!(breaker.admit(secs(12)).0, Admission::Refused { retry_after: secs(50) });
    assert_eq!(breaker.since(), secs(2));
}

#[test]
fn what_was_under_way_when_it_opened_says_nothing() {
    let mut breaker = open();
    assert_eq!(run(&mut breaker, 1, "sssfff"), None);
    assert_eq!(breaker.state(), BreakerState::Open { until: secs(60) });
    trial(&mut breaker, 60);
    assert_eq!(run(&mut breaker, 61, "sssfff"), None);
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
}

#[test]
fn good_trials_close_it() {
    let mut breaker = open();
    let (admission, transition) = breaker.admit(secs(60));
    let Admission::Trial(first) = admission else { panic!("{admission:?}") };
    assert_eq!(transition.map(|t| t.reason), Some(BreakerReason::Waited));
    let second = trial(&mut breaker, 60);
    assert!(matches!(breaker.admit(secs(60)).0, Admission::Refused { .. }), "two at a time");
    assert_eq!(breaker.on_outcome(secs(61), Some(first), true), None);
    let closed = breaker.on_outcome(secs(61), Some(second), true).unwrap();
    assert_eq!(
        (closed.to, closed.reason),
        (BreakerState::Closed, BreakerReason::Passed { successes: 2 })
    );
    assert!(breaker.is_quiet());
}

#[test]
fn one_bad_trial_opens_it_again() {
    let mut breaker = open();
    let (good, bad) = (trial(&mut breaker, 60), trial(&mut breaker, 60));
    breaker.on_outcome(secs(61), Some(good), true);
    let opened = breaker.on_outcome(secs(62), Some(bad), false).unwrap();
    assert_eq!(opened.to, BreakerState::Open { until: secs(122) });
    assert_eq!(opened.reason.label(), "trial_failed");
    // Good trials of before do not count towards the next time.
    let good = trial(&mut breaker, 122);
    assert_eq!(breaker.on_outcome(secs(123), Some(good), true), None);
}

#[test]
fn a_trial_of_an_earlier_time_counts_no_more() {
    let mut breaker = open();
    let (old, bad) = (trial(&mut breaker, 60), trial(&mut breaker, 60));
    breaker.on_outcome(secs(61), Some(bad), false);
    let (_first, _second) = (trial(&mut breaker, 121), trial(&mut breaker, 121));
    assert_eq!(breaker.on_outcome(secs(122), Some(old), false), None);
    breaker.on_abandoned(old);
    assert!(matches!(breaker.admit(secs(122)).0, Admission::Refused { .. }));
}

#[test]
fn an_abandoned_trial_makes_room() {
    let mut breaker = open();
    let (first, _) = (trial(&mut breaker, 60), trial(&mut breaker, 60));
    breaker.on_abandoned(first);
    trial(&mut breaker, 60);
}

#[test]
fn trials_that_never_end_do_not_keep_it_half_open() {
    let mut breaker = open();
    let (lost, _) = (trial(&mut breaker, 60), trial(&mut breaker, 70));
    assert_eq!(breaker.admit(secs(129)).0, Admission::Refused { retry_after: secs(1) });
    // They are forgotten: there is room for two again.
    let (next, _) = (trial(&mut breaker, 130), trial(&mut breaker, 130));
    assert_eq!(breaker.on_outcome(secs(131), Some(lost), false), None);
    assert_eq!(breaker.on_outcome(secs(131), Some(next), true), None);
}

#[test]
fn who_comes_while_trials_run_may_ask_again_in_a_moment() {
    let mut breaker = open();
    let _trials = (trial(&mut breaker, 60), trial(&mut breaker, 60));
    assert_eq!(breaker.admit(secs(61)).0, Admission::Refused { retry_after: secs(1) });
}

#[test]
fn it_is_half_open_to_people_and_half_open_with_a_line_to_machines() {
    let state = BreakerState::HalfOpen;
    assert_eq!((state.word(), state.label()), ("half-open", "half_open"));
}

#[test]
fn a_recovery_ends_the_wait() {
    let mut breaker = open();
    let transition = breaker.on_recovery(secs(5)).unwrap();
    assert_eq!((transition.to, transition.reason.label()), (BreakerState::HalfOpen, "recovered"));
    trial(&mut breaker, 5);
    assert_eq!(breaker.on_recovery(secs(6)), None);
    assert_eq!(self::breaker().on_recovery(secs(6)), None);
}

#[test]
fn it_can_be_tripped() {
    let mut breaker = breaker();
    let transition = breaker.trip(secs(5), secs(10)).unwrap();
    assert_eq!(transition.to, BreakerState::Open { until: secs(15) });
    assert_eq!(transition.reason.to_string(), "open for 10 s");
    assert_eq!(breaker.admit(secs(14)).0, Admission::Refused { retry_after: secs(1) });
    trial(&mut breaker, 15);
}

#[test]
fn quiet_is_closed_without_a_run() {
    let mut breaker = breaker();
    assert!(breaker.is_quiet());
    run(&mut breaker, 0, "f");
    assert!(!breaker.is_quiet());
    run(&mut breaker, 0, "s");
    assert!(breaker.is_quiet());
    assert!(!open().is_quiet());
}

#[test]
fn thresholds_of_none_count_as_one() {
    let none = BreakerSettings { failures: 0, open_for: secs(1), trials: 0, successes: 0 };
    let mut breaker = Breaker::new(none, secs(0));
    run(&mut breaker, 0, "f").unwrap();
    let trial = trial(&mut breaker, 1);
    assert!(matches!(breaker.admit(secs(1)).0, Admission::Refused { .. }));
    assert!(breaker.on_outcome(secs(1), Some(trial), true).is_some());
}
