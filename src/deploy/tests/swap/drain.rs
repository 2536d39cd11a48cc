//! How the version that was left lets go of its requests and tunnels.

use super::in_watch;
use crate::deploy::tests::world::{SECOND, plan, secs};
use crate::deploy::{Command, Held, Milestone, Plan, Side, Tunnels};

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
