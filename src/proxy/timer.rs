//! Timeouts that cost next to nothing while they do not expire.
//!
//! Every request has several deadlines and nearly all of them pass unused. A [`Wheel`] belongs to
//! one worker and ticks every 10 ms while something is due; moving a deadline further away is a
//! store into an entry, and the entry is looked at again only when its old place in the wheel comes
//! by (a hashed timing wheel, Varghese and Lauck 1987, with lazy moves). A timer expires up to one
//! tick late and never early.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::wakers::note;

const TICK: Duration = Duration::from_millis(TICK_MILLIS);
const TICK_MILLIS: u64 = 10;
/// Deadlines beyond the last slot are put there and looked at again when it comes by.
const SLOTS: u64 = 1024;
/// A deadline further away than this stands in the last slot before it whose tick is a multiple of
/// `COARSE`, to be placed anew when that comes by. So a crowd that is idle has the worker woken up every
/// 640 ms for many of them, and not every 10 ms for a few.
const FAR: u64 = 2 * COARSE;
const COARSE: u64 = 64;
/// The largest slot whose allocation is kept when it has been emptied. Many idle connections wander
/// through the slots together, and would leave one of their number's size behind in each. What had
/// more than so many timers goes, too, when none is left.
const KEPT_ENTRIES: usize = 64;

/// The timers of one worker.
#[derive(Debug)]
pub struct Wheel {
    origin: Instant,
    inner: RefCell<Inner>,
    earlier: Notify,
}

#[derive(Debug)]
struct Inner {
    entries: Slab<Entry>,
    /// Those without a timer that still stand in slots. The next timers get them, the latest first:
    /// most timers live for one request, and each would leave an entry behind until its slot comes
    /// by.
    spare: Vec<usize>,
    slots: Vec<Vec<usize>>,
    /// A bit for each slot that is not empty.
    occupied: [u64; (SLOTS / 64) as usize],
    /// Ticks up to and including this one have been handled.
    handled: u64,
    /// Entries that stand in slots.
    queued: usize,
    /// The tick that [`Wheel::run`] sleeps for.
    sleeping_for: u64,
}

#[derive(Debug)]
struct Entry {
    deadline: Option<Instant>,
    waker: Option<Waker>,
    expired: bool,
    /// The earliest slot that the entry stands in; later ones are leftovers of moves.
    next: u64,
    /// The deadline that it stands there for. A later one need not be placed: it is when that comes by.
    placed: Option<Instant>,
    /// Slots that the entry stands in.
    queued: u32,
}

/// One deadline at a time. Costs nothing until it is first armed.
#[derive(Debug)]
pub struct Timer {
    wheel: Rc<Wheel>,
    key: Cell<Option<usize>>,
}

impl Wheel {
    /// A wheel that starts now. [`Wheel::run`] must be running for its timers to expire.
    pub fn new() -> Rc<Self> {
        Rc::new(Wheel {
            origin: Instant::now(),
            inner: RefCell::new(Inner {
                entries: Slab::new(),
                spare: Vec::new(),
                slots: vec![Vec::new(); SLOTS as usize],
                occupied: [0; (SLOTS / 64) as usize],
                handled: 0,
                queued: 0,
                sleeping_for: u64::MAX,
            }),
            earlier: Notify::new(),
        })
    }

    /// A timer that is not armed.
    pub fn timer(self: &Rc<Self>) -> Timer {
        Timer { wheel: Rc::clone(self), key: Cell::new(None) }
    }

