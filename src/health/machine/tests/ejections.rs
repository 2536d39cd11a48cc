//! Ejections: how long, and how repeats are made up for.

use super::{SETTINGS, by_hand, eject, health, healthy, run, secs};
use crate::health::machine::{Hand, Health, Settings, State};

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
    // The first pass of all says nothing of what traffic showed.
    let mut health = self::health();
    eject(&mut health, 1);
    assert_eq!(run(&mut health, "p"), "e");
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

#[test]
fn who_comes_back_from_failing_probes_is_ejected_no_more() {
    let mut health = healthy();
    eject(&mut health, 1);
    assert_eq!(run(&mut health, "ffpfffp"), "eeeeeuu");
    assert_eq!(run(&mut health, "p"), "h");
    assert_eq!(health.ends_at(), None);
    // It was one all the same: the next one is twice as long.
    eject(&mut health, 20);
    assert_eq!(health.ends_at(), Some(secs(40)));
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
fn a_forgotten_ejection_is_over_and_the_next_one_is_the_first() {
    let mut health = healthy();
    eject(&mut health, 0);
    health.on_time(secs(10));
    eject(&mut health, 10);
    let forgotten = health.forget_ejections(secs(12)).unwrap();
    assert_eq!((forgotten.to, health.repeats()), (State::Healthy, 0));
    eject(&mut health, 13);
    assert_eq!(health.ends_at(), Some(secs(23)));
    // What its probes and an operator say stands.
    run(&mut health, "fff");
    health.on_hand(secs(17), by_hand(Hand::Drained));
    assert_eq!(health.forget_ejections(secs(18)), None);
    health.on_hand(secs(19), None);
    assert_eq!(health.state(), State::Unhealthy);
    assert_eq!(run(&mut health, "pp"), "uh");
}

#[test]
fn an_ejection_that_ended_long_before_anybody_looked_counts_from_its_end() {
    let mut health = healthy();
    eject(&mut health, 0);
    health.on_time(secs(65));
    eject(&mut health, 70);
    assert_eq!(health.repeats(), 1);
}
