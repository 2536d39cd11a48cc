use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use super::*;

/// Serves waiters from so many slots; gives those served.
fn serve(queue: &Queue<u32>, slots: usize, gone: &[u32]) -> Vec<u32> {
    let (left, served) = (Cell::new(slots), RefCell::new(Vec::new()));
    let take = |_: &u32| left.get().checked_sub(1).map(|rest| left.set(rest));
    let give = |waiter, ()| {
        if gone.contains(&waiter) {
            return Err(());
        }
        served.borrow_mut().push(waiter);
        Ok(())
    };
    queue.hand_over(take, give);
    served.into_inner()
}

fn join(queue: &Queue<u32>, size: usize, waiter: u32) -> Result<Ticket, Full> {
    queue.join(size, waiter, |_| None::<()>, |_, ()| Ok(()))
}

#[test]
fn first_come_first_served() {
    let queue = Queue::default();
    let tickets: Vec<_> = (0..5).map(|waiter| join(&queue, 5, waiter).unwrap()).collect();
    assert_eq!(join(&queue, 5, 5), Err(Full));
    assert_eq!(serve(&queue, 2, &[]), [0, 1]);
    assert!(queue.leave(tickets[3]));
    assert!(!queue.leave(tickets[3]) && !queue.leave(tickets[0]));
    assert_eq!((queue.len(), queue.is_empty()), (2, false));
    assert_eq!(serve(&queue, 9, &[]), [2, 4]);
    assert!(queue.is_empty());
}

#[test]
fn the_slot_of_one_who_is_gone_goes_to_the_next() {
    let queue = Queue::default();
    (0..4).for_each(|waiter| assert!(join(&queue, 9, waiter).is_ok()));
    assert_eq!(serve(&queue, 1, &[0, 1]), [2]);
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_full_line_is_served_before_anybody_is_turned_away() {
    let queue = Queue::default();
    join(&queue, 1, 0).unwrap();
    let slots = Cell::new(1);
    let take = |_: &u32| (slots.replace(0) == 1).then_some(());
    assert!(queue.join(1, 1, take, |_, ()| Ok(())).is_ok());
    assert_eq!(serve(&queue, 1, &[]), [1]);
    assert_eq!(join(&queue, 0, 2), Err(Full), "no line at all");
}

/// What a request does next. Every step is one that others cannot divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    /// Looks whether somebody waits.
    Look,
    /// Nobody did: tries to take a slot.
    Take,
    /// There was none: stands in line.
    Join,
    /// Waits for a slot, or gives up.
    Wait(u64),
    /// It has given up, and leaves the line.
    Leave(u64),
    /// Done with its slot: frees it.
    Free,
    /// Has freed it: looks who waits for it.
    HandOver,
    Done,
}

/// Everything that requests share, and where they are.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    taken: usize,
    requests: Vec<Next>,
    line: Vec<(u64, usize)>,
    next: u64,
}

const SLOTS: usize = 1;

/// A slot that is dropped has to be freed by whoever dropped it.
struct Slot<'a>(&'a Cell<bool>);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

impl World {
    /// Those who may take a step; one who waits may give up.
    fn enabled(&self) -> impl Iterator<Item = usize> {
        (0..self.requests.len()).filter(|&i| self.requests[i] != Next::Done)
    }

    /// One step of one request, on the real queue.
    fn step(&self, i: usize, size: usize) -> World {
        let waiters = self.line.iter().map(|&(ticket, who)| (Ticket(ticket), who)).collect();
        let queue = Queue {
            waiting: AtomicUsize::new(self.line.len()),
            line: Mutex::new(Line { next: self.next, waiters }),
        };
        let world = RefCell::new(self.clone());
        let dropped = Cell::new(false);
        let take = |_: &usize| {
            let mut world = world.borrow_mut();
            (world.taken < SLOTS).then(|| world.taken += 1).map(|()| Slot(&dropped))
        };
        let give = |who: usize, slot| {
            let mut world = world.borrow_mut();
            if matches!(world.requests[who], Next::Leave(_)) {
                return Err(slot);
            }
            world.requests[who] = Next::Free;
            std::mem::forget(slot);
            Ok(())
        };
        let go = |next| world.borrow_mut().requests[i] = next;
        match self.requests[i] {
            Next::Look => go(if queue.is_empty() { Next::Take } else { Next::Join }),
            Next::Take => match take(&i) {
                Some(slot) => {
                    std::mem::forget(slot);
                    go(Next::Free);
                }
                None => go(Next::Join),
            },
            Next::Join => {
                // The ticket is known when `join` returns; until then it waits for that.
                go(Next::Wait(self.next));
                if queue.join(size, i, take, give).is_err() {
                    go(Next::Done);
                }
            }
            Next::Wait(ticket) => go(Next::Leave(ticket)),
            Next::Leave(ticket) => {
                queue.leave(Ticket(ticket));
                go(Next::Done);
            }
            Next::Free => {
                world.borrow_mut().taken -= 1;
                go(Next::HandOver);
            }
            Next::HandOver => {
                queue.hand_over(take, give);
                go(if dropped.get() { Next::Free } else { Next::Done });
            }
            Next::Done => {}
        }
        let line = queue.line.into_inner().unwrap();
        let mut world = world.into_inner();
        world.next = line.next;
        world.line = line.waiters.into_iter().map(|(ticket, who)| (ticket.0, who)).collect();
        world
    }
}

/// Goes through every order of steps, with and without requests that give up.
fn explore(size: usize, count: usize) -> usize {
    let first = World { taken: 0, requests: vec![Next::Look; count], line: Vec::new(), next: 0 };
    let (mut seen, mut open) = (HashSet::new(), vec![first]);
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        assert!(world.taken <= SLOTS, "a limit was exceeded");
        let waits = |next: &Next| matches!(next, Next::Wait(_));
        let working = world.enabled().any(|i| !waits(&world.requests[i]));
        // If only those are left who wait, nobody will ever wake them.
        assert!(working || !world.requests.iter().any(waits), "lost: {:?}", world.requests);
        if world.enabled().next().is_none() {
            assert_eq!((world.taken, world.line.len()), (0, 0), "a slot or a place was lost");
        }
        open.extend(world.enabled().map(|i| world.step(i, size)));
    }
    seen.len()
}

#[test]
fn no_order_of_steps_loses_a_slot_or_a_waiter() {
    for size in [0, 1, 2, 9] {
        assert!(explore(size, 3) > 100);
    }
    explore(9, 4);
}
