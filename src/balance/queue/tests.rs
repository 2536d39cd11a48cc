use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use super::*;

/// Serves waiters from so many slots, of which those who are gone return theirs; gives those served.
fn serve(queue: &Queue<u32>, slots: usize, gone: &[u32]) -> Vec<u32> {
    let (left, served) = (Cell::new(slots), RefCell::new(Vec::new()));
    let take = |_: &mut u32| match left.get().checked_sub(1) {
        Some(rest) => {
            left.set(rest);
            Try::Slot(())
        }
        None => Try::Nobody,
    };
    let give = |waiter, ()| {
        if gone.contains(&waiter) {
            left.set(left.get() + 1);
            return Err(());
        }
        served.borrow_mut().push(waiter);
        Ok(())
    };
    queue.hand_over(take, give);
    served.into_inner()
}

fn join(queue: &Queue<u32>, size: usize, waiter: u32) -> Result<Ticket, Full> {
    queue.join(size, waiter, |_| Try::Nobody::<()>, |_, ()| Ok(()))
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
    let take = |_: &mut u32| match slots.replace(0) {
        0 => Try::Nobody,
        _ => Try::Slot(()),
    };
    assert!(queue.join(1, 1, take, |_, ()| Ok(())).is_ok());
    assert_eq!(serve(&queue, 1, &[]), [1]);
    assert_eq!(join(&queue, 0, 2), Err(Full), "no line at all");
}

#[test]
fn who_waits_for_another_is_passed_over_and_keeps_his_place() {
    let queue = Queue::default();
    (0..4).for_each(|waiter| assert!(join(&queue, 9, waiter).is_ok()));
    // The even ones want what is not there.
    let mut served = Vec::new();
    let take =
        |waiter: &mut u32| if waiter.is_multiple_of(2) { Try::NotThisOne } else { Try::Slot(()) };
    queue.hand_over(take, |waiter, ()| {
        served.push(waiter);
        Ok(())
    });
    assert_eq!(served, [1, 3]);
    assert_eq!(serve(&queue, 9, &[]), [0, 2]);
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
    /// Has been given back the slot of one who was gone, and frees that.
    FreeOther(After),
    /// Has freed it: looks who waits for it.
    HandOverOther(After),
    Done,
}

/// What comes after a slot that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum After {
    Wait(u64),
    /// Its own slot came meanwhile.
    Free,
    Done,
}

impl After {
    fn next(self) -> Next {
        match self {
            After::Wait(ticket) => Next::Wait(ticket),
            After::Free => Next::Free,
            After::Done => Next::Done,
        }
    }
}

/// One backend with one slot each; every third request is bound to the second one.
const BACKENDS: usize = 2;

/// Everything that requests share, and where they are.
#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    /// Who has the slot of each backend.
    slots: [bool; BACKENDS],
    /// What each request does next, and the backend whose slot it has.
    requests: Vec<(Next, Option<usize>)>,
    /// The backends whose slots a request was given back.
    other: Vec<Vec<usize>>,
    line: Vec<(u64, usize)>,
    next: u64,
}

/// A slot that is dropped has to be freed by whoever dropped it.
struct Slot {
    backend: usize,
    dropped: Rc<RefCell<Vec<usize>>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.dropped.borrow_mut().push(self.backend);
    }
}

impl World {
    fn new(count: usize) -> Self {
        World {
            slots: [false; BACKENDS],
            requests: vec![(Next::Look, None); count],
            other: vec![Vec::new(); count],
            line: Vec::new(),
            next: 0,
        }
    }

    /// Takes a slot for a request, if there is one that will do.
    fn take(&mut self, who: usize) -> Try<usize> {
        let bound = who % 3 == 2;
        match self.slots.iter().enumerate().position(|(i, taken)| !taken && (!bound || i == 1)) {
            Some(backend) => {
                self.slots[backend] = true;
                Try::Slot(backend)
            }
            None if bound => Try::NotThisOne,
            None => Try::Nobody,
        }
    }

    /// Those who may take a step; one who waits may give up.
    fn enabled(&self) -> impl Iterator<Item = usize> {
        (0..self.requests.len()).filter(|&i| self.requests[i].0 != Next::Done)
    }

