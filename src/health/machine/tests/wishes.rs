//! What operators and the backends themselves decide.

use std::time::Duration;

use super::{SETTINGS, by_hand, fail, secs};
use crate::health::machine::{Hand, Health, State};

#[test]
fn a_decision_by_hand_stands_above_what_probes_and_traffic_say() {
    let mut health = Health::restored(SETTINGS, true, secs(0));
    let drained = health.on_hand(secs(1), by_hand(Hand::Drained)).unwrap();
    assert_eq!((drained.from, drained.to), (State::Healthy, State::Draining));
    assert!((2..9).all(|at| health.on_probe(secs(at), fail()).is_none()));
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
    health.on_probe(secs(2), fail());
    assert_eq!(health.state(), State::Leaving);
    for at in 3..9 {
        health.on_probe(secs(at), fail());
    }
    assert_eq!(health.state(), State::Unhealthy);
    for at in 10..20 {
        health.on_probe(secs(at), Ok(()));
    }
    assert_eq!(health.state(), State::Healthy, "the wish went with who had it");
    health.on_wish(secs(21), true);
    assert_eq!(health.on_wish(secs(22), false).map(|t| t.to), Some(State::Healthy));
}
