//! A simulated pool: hours of traffic over backends that fall ill at random, through the very cores
//! that decide in earnest (health, outliers, suspicion, picks, slow start, retry budget), and rules
//! that must hold whatever happens. Everything follows from the seed, which every failure names.

mod plan;
mod world;

use std::time::Duration;

use plan::{Illness, Plan};
use world::{MAX_EJECTION, World};

const SEEDS: u64 = 3;
const HOUR: Duration = Duration::from_secs(3600);
/// Enough for what shows at once, with more requests a second.
const SHORT: Duration = Duration::from_secs(6 * 60);

const CALM: Plan = Plan { backends: 3, rate: 50.0, together: 0, only: None, slow_pages: 0.0 };

/// Prints the seed if the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed with seed {}", self.0);
        }
    }
}

fn run(seed: u64, length: Duration, plan: Plan) -> World {
    let _seed = Seed(seed);
    let mut world = World::new(seed, plan);
    world.run(length);
    world.assert_recovered();
    world
}

#[test]
fn rules_hold_whatever_falls_ill() {
    let mut told = Vec::new();
    for seed in 0..SEEDS {
        let backends = 3 + seed as usize % 3;
        let plan = Plan { together: 3, backends, rate: 10.0, ..CALM };
        told.push(run(seed, HOUR, plan).told);
    }
    // Something was there to be ruled.
    for told in &told {
        assert!(told.ejections > 20 && told.downs > 20 && told.retries > 200, "{told:?}");
        assert!(told.forgiven > 0, "{told:?}");
    }
    assert!(told.iter().any(|told| told.longest_ejection == MAX_EJECTION), "{told:?}");
}

#[test]
fn one_ill_backend_is_hardly_noticed() {
    for (seed, illness, failed) in [
        (10, Illness::Refuses, 0),
        (11, Illness::Errors, 0),
        (12, Illness::Unavailable, 0),
        (13, Illness::Hangs, 0),
        (14, Illness::Slow, 0),
        (15, Illness::BreaksOff, 10),
    ] {
        let world = run(seed, SHORT, Plan { together: 1, only: Some(illness), ..CALM });
        let told = &world.told;
        assert!(told.faults >= 3, "{told:?}");
        assert!(told.failed <= failed * told.faults, "{illness:?}: {told:?}");
        assert!(told.slow * 200 <= told.requests, "{illness:?}: {told:?}");
        assert!(told.slowest <= Duration::from_millis(2_500), "{illness:?}: {told:?}");
    }
}

#[test]
fn slow_pages_make_nobody_ill() {
    for (seed, rate, slow_pages) in [
        (20, 200.0, 0.000_5),
        (21, 200.0, 0.005),
        (22, 20.0, 0.01),
        (23, 20.0, 0.1),
        (24, 2.0, 0.1),
    ] {
        let told = run(seed, SHORT, Plan { rate, slow_pages, ..CALM }).told;
        assert!(told.spared <= 1 && told.ejections == 0, "{rate} {slow_pages}: {told:?}");
    }
}
