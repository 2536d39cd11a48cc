//! What the ramp and the watch lead to.

use std::sync::Arc;
use std::time::Duration;

use super::{ended, in_watch};
use crate::deploy::tests::world::{SECOND, World, bad, good, plan, secs};
use crate::deploy::{Command, Counts, Doubt, Event, Milestone, Mode, Outcome, Phase, Plan, Side};

#[test]
fn shares_rise_step_by_step_and_the_control_stays_to_the_end_of_the_watch() {
    let mut world = World::new(Plan { ramp: vec![0.05, 0.25], control: 0.1, ..plan() });
    world.until(Milestone::Switched);
    assert_eq!(world.swap.phase(), Phase::Ramp(0));
    assert_eq!(world.until(Milestone::Kept), secs(10 + 10 + 60));
    assert_eq!(world.shares(), [0.05, 0.25, 0.9, 1.0]);
    let phases: Vec<Phase> = world.swap.report().phases.iter().map(|record| record.phase).collect();
    let expected = [Phase::Gate, Phase::Ramp(0), Phase::Ramp(1), Phase::Watch, Phase::Drain];
    assert_eq!(phases, expected);
}

#[test]
fn a_bad_version_is_rolled_back_once_the_old_one_has_answered() {
    let mut world = in_watch(plan());
    world.new = bad(40);
    assert_eq!(world.until(Milestone::RolledBack), Duration::from_millis(1250));
    ended(
        &world,
        Outcome::RolledBack,
        "600 of 600 requests failed within 1.3 s (100%, 1% accepted)",
    );
    assert_eq!(world.count(&Command::ProbeOld), 1);
    let mut after = world.commands.iter().skip_while(|command| **command != Command::ProbeOld);
    assert_eq!(after.nth(1), Some(&Command::Split(0.0)), "nothing comes before that");
    assert_eq!(world.swap.draining(), Some(Side::New));
    world.looks(1);
    assert!(world.swap.is_finished());
    assert_eq!(world.told(Milestone::Drained), Some("green is safe to stop"));
    assert_eq!(Outcome::RolledBack.exit_code(), 3);
}

#[test]
fn a_step_of_the_ramp_is_judged_too() {
    let mut world = in_watch(Plan { ramp: vec![0.5], ..plan() });
    world.new = bad(40);
    world.until(Milestone::RolledBack);
    assert_eq!(world.shares(), [0.5, 0.0]);
}

#[test]
fn nothing_is_rolled_back_while_the_old_version_fails_as_well() {
    let mut world = in_watch(plan());
    world.new = bad(40);
    world.old_passes = Some(1);
    world.until(Milestone::Held);
    let words = "600 of 600 requests failed within 1.3 s (100%, 1% accepted), but only 1 of 3 backends \
                 of the old version pass their check: going back would not help";
    assert_eq!(world.told(Milestone::Held), Some(words));
    world.looks(10 * SECOND);
    assert_eq!(world.count(&Command::ProbeOld), 11, "it is asked again each second");
    assert_eq!(world.swap.phase(), Phase::Watch);
    world.old_passes = Some(2);
    world.until(Milestone::Resumed);
    let took = world.until(Milestone::RolledBack);
    assert!(took > secs(1) && took < secs(4), "it takes fresh evidence: {took:?}");
}

#[test]
fn an_outage_that_both_shared_and_that_is_over_leads_to_nothing() {
    let mut world = in_watch(plan());
    (world.new, world.old_passes) = (bad(40), Some(0));
    world.looks(10 * SECOND);
    (world.new, world.old_passes) = (good(40), Some(3));
    world.until(Milestone::Kept);
    assert_eq!(world.told(Milestone::RolledBack), None);
}

#[test]
fn an_answer_that_does_not_come_is_asked_for_again() {
    let mut world = in_watch(plan());
    (world.new, world.old_passes) = (bad(40), None);
    world.looks(4 * SECOND);
    assert_eq!(world.count(&Command::ProbeOld), 2);
    assert_eq!(world.swap.phase(), Phase::Watch);
}

