//! Swaps that were interrupted by a restart.

use std::time::Duration;

use super::world::{DAWN, SECOND, World, bad, plan, secs};
use crate::deploy::{Command, Held, Milestone, Outcome, Phase, Plan, Swap};

/// The same swap in a new process, which started a minute later.
fn restarted(world: &World, plan: Plan) -> World {
    let kept = world.swap.resume_form(world.now);
    let now = Duration::from_millis(100);
    World::around(Swap::resume(kept, plan, now, DAWN + secs(120)), now)
}

fn serving(world: &World) -> String {
    world.swap.resume_form(world.now).serving().to_owned()
}

#[test]
fn at_the_gate_it_begins_again() {
    let mut world = World::new(plan());
    world.looks(3);
    assert_eq!(serving(&world), "blue");
    let mut again = restarted(&world, plan());
    assert_eq!((again.swap.phase(), again.shares()), (Phase::Gate, vec![]));
    again.until(Milestone::Kept);
    let report = again.swap.report();
    assert_eq!(report.asked_at, DAWN);
    assert_eq!(report.notes[0].text, "the proxy was restarted in the phase gate");
}

#[test]
fn in_the_ramp_its_share_goes_on() {
    let plan = Plan { ramp: vec![0.05, 0.25], ..plan() };
    let mut world = World::new(plan.clone());
    world.until(Milestone::Switched);
    world.looks(14 * SECOND);
    assert_eq!((world.swap.phase(), &*serving(&world)), (Phase::Ramp(1), "green"));
    let mut again = restarted(&world, plan);
    assert_eq!(again.swap.phase(), Phase::Ramp(1));
    assert_eq!(again.until(Milestone::Kept), secs(6 + 60));
    assert_eq!(again.shares(), [0.25, 1.0, 1.0]);
}

#[test]
fn in_the_watch_the_time_that_was_left_is_watched() {
    let mut world = World::new(plan());
    world.until(Milestone::Switched);
    world.looks(20 * SECOND);
    let mut kept = restarted(&world, plan());
    assert_eq!((kept.swap.phase(), kept.shares()), (Phase::Watch, vec![1.0]));
    assert_eq!(kept.until(Milestone::Kept), secs(40));
    let mut failing = restarted(&world, plan());
    assert_eq!(failing.swap.report().old.unwrap().requests, 1000, "the old version is remembered");
    failing.new = bad(40);
    failing.until(Milestone::RolledBack);
    assert_eq!(failing.shares(), [1.0, 0.0]);
}

#[test]
fn what_was_decided_stays_decided() {
    let mut world = World::new(plan());
    world.until(Milestone::Switched);
    world.new = bad(40);
    world.new_held = Held { requests: 1, tunnels: 0 };
    world.until(Milestone::RolledBack);
    assert_eq!((world.swap.phase(), &*serving(&world)), (Phase::Drain, "blue"));
    let again = restarted(&world, plan());
    let (before, report) = (world.swap.report(), again.swap.report());
    assert_eq!((&report.gate, &report.tests), (&before.gate, &before.tests));
    assert_eq!((report.gate.len(), report.new, report.old), (9, before.new, before.old));
    assert_eq!(report.drained.unwrap().left, Held::default(), "nothing outlives the process");
    assert_eq!(again.swap.outcome(), Some(Outcome::RolledBack));
    assert_eq!(again.commands.last(), Some(&Command::Finished(Outcome::RolledBack)));
    assert!(again.shares().is_empty());
    let after = restarted(&again, plan());
    assert!(after.swap.is_over() && after.commands.is_empty());
    assert_eq!(serving(&after), "blue");
}