    /// One step of one request, on the real queue.
    fn step(&self, i: usize, size: usize) -> World {
        let waiters = self.line.iter().map(|&(ticket, who)| (Ticket(ticket), who)).collect();
        let queue = Queue {
            waiting: AtomicUsize::new(self.line.len()),
            line: Mutex::new(Line { next: self.next, waiters }),
        };
        let world = RefCell::new(self.clone());
        let dropped = Rc::new(RefCell::new(Vec::new()));
        self.act(i, size, &queue, &world, &dropped);
        let line = queue.line.into_inner().unwrap();
        let mut world = world.into_inner();
        world.next = line.next;
        world.line = line.waiters.into_iter().map(|(ticket, who)| (ticket.0, who)).collect();
        world.other[i].extend(dropped.take());
        if !world.other[i].is_empty() && !matches!(world.requests[i].0, Next::HandOverOther(_)) {
            world.requests[i].0 = Next::FreeOther(match world.requests[i].0 {
                Next::Wait(ticket) => After::Wait(ticket),
                Next::Free => After::Free,
                _ => After::Done,
            });
        }
        world
    }

    fn act(
        &self,
        i: usize,
        size: usize,
        queue: &Queue<usize>,
        world: &RefCell<World>,
        dropped: &Rc<RefCell<Vec<usize>>>,
    ) {
        let take = |who: &mut usize| match world.borrow_mut().take(*who) {
            Try::Slot(backend) => Try::Slot(Slot { backend, dropped: Rc::clone(dropped) }),
            Try::NotThisOne => Try::NotThisOne,
            Try::Nobody => Try::Nobody,
        };
        let give = |who: usize, slot: Slot| {
            let request = &mut world.borrow_mut().requests[who];
            request.0 = match request.0 {
                Next::Leave(_) => return Err(slot),
                Next::FreeOther(_) => Next::FreeOther(After::Free),
                Next::HandOverOther(_) => Next::HandOverOther(After::Free),
                _ => Next::Free,
            };
            request.1 = Some(slot.backend);
            std::mem::forget(slot);
            Ok(())
        };
        let go = |next| world.borrow_mut().requests[i].0 = next;
        match self.requests[i].0 {
            Next::Look => go(if queue.is_empty() { Next::Take } else { Next::Join }),
            Next::Take => {
                let taken = world.borrow_mut().take(i);
                match taken {
                    Try::Slot(backend) => {
                        world.borrow_mut().requests[i] = (Next::Free, Some(backend))
                    }
                    _ => go(Next::Join),
                }
            }
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
                let backend = self.requests[i].1.unwrap();
                world.borrow_mut().slots[backend] = false;
                go(Next::HandOver);
            }
            Next::FreeOther(after) => {
                let backend = world.borrow_mut().other[i].pop().unwrap();
                world.borrow_mut().slots[backend] = false;
                go(Next::HandOverOther(after));
            }
            Next::HandOver => {
                queue.hand_over(take, give);
                go(Next::Done);
            }
            Next::HandOverOther(after) => {
                go(after.next());
                queue.hand_over(take, give);
            }
            Next::Done => {}
        }
    }
}

/// Goes through every order of steps, with and without requests that give up.
fn explore(size: usize, count: usize) -> usize {
    let (mut seen, mut open) = (HashSet::new(), vec![World::new(count)]);
    while let Some(world) = open.pop() {
        if !seen.insert(world.clone()) {
            continue;
        }
        let waits = |next: &(Next, Option<usize>)| matches!(next.0, Next::Wait(_));
        let working = world.enabled().any(|i| !waits(&world.requests[i]));
        // If only those are left who wait, nobody will ever wake them.
        assert!(working || !world.requests.iter().any(waits), "lost: {:?}", world.requests);
        if world.enabled().next().is_none() {
            let all_is_over = world.slots == [false; BACKENDS] && world.line.is_empty();
            assert!(all_is_over, "a slot or a place was lost");
        }
        open.extend(world.enabled().map(|i| world.step(i, size)));
    }
    seen.len()
}

#[test]
fn no_order_of_steps_loses_a_slot_or_a_waiter() {
    for size in [0, 1, 2, 9] {
        assert!(explore(size, 4) > 100);
    }
}
