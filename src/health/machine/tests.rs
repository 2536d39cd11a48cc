use super::*;

const SETTINGS: Settings = Settings {
    rise: 2,
    fall: 3,
    base_ejection: secs(10),
    max_ejection: secs(45),
    flaps: FlapSettings { downs: 3, window: secs(60), hold: secs(10), max_hold: secs(60) },
};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn fail() -> Result<(), ProbeFailure> {
    Err(ProbeFailure::Refused)
}

fn health() -> Health {
    Health::new(SETTINGS, secs(0))
}

fn healthy() -> Health {
    Health::restored(SETTINGS, true, secs(0))
}

fn eject(health: &mut Health, at: u64) -> Option<Transition> {
    health.on_ejection(secs(at), EjectionReason::ConsecutiveFailures(5))
}

/// Probes once a second, `p` for a pass and `f` for a failure; gives the state after each as one
/// letter.
fn run(health: &mut Health, outcomes: &str) -> String {
    let mut now = health.since();
    outcomes
        .chars()
        .map(|c| {
            now += secs(1);
            let before = health.state();
            let transition = health.on_probe(now, if c == 'p' { Ok(()) } else { fail() });
            assert_eq!(transition.is_some(), before != health.state());
            if let Some(Transition { from, to, .. }) = transition {
                assert_eq!((from, to, health.since()), (before, health.state(), now));
            }
            match health.state() {
                State::Checking => 'c',
                State::Healthy => 'h',
                State::Unhealthy => 'u',
                State::Ejected { .. } => 'e',
                State::Leaving | State::Draining | State::Disabled => '-',
            }
        })
        .collect()
}

#[test]
fn verdicts() {
    for (outcomes, states) in [
        // The first pass is a verdict, the first bad verdict takes `fall` failures.
        ("p", "h"),
        ("fp", "ch"),
        ("ffp", "cch"),
        ("fff", "ccu"),
        // In a row means in a row.
        ("pffpfff", "hhhhhhu"),
        ("ffffpfpp", "ccuuuuuh"),
        ("pfffppfffpp", "hhhuuhhhuuh"),
    ] {
        assert_eq!(run(&mut health(), outcomes), states, "{outcomes}");
    }
}

#[test]
fn one_that_flaps_is_held_down() {
    let settings = Settings { rise: 1, fall: 1, ..SETTINGS };
    let mut health = Health::restored(settings, true, secs(0));
    assert_eq!(run(&mut health, "fpfp"), "uhuh");
    let down = health.on_probe(secs(5), fail()).unwrap();
    assert_eq!(down.reason.label(), "flapping");
    assert_eq!(
        down.reason.to_string(),
        "failed its check: connection refused; up and down too often, held down for 10 s"
    );
    assert_eq!(health.held_until(secs(14)), Some(secs(15)));
    assert_eq!(health.on_probe(secs(6), Ok(())), None);
    assert_eq!(health.next_probe_delay(secs(2), 0.5), secs(2), "no haste: it has to wait anyway");
    assert_eq!(health.on_probe(secs(14), Ok(())), None);
    let up = health.on_probe(secs(15), Ok(())).unwrap();
    assert_eq!((up.to, up.reason), (State::Healthy, Reason::Passed { passes: 3 }));
    assert_eq!(health.held_until(secs(15)), None);
}

#[test]
fn one_that_was_never_up_does_not_flap() {
    let settings = Settings { fall: 1, ..SETTINGS };
    let mut health = Health::new(settings, secs(0));
    for at in 0..5 {
        health.reverify(settings);
        health.on_probe(secs(at), fail());
        assert_eq!(health.held_until(secs(at)), None);
    }
}

#[test]
fn thresholds_of_one_and_none() {
    for threshold in [0, 1] {
        let settings = Settings { rise: threshold, fall: threshold, ..SETTINGS };
        assert_eq!(run(&mut Health::new(settings, secs(0)), "fpf"), "uhu");
    }
}

#[test]
fn reasons_in_words() {
    let mut health = Health::restored(SETTINGS, true, secs(0));
    let words = |t: Option<Transition>| t.unwrap().reason.to_string();
    run(&mut health, "ff");
    assert_eq!(
        words(health.on_probe(secs(3), fail())),
        "failed 3 checks in a row, the last: connection refused"
    );
    run(&mut health, "p");
    assert_eq!(words(health.on_probe(secs(5), Ok(()))), "passed 2 checks in a row");
    assert_eq!(words(eject(&mut health, 6)), "ejected for 10 s: 5 requests in a row failed");
    assert_eq!(words(health.on_time(secs(16))), "the time of its ejection is over");
    assert_eq!(words(self::health().on_probe(secs(1), Ok(()))), "passed its check");
    let mut hasty = Health::new(Settings { fall: 1, ..SETTINGS }, secs(0));
    assert_eq!(words(hasty.on_probe(secs(1), fail())), "failed its check: connection refused");
}

