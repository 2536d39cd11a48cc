//! What a version has to show before it gets a request.

use super::ended;
use crate::deploy::tests::world::{DAWN, SECOND, World, order, plan, secs};
use crate::deploy::{
    Check, Checked, Command, Event, Milestone, Order, Outcome, Plan, Shadow, ShadowTally, Swap,
};

#[test]
fn a_version_that_starts_slowly_is_waited_for_and_its_passes_must_be_in_a_row() {
    let mut world = World::new(plan());
    world.answer = |backend, check| match (backend, check) {
        ("10.0.0.2:80", Check::Probe) => Checked::Failed("connection refused".to_owned()),
        _ => Checked::Passed,
    };
    world.looks(20 * SECOND);
    assert!(world.checks.iter().all(|(_, check)| *check == Check::Probe));
    world.answer = |_, _| Checked::Passed;
    world.until(Milestone::Switched);
    let report = world.swap.report();
    let row = report.gate.iter().find(|row| *row.backend == *"10.0.0.2:80").unwrap();
    assert!(row.passed && row.tries > 20 && row.passes == 3, "{row:?}");
}

#[test]
fn a_gate_that_takes_too_long_refuses_and_says_what_was_missing() {
    let mut world = World::new(plan());
    world.answer = |backend, _| match backend {
        "10.0.0.2:80" => Checked::Failed("503 is not 200-399".to_owned()),
        _ => Checked::Passed,
    };
    // What was asked before was answered with a pass.
    world.until(Milestone::Refused);
    let reason = "not ready within 1 min: 10.0.0.2:80 health check: 503 is not 200-399";
    ended(&world, Outcome::Refused, reason);
    assert!(world.shares().is_empty(), "it never got a request");
    assert_eq!(world.commands.last(), Some(&Command::Finished(Outcome::Refused)));
    assert_eq!(Outcome::Refused.exit_code(), 4);
}

#[test]
fn a_smoke_request_has_three_tries() {
    let mut world = World::new(plan());
    world.answer = |_, check| match check {
        Check::Smoke(_) => Checked::Failed("500 is not 200".to_owned()),
        _ => Checked::Passed,
    };
    assert!(world.until(Milestone::Refused) < secs(5));
    ended(
        &world,
        Outcome::Refused,
        "10.0.0.1:80 does not pass its smoke request 1: 500 is not 200",
    );
    assert_eq!(
        world.checks.iter().filter(|(b, c)| **b == *"10.0.0.1:80" && *c == Check::Smoke(0)).count(),
        3
    );
}

#[test]
fn the_wrong_version_is_refused_at_once() {
    let mut world = World::new(Plan { expect_version: true, ..plan() });
    world.answer = |_, check| match check {
        Check::Version => Checked::Refused("it says 1.4.0, as before".to_owned()),
        _ => Checked::Passed,
    };
    world.until(Milestone::Refused);
    assert_eq!(world.checks.iter().filter(|(_, check)| *check == Check::Version).count(), 3);
}

#[test]
fn a_version_without_backends_is_refused() {
    let order = Order { backends: Vec::new(), ..order() };
    let start = Swap::start(order, plan(), secs(1), DAWN);
    let world = World::around(start, secs(1));
    ended(&world, Outcome::Refused, "it has no backend that may serve");
}

#[test]
fn copies_of_live_requests_are_compared_before_the_switch() {
    let shadow = Shadow { share: 0.1, lasts: secs(10) };
    let plan = Plan { shadow: Some(shadow), ..plan() };
    for (differing, passes) in [(0, true), (100, false)] {
        let mut world = World::new(plan.clone());
        world.looks(10 * SECOND);
        assert_eq!(world.count(&Command::Shadow(shadow)), 1);
        assert!(world.shares().is_empty());
        let tally = ShadowTally { compared: 200, differing, ..ShadowTally::default() };
        world.event(Event::Shadowing(tally));
        let words = world.swap.describe(secs(10));
        assert!(words.contains("10% of the GET requests for"), "{words}");
        world.event(Event::Shadowed(tally));
        assert_eq!(world.swap.report().shadow.map(|shadow| shadow.tally), Some(tally));
        world.look();
        assert_eq!(world.told(Milestone::Switched).is_some(), passes);
        assert_eq!(world.told(Milestone::Refused).is_some(), !passes);
    }
}

#[test]
fn a_gate_that_asks_nothing_is_passed_at_once() {
    let mut world = World::new(plan().back().unchecked());
    world.until(Milestone::Switched);
    assert_eq!(world.checks, []);
    assert_eq!(world.swap.report().gate, []);
    assert_eq!(world.swap.report().notes[0].text, "no check was asked for: it was forced");
}