#[test]
fn a_version_that_leaves_requests_waiting_is_not_called_good() {
    let mut world = in_watch(plan());
    world.looks(10 * SECOND);
    world.new = good(0);
    world.looks(5 * SECOND);
    world.new_waiting = 60;
    world.look();
    let words = "2400 requests, 0 failed, 60 without an answer for more than 5 s";
    let told = world.swap.describe(world.now);
    assert!(told.ends_with(words), "{told}");
    world.until(Milestone::Undecided);
    ended(&world, Outcome::Undecided, &format!("it leaves more waiting than it answers: {words}"));
    let report = world.swap.report();
    assert_eq!((report.doubt, report.new.unwrap().waiting), (Some(Doubt::Waiting), 60));
}

#[test]
fn an_observer_only_tells() {
    let mut world = in_watch(Plan { mode: Mode::Observe, ..plan() });
    world.new = bad(40);
    world.until(Milestone::WouldRollBack);
    world.until(Milestone::Kept);
    let reason = "only observed: it would have been rolled back, since 600 of 600 requests failed \
                  within 1.3 s (100%, 1% accepted)";
    ended(&world, Outcome::Kept, reason);
    assert_eq!(world.shares(), [1.0, 1.0]);
}

#[test]
fn a_watch_without_judgement_lasts_as_long() {
    let mut world = in_watch(Plan { mode: Mode::Off, ..plan() });
    world.new = bad(40);
    assert_eq!(world.until(Milestone::Kept), secs(60));
    ended(&world, Outcome::Kept, "it was not to be judged; 28800 requests, 28800 failed");
    let mut at_once = in_watch(plan().back());
    assert!(at_once.until(Milestone::Kept) <= secs(1));
}

#[test]
fn silence_is_kept_and_said() {
    let mut world = in_watch(plan());
    world.new = [Counts::default(); 3];
    world.until(Milestone::Undecided);
    ended(&world, Outcome::Undecided, "0 requests, 0 failed; a verdict takes 20");
    assert_eq!(world.swap.report().json(|_| String::new())["doubt"], "few_requests");
    assert_eq!(Outcome::Undecided.exit_code(), 5);
}

#[test]
fn one_bad_backend_is_ejected_for_the_rest_of_the_watch() {
    let mut world = in_watch(plan());
    world.new[1] = bad(40)[1];
    world.until(Milestone::Ejected);
    let ejected = world.commands.iter().find_map(|command| match command {
        Command::Eject { backend, lasts, .. } => Some((&**backend, *lasts)),
        _ => None,
    });
    assert_eq!(ejected, Some(("10.0.0.2:80", secs(60) - Duration::from_millis(1250))));
    world.new[1] = Counts::default();
    world.until(Milestone::Kept);
    assert_eq!(world.swap.report().blamed.len(), 1);
}

#[test]
fn a_backend_that_others_took_out_is_named_once_and_only_while_it_is_watched() {
    let name: Arc<str> = "10.0.0.2:80".into();
    let mut gate = World::new(plan());
    gate.swap.blame(&name, &"refused");
    assert!(gate.swap.report().blamed.is_empty());
    let mut world = in_watch(plan());
    world.swap.blame(&name, &"5 failures in a row");
    world.swap.blame(&name, &"failed 2 checks in a row");
    let blamed = world.swap.report().blamed;
    assert_eq!(blamed.len(), 1);
    assert_eq!(blamed[0].why, "5 failures in a row");
}

#[test]
fn a_version_whose_backends_died_is_rolled_back_without_traffic() {
    let mut world = in_watch(plan());
    (world.new, world.usable) = ([Counts::default(); 3], [false, true, false]);
    world.until(Milestone::RolledBack);
    ended(&world, Outcome::RolledBack, "2 of 3 backends are not usable");
}

#[test]
fn a_rollback_by_hand_asks_nobody() {
    let mut world = in_watch(plan());
    world.event(Event::RollBack("by hand".to_owned()));
    ended(&world, Outcome::RolledBack, "by hand");
    assert_eq!(world.count(&Command::ProbeOld), 0);
}
