//! Rules that hold whatever happens.

use std::time::Duration;

use super::{SETTINGS, fail, secs};
use crate::health::flaps::FlapSettings;
use crate::health::machine::{Health, Settings, State, Transition};
use crate::health::reason::EjectionReason;

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
                    // Only who comes back from failing probes is ejected no more.
                    let back = before == State::Unhealthy && health.state() == State::Healthy;
                    let kept = if back { None } else { ends_at };
                    assert_eq!(health.ends_at(), kept, "a probe touched an ejection");
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
            if before == State::Unhealthy {
                assert!(!matches!(after, State::Ejected { .. }));
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