#[test]
fn the_verdict_is_that_of_the_probes_whatever_else_is_known() {
    assert_eq!(health().verdict(), None);
    let mut health = healthy();
    eject(&mut health, 1);
    health.on_hand(secs(2), by_hand(Hand::Drained));
    assert_eq!(health.verdict(), Some(true));
    run(&mut health, "fff");
    assert_eq!(health.verdict(), Some(false));
}

#[test]
fn an_ejection_takes_its_time() {
    let mut health = healthy();
    let ejection = eject(&mut health, 5).unwrap();
    assert_eq!((ejection.from, ejection.to), (State::Healthy, State::Ejected { until: secs(15) }));
    assert_eq!(health.ends_at(), Some(secs(15)));
    // A passing probe does not cut it short, and late answers do not make it longer.
    assert_eq!(run(&mut health, "pppp"), "eeee");
    assert_eq!(eject(&mut health, 12), None);
    assert_eq!(health.on_time(secs(14)), None);
    let back = health.on_time(secs(15)).unwrap();
    assert_eq!((back.from, back.to), (State::Ejected { until: secs(15) }, State::Healthy));
    assert_eq!((health.ends_at(), health.on_time(secs(16))), (None, None));
}

#[test]
fn failing_probes_and_ejections_do_not_undo_each_other() {
    // Probes fail during an ejection: its end does not bring the backend back.
    let mut health = healthy();
    eject(&mut health, 1);
    assert_eq!(run(&mut health, "fff"), "eeu");
    assert_eq!(health.on_time(secs(11)), None);
    assert_eq!(health.state(), State::Unhealthy);
    assert_eq!(run(&mut health, "pp"), "uh");
    // Probes recover during an ejection: it goes on.
    let mut health = healthy();
    eject(&mut health, 1);
    assert_eq!(run(&mut health, "fffpp"), "eeuue");
    assert_eq!(health.on_time(secs(11)).map(|t| t.to), Some(State::Healthy));
    // An unhealthy backend is out already.
    let mut health = Health::restored(SETTINGS, false, secs(0));
    assert_eq!(eject(&mut health, 1), None);
    assert_eq!(health.repeats(), 0);
    // One without a verdict may be serving, and comes back as what it was.
    let mut health = self::health();
    eject(&mut health, 1);
    assert_eq!(health.on_time(secs(11)).map(|t| t.to), Some(State::Checking));
}

/// Ejects at each time (after its last ejection ended) and gives the lengths.
fn lengths(times: &[u64]) -> Vec<u64> {
    let mut health = healthy();
    let length = |&at: &u64| {
        health.on_time(secs(at));
        eject(&mut health, at).unwrap();
        (health.ends_at().unwrap() - secs(at)).as_secs()
    };
    times.iter().map(length).collect()
}

#[test]
fn repeats_grow_to_a_limit_and_are_made_up_for_by_good_service() {
    for (times, want) in [
        (&[0, 10, 30, 60, 100, 145, 190][..], &[10, 20, 30, 40, 45, 45, 45][..]),
        // Out until 10; 60 s of service make up for one ejection, 59 do not.
        (&[0, 69], &[10, 20]),
        (&[0, 70], &[10, 10]),
        // Two repeats are out until 30: 60 s make up for one, 120 s for both.
        (&[0, 10, 89], &[10, 20, 30]),
        (&[0, 10, 90], &[10, 20, 20]),
        (&[0, 10, 150], &[10, 20, 10]),
        (&[0, 10, 1_000_000], &[10, 20, 10]),
        // Repeats beyond the limit are not held against it: back at 190 after 45 s, five of them,
        // three of which are made up for.
        (&[0, 10, 30, 60, 100, 145, 370], &[10, 20, 30, 40, 45, 45, 30]),
    ] {
        assert_eq!(lengths(times), want, "{times:?}");
    }
}

#[test]
fn an_ejection_longer_than_a_minute_takes_as_long_to_make_up_for() {
    let settings = Settings { base_ejection: secs(100), max_ejection: secs(1_000), ..SETTINGS };
    for (service, repeats) in [(199, 3), (200, 2), (299, 2), (300, 1)] {
        let mut health = Health::restored(settings, true, secs(0));
        eject(&mut health, 0);
        health.on_time(secs(100));
        eject(&mut health, 100);
        health.on_time(secs(300));
        eject(&mut health, 300 + service);
        assert_eq!(health.repeats(), repeats, "after {service} s");
    }
}

