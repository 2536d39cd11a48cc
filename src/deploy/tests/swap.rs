//! Swaps from the first check to the last connection.

use std::sync::Arc;
use std::time::Duration;

use super::world::{DAWN, SECOND, World, backends, bad, good, plan, secs};
use crate::deploy::{
    Check, Checked, Command, Counts, Event, Held, Milestone, Mode, Outcome, Phase, Plan, Reloaded,
    Shadow, ShadowTally, Side, Slow, Tunnels,
};

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
    assert_eq!(world.swap.report().new.unwrap().waiting, 60);
}

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
    let order = crate::deploy::Order { backends: Vec::new(), ..super::world::order() };
    let start = crate::deploy::Swap::start(order, plan(), secs(1), DAWN);
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
fn a_rollback_by_hand_asks_nobody() {
    let mut world = in_watch(plan());
    world.event(Event::RollBack("by hand".to_owned()));
    ended(&world, Outcome::RolledBack, "by hand");
    assert_eq!(world.count(&Command::ProbeOld), 0);
}

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

#[test]
fn requests_that_do_not_finish_are_cut_and_tunnels_kept_until_their_deadline() {
    let tunnels = Tunnels { close: false, deadline: Some(secs(30)), per_second: 50 };
    let mut world = in_watch(Plan { tunnels, ..plan() });
    world.old_held = Held { requests: 3, tunnels: 100 };
    world.until(Milestone::Kept);
    world.looks(6 * SECOND);
    assert_eq!(world.count(&Command::CutRequests(Side::Old)), 1);
    world.old_held.requests = 0;
    world.look();
    assert!(world.swap.is_finished() && !world.swap.is_over());
    assert_eq!(world.swap.report().drained.unwrap().requests_cut, 3);
    world.looks(30 * SECOND);
    let close = Command::CloseTunnels { side: Side::Old, per_second: 50 };
    assert_eq!(world.count(&close), 1);
    assert!(world.swap.is_over());
}

#[test]
fn tunnels_are_closed_at_once_where_that_is_wanted() {
    let tunnels = Tunnels { close: true, deadline: None, per_second: 10 };
    let mut world = in_watch(Plan { tunnels, ..plan() });
    world.old_held = Held { requests: 0, tunnels: 100 };
    world.until(Milestone::Kept);
    assert_eq!(world.count(&Command::CloseTunnels { side: Side::Old, per_second: 10 }), 1);
    world.looks(10 * SECOND);
    assert!(!world.swap.is_finished());
    world.old_held.tunnels = 0;
    world.look();
    assert!(world.swap.is_finished());
}

#[test]
fn tunnels_that_are_closed_before_the_next_look_count() {
    let tunnels = Tunnels { close: true, deadline: None, per_second: 10 };
    let mut world = in_watch(Plan { tunnels, ..plan() });
    world.old_held = Held { requests: 4, tunnels: 30 };
    world.until(Milestone::Kept);
    world.old_held = Held { requests: 5, tunnels: 27 };
    world.look();
    let drained = world.swap.report().drained.unwrap();
    assert_eq!(drained.at_first, Held { requests: 5, tunnels: 30 });
    assert_eq!(drained.left, world.old_held);
}

#[test]
fn a_drain_that_never_ends_is_given_up_and_said() {
    let mut world = in_watch(plan());
    world.old_held = Held { requests: 1, tunnels: 0 };
    world.until(Milestone::Kept);
    world.until(Milestone::Drained);
    assert_eq!(world.told(Milestone::Drained), Some("blue still holds 1 request and 0 tunnels"));
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
