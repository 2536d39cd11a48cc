//! Verdicts of probes, and when the next one is due.

use std::time::Duration;

use super::{SETTINGS, by_hand, eject, fail, health, healthy, run, secs};
use crate::health::machine::{Hand, Health, Settings, State};
use crate::health::reason::Reason;

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

#[test]
fn a_verdict_from_before_the_restart_does_not_replace_a_fresh_one() {
    let mut health = Health::new(SETTINGS, secs(0));
    assert_eq!(health.restore(secs(0), false).map(|t| t.to), Some(State::Unhealthy));
    assert_eq!(health.restore(secs(1), true), None);
}
