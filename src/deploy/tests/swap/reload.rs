//! What another file makes of a swap that runs.

use super::{ended, in_watch};
use crate::deploy::tests::world::{World, backends, plan};
use crate::deploy::{Check, Checked, Command, Event, Milestone, Outcome, Plan, Reloaded};

fn same_file() -> Reloaded {
    Reloaded { active: None, candidate: Some(backends(3)), has_old: true, plan: plan() }
}

#[test]
fn a_reload_that_changes_nothing_here_is_nothing() {
    for mut world in [World::new(plan()), in_watch(plan())] {
        let phase = world.swap.phase();
        world.event(Event::Reloaded(same_file()));
        world.event(Event::Reloaded(Reloaded { active: Some("green".to_owned()), ..same_file() }));
        assert_eq!((world.swap.phase(), world.swap.report().notes.len()), (phase, 0));
    }
}

#[test]
fn the_gate_begins_again_for_other_backends_or_another_plan() {
    let fewer = Reloaded { candidate: Some(backends(2)), ..same_file() };
    let other = Reloaded { plan: Plan { gate_checks: 5, ..plan() }, ..same_file() };
    for file in [fewer, other] {
        let mut world = World::new(plan());
        world.look();
        world.checks.clear();
        world.event(Event::Reloaded(file.clone()));
        assert_eq!(world.checks.len(), file.candidate.as_ref().map_or(0, Vec::len));
        let late = Event::Checked {
            round: 1,
            backend: backends(1)[0].clone(),
            check: Check::Probe,
            outcome: Checked::Refused("of the round before".to_owned()),
        };
        world.event(late);
        assert_eq!(world.count(&Command::ForgetTraffic), 2);
        world.until(Milestone::Switched);
        let first = world.checks.iter().filter(|(backend, _)| **backend == *"10.0.0.1:80");
        assert_eq!(
            first.filter(|(_, c)| *c == Check::Probe).count(),
            file.plan.gate_checks as usize
        );
    }
}

#[test]
fn a_file_that_wants_something_else_ends_it() {
    let other = || Reloaded { active: Some("red".to_owned()), ..same_file() };
    let gone = || Reloaded { candidate: None, ..same_file() };
    for (file, reason) in
        [(other(), "the file wants red now"), (gone(), "green is not in the file any more")]
    {
        let mut gate = World::new(plan());
        gate.event(Event::Reloaded(file.clone()));
        ended(&gate, Outcome::Cancelled, reason);
        let mut watch = in_watch(plan());
        watch.event(Event::Reloaded(file));
        ended(&watch, Outcome::Cancelled, reason);
        assert_eq!(watch.shares(), [1.0, 0.0]);
    }
}

#[test]
fn without_the_old_version_there_is_no_way_back() {
    let mut other = in_watch(plan());
    let active = Some("red".to_owned());
    other.event(Event::Reloaded(Reloaded { has_old: false, active, ..same_file() }));
    assert_eq!(other.swap.outcome(), Some(Outcome::Undecided), "green serves until red does");
    let mut world = in_watch(plan());
    world.event(Event::Reloaded(Reloaded { has_old: false, ..same_file() }));
    let reason = "the old version is not in the file any more: there is no way back";
    ended(&world, Outcome::Undecided, reason);
}
