//! Swaps from the first check to the last connection.

mod drain;
mod gate;
mod reload;
mod watch;

use std::time::Duration;

use super::world::{DAWN, SECOND, World, bad, plan, secs};
use crate::deploy::{Check, Command, Event, Held, Milestone, Outcome, Phase, Plan, Side, Slow};

#[track_caller]
fn ended(world: &World, outcome: Outcome, reason: &str) {
    assert_eq!((world.swap.outcome(), &*world.swap.report().reason), (Some(outcome), reason));
}

#[track_caller]
fn in_watch(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.until(Milestone::Switched);
    world
}

#[test]
fn a_good_version_passes_the_gate_is_watched_and_the_old_one_let_go() {
    let mut world = World::new(plan());
    assert_eq!(world.swap.phase(), Phase::Gate);
    assert_eq!(world.count(&Command::ForgetTraffic), 1);
    world.until(Milestone::Switched);
    let of_first: Vec<Check> =
        world.checks.iter().filter(|(b, _)| **b == *"10.0.0.1:80").map(|(_, c)| *c).collect();
    let expected = [Check::Probe, Check::Probe, Check::Probe, Check::Smoke(0), Check::WarmUp];
    assert_eq!(of_first, expected);
    assert_eq!(world.swap.phase(), Phase::Watch);
    let slow = Slow { limit: Duration::from_millis(100), from: world.now + secs(3) };
    assert_eq!(world.count(&Command::CountSlow(Some(slow))), 1);

    world.old_held = Held { requests: 2, tunnels: 5 };
    assert_eq!(world.until(Milestone::Kept), secs(60));
    assert_eq!(world.swap.draining(), Some(Side::Old));
    world.looks(SECOND);
    assert!(!world.swap.is_finished(), "requests are in flight");
    world.old_held.requests = 0;
    world.look();
    ended(&world, Outcome::Kept, "nothing speaks against it: 14400 requests, 0 failed");
    assert_eq!(world.told(Milestone::Drained), Some("blue still holds 0 requests and 5 tunnels"));
    assert_eq!(world.commands.last(), Some(&Command::Finished(Outcome::Kept)));
    assert_eq!(world.shares(), [1.0, 1.0]);
    assert!(world.swap.is_over());
    assert_eq!(Outcome::Kept.exit_code(), 0);
}

#[test]
fn whoever_gives_up_gets_the_old_version_back_in_every_phase() {
    let cancel = || Event::Cancel("replaced by swap 8".to_owned());
    let mut gate = World::new(plan());
    gate.event(cancel());
    ended(&gate, Outcome::Cancelled, "replaced by swap 8");
    assert!(gate.swap.is_finished());
    assert!(gate.shares().is_empty());

    let mut watch = in_watch(plan());
    watch.event(cancel());
    ended(&watch, Outcome::Cancelled, "replaced by swap 8");
    assert_eq!((watch.shares(), watch.swap.draining()), (vec![1.0, 0.0], Some(Side::New)));

    let mut drain = in_watch(plan());
    drain.old_held = Held { requests: 1, tunnels: 0 };
    drain.until(Milestone::Kept);
    drain.event(cancel());
    assert!(drain.swap.is_finished());
    assert_eq!(drain.swap.outcome(), Some(Outcome::Kept), "that was decided");
    assert_eq!(Outcome::Cancelled.exit_code(), 6);
}

#[test]
fn a_second_request_is_told_of_the_first() {
    let mut world = in_watch(plan());
    world.looks(20 * SECOND);
    let words = "swap 7 from blue to green, asked by a test, is in its watch, 40 s to go, 4800 requests, 0 failed";
    assert_eq!(world.swap.describe(world.now), words);
}

#[test]
fn the_report_tells_it_all() {
    let mut world = in_watch(plan());
    world.looks(40);
    world.new = bad(40);
    world.until(Milestone::Drained);
    let date = |at: Duration| format!("+{}", (at - DAWN).as_secs());
    let text = world.swap.report().text(date);
    let expected = "\
report 7: shop from blue to green: rolled back
  600 of 600 requests failed within 1.3 s (100%, 1% accepted)
  asked by a test at +0
  phases: gate 1.3 s, watch 11.3 s, drain 250 ms
  backend      check            tries  result
  10.0.0.1:80  health check     3      passed
  10.0.0.2:80  health check     3      passed
  10.0.0.3:80  health check     3      passed
  10.0.0.1:80  smoke request 1  1      passed
  10.0.0.2:80  smoke request 1  1      passed
  10.0.0.3:80  smoke request 1  1      passed
  10.0.0.1:80  warm-up          1      passed
  10.0.0.2:80  warm-up          1      passed
  10.0.0.3:80  warm-up          1      passed
  version  requests  failed                p50                     p95                     p99
  blue     1000      1 (0% to 0.997%)      20 ms (20 ms to 20 ms)  20 ms (20 ms to 20 ms)  20 ms (20 ms to 20 ms)
  green    3000      600 (17.3% to 22.9%)  25 ms (25 ms to 25 ms)  25 ms (25 ms to 25 ms)  25 ms (25 ms to 25 ms)
  errors: 600 of 3000 bad (17.3% to 22.9%), 1% accepted (error_rate; the old version failed 1 of 1000 before); evidence 2964 of 1000
  latency: 0 of 3000 bad (0% to 0.252%), 5% accepted (slower than 100 ms, from the old version's p95); evidence 0.00 of 1000
  green let go of 0 requests and 0 tunnels within 250 ms
";
    assert_eq!(text, expected);
}