#[test]
fn an_ejection_that_ended_long_before_anybody_looked_counts_from_its_end() {
    let mut health = healthy();
    eject(&mut health, 0);
    health.on_time(secs(65));
    eject(&mut health, 70);
    assert_eq!(health.repeats(), 1);
}

#[test]
fn a_new_check_is_verified_again_without_a_change_of_state() {
    let settings = Settings { rise: 1, ..SETTINGS };
    let mut up = healthy();
    run(&mut up, "ff");
    up.reverify(settings);
    assert_eq!(up.next_probe_delay(secs(2), 0.5), Duration::ZERO);
    assert_eq!(run(&mut up, "fff"), "hhu");
    let mut down = Health::restored(SETTINGS, false, secs(0));
    run(&mut down, "p");
    down.reverify(SETTINGS);
    assert_eq!(run(&mut down, "pp"), "uh");
    let mut ejected = healthy();
    eject(&mut ejected, 1);
    ejected.reverify(settings);
    assert_eq!(ejected.state(), State::Ejected { until: secs(11) });
}

#[test]
fn probes_come_faster_while_a_verdict_is_in_the_making() {
    let quarter = Duration::from_millis(500);
    for (start, outcomes, want) in [
        (health(), "", Duration::ZERO),
        (healthy(), "", Duration::ZERO),
        (health(), "f", quarter),
        (health(), "p", secs(2)),
        (healthy(), "p", secs(2)),
        (healthy(), "f", quarter),
        (healthy(), "fp", secs(2)),
        (healthy(), "fff", secs(2)),
        (healthy(), "fffp", quarter),
        (healthy(), "fffpf", secs(2)),
        (healthy(), "fffpp", secs(2)),
    ] {
        let mut health = start;
        run(&mut health, outcomes);
        assert_eq!(health.next_probe_delay(secs(2), 0.5), want, "{outcomes}");
    }
}

#[test]
fn the_beat_has_jitter_and_a_floor() {
    let mut steady = healthy();
    run(&mut steady, "p");
    for (random, millis) in [(0.0, 1600), (0.25, 1800), (0.5, 2000), (1.0, 2400), (7.0, 2400)] {
        assert_eq!(steady.next_probe_delay(secs(2), random).as_millis(), millis);
    }
    let mut unsure = healthy();
    run(&mut unsure, "f");
    for (interval, fast) in [(2000, 500), (400, 100), (200, 100), (100, 100), (40, 40)] {
        let delay = unsure.next_probe_delay(Duration::from_millis(interval), 0.5);
        assert_eq!(delay.as_millis(), fast, "{interval} ms");
    }
}

/// Thousands of steps of anything that can happen, held against rules that need no copy of the
/// machine to be checked.
#[test]
fn rules_that_hold_whatever_happens() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let settings = random_settings(&mut rng);
        let mut health = Health::new(settings, secs(0));
        let mut now = Duration::ZERO;
        // Outcomes in a row: passes above zero, failures below.
        let mut row: i64 = 0;
        let mut up_until_now = 0.5;
        let mut last_probe = now;
        for _ in 0..5_000 {
            now += Duration::from_millis(rng.u64(..3_000));
            if rng.u32(..200) == 0 {
                up_until_now = rng.f64();
            }
            let before = health.state();
            let transition = match rng.u32(..10) {
                0 => eject_checked(&mut health, now, settings),
                1..4 => {
                    let due = health.ends_at().is_some_and(|end| end <= now);
                    let transition = health.on_time(now);
                    assert!(due || transition.is_none());
                    assert!(health.ends_at().is_none_or(|end| end > now));
                    transition
                }
                _ => {
                    last_probe = now;
                    let passed = rng.f64() < up_until_now;
                    row = if passed { row.max(0) + 1 } else { row.min(0) - 1 };
                    let ends_at = health.ends_at();
                    let transition = health.on_probe(now, if passed { Ok(()) } else { fail() });
                    assert_eq!(health.ends_at(), ends_at, "a probe touched an ejection");
                    transition
                }
            };
            let after = health.state();
            match &transition {
                Some(t) => {
                    assert_eq!((t.from, t.to, health.since()), (before, after, now));
                    assert_ne!(before, after);
                }
                None => assert_eq!(before, after, "a change that nobody was told of"),
            }
            if row <= -i64::from(settings.fall) {
                assert_eq!(after, State::Unhealthy);
            }
            let held = health.held_until(last_probe).is_some();
            if row >= i64::from(settings.rise) && !held {
                assert!(matches!(after, State::Healthy | State::Ejected { .. }));
            }
            if after == State::Unhealthy && !held {
                assert!(row < i64::from(settings.rise));
            }
            let delay = health.next_probe_delay(secs(2), rng.f64());
            assert!(delay.is_zero() == (row == 0) && delay <= Duration::from_millis(2_400));
        }
    }
}

