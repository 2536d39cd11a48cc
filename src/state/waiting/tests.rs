use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::balance::{AllDown, Condition, Policy};
use crate::state::pool::PickRules;
use crate::state::{Backend, Member, Split};

/// A pool of so many healthy backends with this limit.
fn pool(backends: u16, limit: u32, all_down: AllDown) -> Arc<PoolState> {
    let line: Arc<WaitingLine> = Arc::default();
    let member = |port| {
        let backend = Backend::sample(port).waited_for_in(&line);
        backend.set_condition(Condition::Healthy);
        backend.set_limit(limit);
        Member { backend: Arc::new(backend), weight: 1, backup: false }
    };
    let members = (1..=backends).map(member).collect();
    let rules = PickRules { policy: Policy::LeastConnections, panic_threshold: 0.0, all_down };
    let version = Arc::new(Version::new("".into(), members, rules, None));
    Arc::new(PoolState::new(Arc::clone(&line), Split::all_to(version), 1, Duration::ZERO))
}

fn version(pool: &PoolState) -> Arc<Version> {
    Arc::clone(&pool.split.load().shares[0].version)
}

fn waiter(pool: &Arc<PoolState>) -> (Waiter, oneshot::Receiver<Answer>) {
    Waiter::new(pool, fastrand::Rng::with_seed(1))
}

fn pick(pool: &PoolState) -> Answer {
    version(pool).pick(&PickWish::default(), &mut fastrand::Rng::with_seed(1))
}

#[test]
fn a_slot_that_is_let_go_goes_to_the_oldest_waiter() {
    let pool = pool(1, 1, AllDown::Try);
    let held = pick(&pool).unwrap();
    assert_eq!(pick(&pool).unwrap_err(), NotPicked::Full);
    let (first, mut first_hears) = waiter(&pool);
    let (second, mut second_hears) = waiter(&pool);
    let _first = pool.line.join(2, first).unwrap();
    let _second = pool.line.join(2, second).unwrap();
    drop(held);
    let slot = first_hears.try_recv().unwrap();
    assert!(second_hears.try_recv().is_err());
    drop(slot);
    assert!(second_hears.try_recv().unwrap().is_ok());
}

#[test]
fn a_slot_that_came_too_late_goes_to_the_next() {
    let pool = pool(1, 1, AllDown::Try);
    let held = pick(&pool).unwrap();
    let (first, first_hears) = waiter(&pool);
    let (second, mut second_hears) = waiter(&pool);
    let place = pool.line.join(2, first).unwrap();
    let _second = pool.line.join(2, second).unwrap();
    drop(held);
    drop((first_hears, place));
    assert!(second_hears.try_recv().unwrap().is_ok());
}

#[test]
fn one_who_left_without_leaving_the_line_is_passed_over() {
    let pool = pool(1, 1, AllDown::Try);
    let held = pick(&pool).unwrap();
    let (first, first_hears) = waiter(&pool);
    let (second, mut second_hears) = waiter(&pool);
    let _first = pool.line.join(2, first).unwrap();
    let _second = pool.line.join(2, second).unwrap();
    drop(first_hears);
    drop(held);
    assert!(second_hears.try_recv().unwrap().is_ok());
}

#[test]
fn when_nobody_is_left_to_wait_for_all_are_told() {
    let pool = pool(1, 1, AllDown::Fail);
    let _held = pick(&pool).unwrap();
    let (first, mut hears) = waiter(&pool);
    let _place = pool.line.join(2, first).unwrap();
    version(&pool).members[0].backend.set_condition(Condition::Unhealthy);
    version(&pool).rebuild();
    pool.line.hand_over();
    assert_eq!(hears.try_recv().unwrap().unwrap_err(), NotPicked::Nobody);
}

#[test]
fn who_has_failed_the_request_is_not_what_it_waits_for() {
    let pool = pool(2, 1, AllDown::Try);
    let (one, two) = (pick(&pool).unwrap(), pick(&pool).unwrap());
    let (mut request, mut hears) = waiter(&pool);
    let failed = one.slot.backend().id;
    request.tried.push(failed);
    let _place = pool.line.join(2, request).unwrap();
    drop(one);
    assert!(hears.try_recv().is_err());
    drop(two);
    assert_ne!(hears.try_recv().unwrap().unwrap().slot.backend().id, failed);
}

/// Threads that take, wait, let go and give up, as fast as they can: whatever the interleaving, no
/// limit is exceeded, nobody is forgotten, and in the end all is free.
#[test]
fn hammered_from_all_sides_no_slot_and_no_waiter_is_lost() {
    const LIMIT: u32 = 2;
    let pool = pool(2, LIMIT, AllDown::Try);
    let busy = [const { AtomicU32::new(0) }; 2];
    let work = |seed: u64| {
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..2_000 {
            let empty = pool.line.is_empty();
            let picked = match empty.then(|| version(&pool).pick(&PickWish::default(), &mut rng)) {
                Some(Ok(picked)) => picked,
                _ => {
                    let (waiter, mut hears) = Waiter::new(&pool, rng.fork());
                    let Ok(place) = pool.line.join(6, waiter) else { continue };
                    if rng.u8(..4) == 0 {
                        drop((hears.try_recv(), hears, place));
                        continue;
                    }
                    hears.blocking_recv().unwrap().unwrap()
                }
            };
            let at = picked.choice.member;
            let now = busy[at].fetch_add(1, Ordering::SeqCst) + 1;
            assert!(now <= LIMIT, "{now} at once");
            if rng.bool() {
                std::thread::yield_now();
            }
            busy[at].fetch_sub(1, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        for seed in 0..8 {
            scope.spawn(move || work(seed));
        }
    });
    let in_flight: Vec<u32> =
        version(&pool).members.iter().map(|member| member.backend.in_flight()).collect();
    assert_eq!((pool.line.len(), in_flight), (0, vec![0, 0]));
}