    /// Lets the wheel turn, for ever.
    pub async fn run(self: Rc<Self>) {
        loop {
            let next = self.inner.borrow_mut().next_due();
            match next {
                None => self.earlier.notified().await,
                Some(tick) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.due(tick)) => self.turn(Instant::now()),
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    /// When a tick comes.
    fn due(&self, tick: u64) -> Instant {
        self.origin + Duration::from_millis(tick * TICK_MILLIS)
    }

    /// The first tick at which `instant` has passed.
    fn tick_after(&self, instant: Instant) -> u64 {
        let micros = instant.saturating_duration_since(self.origin).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX).div_ceil(TICK_MILLIS * 1000)
    }

    /// Lets a timer, by its [key](Timer::key), expire now, whatever its deadline.
    pub fn expire(&self, key: usize) {
        let waker = self.inner.borrow_mut().entries.get_mut(key).and_then(|entry| {
            entry.deadline = None;
            entry.expired = true;
            entry.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes all who wait for a timer, to look at something else; no timer expires.
    pub fn wake_all(&self) {
        let wakers = |inner: &mut Inner| -> Vec<Waker> {
            inner.entries.iter_mut().filter_map(|(_, entry)| entry.waker.take()).collect()
        };
        let wakers = wakers(&mut self.inner.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn turn(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.origin).as_micros() / TICK.as_micros();
        let current = u64::try_from(elapsed).unwrap_or(u64::MAX);
        // Wakers run other people's code: none of it may find the wheel borrowed.
        let mut wakers = Vec::new();
        {
            let mut inner = self.inner.borrow_mut();
            // Once round is enough: after a long sleep every slot is due.
            let first = (inner.handled + 1).max(current.saturating_sub(SLOTS - 1));
            for tick in first..=current {
                let mut due = inner.take_slot(tick);
                for key in due.drain(..) {
                    inner.visit(key, tick, now, |deadline| self.tick_after(deadline), &mut wakers);
                }
                let slot = &mut inner.slots[(tick % SLOTS) as usize];
                if slot.is_empty() && due.capacity() <= KEPT_ENTRIES {
                    *slot = due;
                }
            }
            inner.handled = inner.handled.max(current);
            inner.give_back();
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Inner {
    fn next_due(&mut self) -> Option<u64> {
        let next = self.first_occupied(self.handled + 1);
        self.sleeping_for = next.unwrap_or(u64::MAX);
        next
    }

    /// The first tick from `from` on, once round, whose slot is not empty.
    fn first_occupied(&self, from: u64) -> Option<u64> {
        let words = from / 64..=from / 64 + SLOTS / 64;
        words.into_iter().find_map(|word| {
            let bits = self.occupied[(word % (SLOTS / 64)) as usize];
            // Those before `from` belong to the end of the round.
            let bits = if word == from / 64 { bits & (u64::MAX << (from % 64)) } else { bits };
            (bits != 0).then(|| word * 64 + u64::from(bits.trailing_zeros()))
        })
    }

    fn take_slot(&mut self, tick: u64) -> Vec<usize> {
        let slot = tick % SLOTS;
        self.occupied[(slot / 64) as usize] &= !(1 << (slot % 64));
        std::mem::take(&mut self.slots[slot as usize])
    }

    fn visit(
        &mut self,
        key: usize,
        tick: u64,
        now: Instant,
        tick_after: impl Fn(Instant) -> u64,
        wakers: &mut Vec<Waker>,
    ) {
        self.queued -= 1;
        let entry = &mut self.entries[key];
        entry.queued -= 1;
        // Another slot, still to come, is the one that counts.
        if entry.next > tick {
            return;
        }
        entry.next = u64::MAX;
        entry.placed = None;
        match entry.deadline {
            None => {}
            Some(deadline) if deadline <= now => {
                entry.deadline = None;
                entry.expired = true;
                wakers.extend(entry.waker.take());
            }
            Some(deadline) => {
                self.enqueue(key, (deadline, tick_after(deadline)), tick);
            }
        }
    }

    /// Gives back what a crowd of timers has taken up, when none of them is left.
    fn give_back(&mut self) {
        let is_left = self.queued > 0 || self.spare.len() < self.entries.len();
        if !is_left && self.entries.capacity() > KEPT_ENTRIES {
            (self.entries, self.spare) = (Slab::new(), Vec::new());
        }
    }

    /// An entry for a timer.
    fn enter(&mut self) -> usize {
        self.spare.pop().unwrap_or_else(|| {
            self.entries.insert(Entry {
                deadline: None,
                waker: None,
                expired: false,
                next: u64::MAX,
                placed: None,
                queued: 0,
            })
        })
    }

    /// Puts an entry where its tick will find it, if that is not too far; `current` is the tick up to
    /// which the wheel turned. Gives the tick at which it is looked at.
    fn enqueue(&mut self, key: usize, (deadline, tick): (Instant, u64), current: u64) -> u64 {
        let tick = tick.clamp(current + 1, current + SLOTS - 1);
        let tick = if tick - current > FAR { tick - tick % COARSE } else { tick };
        let entry = &mut self.entries[key];
        entry.next = tick;
        entry.placed = Some(deadline);
        entry.queued += 1;
        self.queued += 1;
        let slot = tick % SLOTS;
        self.occupied[(slot / 64) as usize] |= 1 << (slot % 64);
        self.slots[slot as usize].push(key);
        tick
    }
}

impl Timer {
    /// Sets the deadline, in place of the one before.
    pub fn arm(&self, deadline: Instant) {
        let mut inner = self.wheel.inner.borrow_mut();
        let key = self.key.get().unwrap_or_else(|| {
            let key = inner.enter();
            self.key.set(Some(key));
            key
        });
        let entry = &mut inner.entries[key];
        entry.deadline = Some(deadline);
        entry.expired = false;
        if entry.placed.is_some_and(|placed| placed <= deadline) {
            return;
        }
        let tick = self.wheel.tick_after(deadline);
        if tick < entry.next {
            // A wheel that had nothing to do has not turned: catch up before placing.
            if inner.queued == 0 {
                let now = self.wheel.tick_after(Instant::now()).saturating_sub(1);
                inner.handled = inner.handled.max(now);
            }
            let handled = inner.handled;
            let slot = inner.enqueue(key, (deadline, tick), handled);
            if slot < inner.sleeping_for {
                self.wheel.earlier.notify_one();
            }
        }
    }

    /// Sets an earlier deadline, if one is set.
    pub fn bring_forward(&self, deadline: Instant) {
        let is_earlier = self.key.get().is_some_and(|key| {
            let set = self.wheel.inner.borrow().entries[key].deadline;
            set.is_some_and(|set| deadline < set)
        });
        if is_earlier {
            self.arm(deadline);
        }
    }

    /// Its place in the wheel, once it has been armed; its own as long as it lives.
    pub fn key(&self) -> Option<usize> {
        self.key.get()
    }

    /// Takes the deadline away.
    pub fn disarm(&self) {
        if let Some(key) = self.key.get() {
            let entry = &mut self.wheel.inner.borrow_mut().entries[key];
            entry.deadline = None;
            entry.expired = false;
        }
    }

    /// Whether a deadline is set whose passing has not been taken note of: whoever arms a timer
    /// that is not armed cannot lose an expiry.
    pub fn is_armed(&self) -> bool {
        self.key.get().is_some_and(|key| {
            let entry = &self.wheel.inner.borrow().entries[key];
            entry.deadline.is_some() || entry.expired
        })
    }

    /// Ready once the deadline has passed; ready again only after the next [`Timer::arm`].
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.key.get() else { return Poll::Pending };
        let entry = &mut self.wheel.inner.borrow_mut().entries[key];
        if entry.expired {
            entry.expired = false;
            return Poll::Ready(());
        }
        note(&mut entry.waker, cx.waker());
        Poll::Pending
    }

    /// Runs a future until it is done or the deadline passes.
    ///
    /// # Errors
    /// [`Expired`] once the deadline has passed.
    pub async fn within<F: Future>(
        &self,
        deadline: Instant,
        future: F,
    ) -> Result<F::Output, Expired> {
        self.arm(deadline);
        let mut future = std::pin::pin!(future);
        let result = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_expired(cx).map(|()| Err(Expired)),
        })
        .await;
        self.disarm();
        result
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(key) = self.key.get() else { return };
        let mut inner = self.wheel.inner.borrow_mut();
        let entry = &mut inner.entries[key];
        if entry.queued == 0 {
            inner.entries.remove(key);
            return;
        }
        entry.deadline = None;
        entry.expired = false;
        // Dropped behind the borrow, as it may run other people's code.
        let waker = entry.waker.take();
        inner.spare.push(key);
        drop(inner);
        drop(waker);
    }
}

/// A deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

#[cfg(test)]
mod tests;
