//! Requests that wait for a slot on one of a pool's backends.
//!
//! The [`Queue`] has the rules; here is what a waiter wants, how a slot is taken for it, and how it is
//! told. A slot that is dropped hands itself over ([`WaitingLine::hand_over`]), so does whoever lets a
//! backend take more: the governor with a new limit, the publisher with a new usable set.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::backend::BackendId;
use super::pool::PoolState;
use super::version::{NotPicked, PickWish, Picked, Version};
use crate::balance::queue::{Full, Queue, Ticket, Try};

/// What a waiter is told: its slot, or that there is nobody left to wait for.
pub type Answer = Result<Picked, NotPicked>;

/// The line of one pool.
#[derive(Debug, Default)]
pub struct WaitingLine(Queue<Waiter>);

/// One request in line.
#[derive(Debug)]
pub struct Waiter {
    /// The pool whose line it is.
    pub pool: Arc<PoolState>,
    /// The values of its `Cookie` fields, where affinity reads them.
    pub cookies: Vec<Vec<u8>>,
    /// Of the client's address, for `ip_hash`.
    pub hash: u64,
    /// Backends that have failed this request.
    pub tried: SmallVec<[BackendId; 3]>,
    /// For ties and lots: a slot may be taken for it on any worker.
    pub rng: fastrand::Rng,
    /// Where it is told.
    pub answer: oneshot::Sender<Answer>,
    /// The version that it waits for; chosen once, or the shares of a split would be those of the
    /// slots that become free.
    version: Option<Arc<Version>>,
}

impl Waiter {
    /// A request that is to stand in line, and where it hears of its slot.
    pub fn new(pool: &Arc<PoolState>, rng: fastrand::Rng) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, hears) = oneshot::channel();
        let waiter = Waiter {
            pool: Arc::clone(pool),
            cookies: Vec::new(),
            hash: 0,
            tried: SmallVec::new(),
            rng,
            answer,
            version: None,
        };
        (waiter, hears)
    }

    /// Tries to take a slot for it.
    fn take(&mut self) -> Try<Answer> {
        let split = self.pool.split.load();
        let serving = split.shares.iter().filter(|share| share.share > 0.0);
        let chosen = self.version.take();
        let kept = chosen
            .filter(|version| serving.clone().any(|share| Arc::ptr_eq(&share.version, version)));
        let cookies = || self.cookies.iter().map(Vec::as_slice);
        let choose = || split.choose(self.hash, cookies, &mut self.rng).cloned();
        let Some(version) = kept.or_else(choose) else {
            return Try::Slot(Err(NotPicked::Nobody));
        };
        let bound_to = version.affinity.as_ref().and_then(|affinity| affinity.member(cookies()));
        let wish = PickWish { bound_to, hash: self.hash, tried: &self.tried };
        let mut picked = version.pick(&wish, &mut self.rng);
        if let (Ok(picked), Some(shadow)) = (&mut picked, &split.shadow) {
            picked.shadow = shadow.draw(&mut self.rng);
        }
        let others_may = !self.tried.is_empty() || serving.count() > 1;
        self.version = Some(version);
        match picked {
            Err(NotPicked::Full) if !others_may => Try::Nobody,
            Err(NotPicked::Full | NotPicked::BoundIsFull) => Try::NotThisOne,
            answer => Try::Slot(answer),
        }
    }

    fn give(self, answer: Answer) -> Result<(), Answer> {
        self.answer.send(answer)
    }
}

impl WaitingLine {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Stands in line behind at most `size - 1` others; the slot may be there when this returns.
    ///
    /// # Errors
    /// If the line is full.
    pub fn join(self: &Arc<Self>, size: usize, waiter: Waiter) -> Result<Place, Full> {
        let ticket = self.0.join(size, waiter, Waiter::take, Waiter::give)?;
        Ok(Place { line: Arc::clone(self), ticket })
    }

    /// To be called after a slot became free, or there may be more of them.
    pub fn hand_over(&self) {
        self.0.hand_over(Waiter::take, Waiter::give);
    }
}

/// A place in line, left when it is dropped.
#[derive(Debug)]
pub struct Place {
    line: Arc<WaitingLine>,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.0.leave(self.ticket);
    }
}

#[cfg(test)]
mod tests;