fn random_settings(rng: &mut fastrand::Rng) -> Settings {
    Settings {
        rise: rng.u32(1..5),
        fall: rng.u32(1..5),
        base_ejection: secs(rng.u64(1..20)),
        max_ejection: secs(rng.u64(20..200)),
        flaps: FlapSettings { downs: rng.u32(..5), ..SETTINGS.flaps },
    }
}

fn eject_checked(health: &mut Health, now: Duration, settings: Settings) -> Option<Transition> {
    let before = (health.state(), health.ends_at(), health.repeats());
    let transition = health.on_ejection(now, EjectionReason::ConsecutiveFailures(5));
    if transition.is_none() {
        assert!(matches!(before.0, State::Unhealthy | State::Ejected { .. }));
        assert_eq!((health.state(), health.ends_at(), health.repeats()), before);
        return None;
    }
    let length = health.ends_at().unwrap() - now;
    assert!(length >= settings.base_ejection && length <= settings.max_ejection);
    assert!(health.repeats() <= before.2 + 1);
    transition
}

fn by_hand(hand: Hand) -> Option<ByHand> {
    Some(ByHand { hand, since: std::time::SystemTime::UNIX_EPOCH })
}

#[test]
fn a_decision_by_hand_stands_above_what_probes_and_traffic_say() {
    let mut health = Health::restored(SETTINGS, true, secs(0));
    let drained = health.on_hand(secs(1), by_hand(Hand::Drained)).unwrap();
    assert_eq!((drained.from, drained.to), (State::Healthy, State::Draining));
    let failed = || Err(ProbeFailure::Refused);
    assert!((2..9).all(|at| health.on_probe(secs(at), failed()).is_none()));
    assert_eq!(health.state(), State::Draining);
    assert!(!health.is_well(), "what was found meanwhile is known");
    let back = health.on_hand(secs(9), None).unwrap();
    assert_eq!((back.from, back.to), (State::Draining, State::Unhealthy));
}

#[test]
fn the_same_decision_again_changes_nothing() {
    let mut health = Health::restored(SETTINGS, true, secs(0));
    health.on_hand(secs(1), by_hand(Hand::Drained));
    assert_eq!(health.on_hand(secs(2), by_hand(Hand::Drained)), None);
}

#[test]
fn of_one_that_was_disabled_nothing_is_known() {
    let mut health = Health::restored(SETTINGS, true, secs(0));
    health.on_hand(secs(1), by_hand(Hand::Disabled));
    let back = health.on_hand(secs(9), None).unwrap();
    assert_eq!((back.from, back.to), (State::Disabled, State::Checking));
    assert_eq!(health.next_probe_delay(secs(5), 0.5), Duration::ZERO);
}

#[test]
fn one_that_asks_to_be_drained_is_left_alone_until_it_asks_no_more_or_fails() {
    let mut health = Health::restored(SETTINGS, true, secs(0));
    assert_eq!(health.on_wish(secs(1), true).map(|t| t.to), Some(State::Leaving));
    // It is gone: the first failure does not bring it back.
    health.on_probe(secs(2), Err(ProbeFailure::Refused));
    assert_eq!(health.state(), State::Leaving);
    for at in 3..9 {
        health.on_probe(secs(at), Err(ProbeFailure::Refused));
    }
    assert_eq!(health.state(), State::Unhealthy);
    for at in 10..20 {
        health.on_probe(secs(at), Ok(()));
    }
    assert_eq!(health.state(), State::Healthy, "the wish went with who had it");
    health.on_wish(secs(21), true);
    assert_eq!(health.on_wish(secs(22), false).map(|t| t.to), Some(State::Healthy));
}

#[test]
fn a_verdict_from_before_the_restart_does_not_replace_a_fresh_one() {
    let mut health = Health::new(SETTINGS, secs(0));
    assert_eq!(health.restore(secs(0), false).map(|t| t.to), Some(State::Unhealthy));
    assert_eq!(health.restore(secs(1), true), None);
}
