//! The machine of a backend's health, driven by tables of outcomes.

mod ejections;
mod probes;
mod rules;
mod wishes;

use std::time::Duration;

use super::{ByHand, Hand, Health, Settings, State, Transition};
use crate::health::expect::ProbeFailure;
use crate::health::flaps::FlapSettings;
use crate::health::reason::EjectionReason;

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

fn by_hand(hand: Hand) -> Option<ByHand> {
    Some(ByHand { hand, since: std::time::SystemTime::UNIX_EPOCH })
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
