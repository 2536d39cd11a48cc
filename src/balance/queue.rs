//! Where requests wait for a slot: bounded, first come first served, across all workers.
//!
//! Three rules make it fair and lose nothing, neither a slot nor a waiter:
//! 1. Who comes while somebody waits goes to the end of the line, without a look at the slots
//!    ([`Queue::is_empty`] is one load).
//! 2. Who found no slot stands in line first and tries once more then: a slot that was freed in
//!    between is either seen by that try, or freed by somebody who sees the line.
//! 3. Who frees a slot looks at the line after that; so does a waiter who leaves with a slot that
//!    was handed over too late.
//!
//! So after every event that may have changed something ([`Queue::join`] and [`Queue::hand_over`])
//! the waiters try to take a slot, the oldest first, under the lock of the line, until one finds that
//! there is none for anybody. Who waits for one certain backend is passed over while that is full, and
//! keeps his place. Whoever frees a slot hands it over thereby, whichever worker the waiter is on.
//! Taking a slot must not exceed a limit even for a moment (compare and swap, not add and undo): a
//! slot that only seemed to be taken would be passed over by the one try that counts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Why somebody may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What a try to take a slot for a waiter came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try<S> {
    /// A slot.
    Slot(S),
    /// None that would do for this one; for those behind, perhaps.
    NotThisOne,
    /// None for anybody.
    Nobody,
}

/// A line of waiters; `W` is how one is given its slot, a channel's sender say.
#[derive(Debug)]
pub struct Queue<W> {
    /// How many stand in line, for those who do not need to lock it.
    waiting: AtomicUsize,
    line: Mutex<Line<W>>,
}

#[derive(Debug)]
struct Line<W> {
    next: u64,
    /// By ticket, ascending.
    waiters: VecDeque<(Ticket, W)>,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        let line = Line { next: 0, waiters: VecDeque::new() };
        Self { waiting: AtomicUsize::new(0), line: Mutex::new(line) }
    }
}

impl<W> Queue<W> {
    /// Whether nobody waits: then, and only then, a newcomer may try to take a slot.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Stands in line, of at most `size`, and tries for all who do: the newcomer's slot may have been
    /// given when this returns. For `take` and `give` see [`hand_over`](Self::hand_over).
    ///
    /// # Errors
    /// If the line is full.
    pub fn join<S>(
        &self,
        size: usize,
        waiter: W,
        mut take: impl FnMut(&mut W) -> Try<S>,
        mut give: impl FnMut(W, S) -> Result<(), S>,
    ) -> Result<Ticket, Full> {
        let mut line = self.lock();
        let mut returned = Vec::new();
        if line.waiters.len() >= size {
            self.serve(&mut line, &mut returned, &mut take, &mut give);
        }
        let joined = (line.waiters.len() < size).then(|| {
            let ticket = Ticket(line.next);
            line.next += 1;
            line.waiters.push_back((ticket, waiter));
            self.publish(&line);
            self.serve(&mut line, &mut returned, &mut take, &mut give);
            ticket
        });
        drop(line);
        // Whoever is told of these looks at the line in turn, so the lock must be open.
        drop(returned);
        joined.ok_or(Full)
    }

    /// To be called by whoever freed a slot, after it is free, or made more of them: a backend that
    /// became usable, a higher limit.
    ///
    /// `take` tries to take a slot for a waiter, and `give` gives it to them; one who has left
    /// meanwhile returns it, and it is dropped when the line is open again: a slot that is freed by
    /// that goes to the next. Both run under the lock of the line, so they must be short and must not
    /// call into it, which a slot does that is dropped.
    pub fn hand_over<S>(
        &self,
        mut take: impl FnMut(&mut W) -> Try<S>,
        mut give: impl FnMut(W, S) -> Result<(), S>,
    ) {
        if self.is_empty() {
            return;
        }
        let mut returned = Vec::new();
        let mut line = self.lock();
        self.serve(&mut line, &mut returned, &mut take, &mut give);
        drop(line);
        drop(returned);
    }

    /// Leaves the line, for having waited too long or because the client left. `false` if the
    /// waiter was not in it any more: then it has a slot or is just being given one.
    pub fn leave(&self, ticket: Ticket) -> bool {
        let mut line = self.lock();
        let Ok(at) = line.waiters.binary_search_by_key(&ticket, |waiter| waiter.0) else {
            return false;
        };
        let left = line.waiters.remove(at);
        self.publish(&line);
        drop(line);
        drop(left);
        true
    }

    /// Serves as many as there are slots.
    fn serve<S>(
        &self,
        line: &mut Line<W>,
        returned: &mut Vec<S>,
        take: &mut impl FnMut(&mut W) -> Try<S>,
        give: &mut impl FnMut(W, S) -> Result<(), S>,
    ) {
        let mut at = 0;
        while let Some((_, waiter)) = line.waiters.get_mut(at) {
            match take(waiter) {
                Try::Nobody => break,
                Try::NotThisOne => at += 1,
                Try::Slot(slot) => {
                    let Some((_, waiter)) = line.waiters.remove(at) else { break };
                    self.publish(line);
                    returned.extend(give(waiter, slot).err());
                }
            }
        }
    }

    fn publish(&self, line: &Line<W>) {
        self.waiting.store(line.waiters.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Line<W>> {
        // Every change of the line is whole before anything foreign is called.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
