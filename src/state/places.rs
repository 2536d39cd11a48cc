//! Places of which there are only so many: client connections, of the process or of a listener.
//!
//! Shortly before they have run out, connections on which nothing happens are asked to leave. So
//! there is always a little headroom, as long as there is anybody to be asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::ListenerState;

/// With fewer places free than this share, as a divisor, connections are asked to leave,
const LEAST: usize = 64;
/// until so many are free: each search for them is to be worth it.
const ENOUGH: usize = 32;

/// How many are taken, and who comes and goes.
#[derive(Debug, Default)]
pub struct Places {
    taken: AtomicUsize,
    leaving: AtomicUsize,
    waiting: AtomicUsize,
    left: Notify,
}

/// Somebody who waits for a place, counted until dropped.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Places);

impl Places {
    /// Takes one, whether or not there is one.
    pub fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one of so many, if there is one.
    pub fn take_of(&self, limit: usize) -> bool {
        let next = |taken| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Gives one back.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.tell_who_waits();
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// One of those who hold a place was asked to leave.
    pub fn leaving(&self) {
        self.leaving.fetch_add(1, Ordering::Relaxed);
    }

    /// It has left, or stays after all.
    pub fn no_longer_leaving(&self) {
        self.leaving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether somebody was asked to leave and has not yet left.
    pub fn is_anybody_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) > 0
    }

    /// How many more are to be asked to leave, where there may be `limit` and only `used` of what
    /// limits them are in use.
    pub fn missing(&self, limit: usize, used: usize) -> usize {
        let staying = used.saturating_sub(self.leaving.load(Ordering::Relaxed));
        missing(limit, staying, self.waiting.load(Ordering::Relaxed))
    }

    /// How many of these are for those who wait, and not for headroom.
    pub fn in_need(&self, limit: usize, used: usize) -> usize {
        let staying = used.saturating_sub(self.leaving.load(Ordering::Relaxed));
        match self.waiting.load(Ordering::Relaxed) {
            0 => 0,
            waiting => staying.saturating_add(waiting).saturating_sub(limit),
        }
    }

    /// Counts one who waits for a place.
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Wakes one who waits: there may be a place.
    pub fn tell_who_waits(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.left.notify_one();
        }
    }
}

impl Waiting<'_> {
    /// Waits until somebody has left.
    pub async fn until_somebody_leaves(&self) {
        self.0.left.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's place on a listener, until dropped.
#[derive(Debug)]
pub struct Place {
    listener: Arc<ListenerState>,
    /// It is one more than there may be: its client is to be refused.
    pub over: bool,
}

impl Place {
    /// A place on a listener where there may be so many.
    pub fn take(listener: &Arc<ListenerState>, limit: usize) -> Place {
        let over = !listener.connections.take_of(limit);
        if over {
            listener.connections.take();
        }
        Place { listener: Arc::clone(listener), over }
    }

    /// The same, if there is one.
    pub fn take_free(listener: &Arc<ListenerState>, limit: usize) -> Option<Place> {
        let taken = listener.connections.take_of(limit);
        taken.then(|| Place { listener: Arc::clone(listener), over: false })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listener.connections.give_back();
    }
}

/// What a connection was doing that was closed to make room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idleness {
    /// Its TLS handshake had not ended.
    Handshake,
    /// Nothing had come on it.
    Silent,
    /// The head of a request had not ended.
    SlowHead,
    /// It waited for the next request.
    Idle,
    /// It left what was held for it where it was, and too much was held in all.
    Slow,
}

impl Idleness {
    /// All, by index.
    pub const ALL: [Idleness; 5] =
        [Idleness::Handshake, Idleness::Silent, Idleness::SlowHead, Idleness::Idle, Idleness::Slow];

    /// Where it stands in [`Idleness::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Idleness::Handshake => "handshake",
            Idleness::Silent => "silent",
            Idleness::SlowHead => "slow_head",
            Idleness::Idle => "idle",
            Idleness::Slow => "slow",
        }
    }
}

fn missing(limit: usize, staying: usize, waiting: usize) -> usize {
    // It may be more than there may be: backends take from the same.
    if staying.saturating_add((limit / LEAST).max(waiting)) <= limit {
        return 0;
    }
    staying + (limit / ENOUGH).max(waiting) - limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_to_leave_while_there_is_room() {
        for (limit, staying, waiting) in [
            (10_000, 9_844, 0),
            (100, 99, 0),
            (100, 99, 1),
            (63, 63, 0),
            (1, 1, 0),
            (usize::MAX, 1_000_000, 3),
        ] {
            assert_eq!(missing(limit, staying, waiting), 0, "{limit} {staying} {waiting}");
        }
    }

    #[test]
    fn so_many_are_asked_to_leave_that_there_is_some_headroom() {
        for (limit, staying, waiting, expected) in [
            (10_000, 9_845, 0, 157),
            (10_000, 10_000, 4, 312),
            (100, 100, 0, 3),
            (100, 99, 2, 2),
            (100, 110, 1, 13),
            (10, 10, 1, 1),
            (1, 1, 1, 1),
        ] {
            assert_eq!(missing(limit, staying, waiting), expected, "{limit} {staying} {waiting}");
        }
    }

    #[test]
    fn who_is_leaving_is_not_asked_for_again() {
        let places = Places::default();
        let _waiting = places.wait();
        assert_eq!(places.missing(10, 10), 1);
        places.leaving();
        assert_eq!(places.missing(10, 10), 0);
        places.no_longer_leaving();
        assert_eq!(places.missing(10, 10), 1);
    }

    #[test]
    fn who_waits_is_in_need_until_somebody_leaves() {
        let places = Places::default();
        let in_need = |used| places.in_need(100, used);
        assert_eq!([100, 110].map(in_need), [0, 0]);
        let _waiting = [places.wait(), places.wait()];
        assert_eq!([98, 99, 100, 110].map(in_need), [0, 1, 2, 12]);
        places.leaving();
        assert_eq!([98, 99, 100, 110].map(in_need), [0, 0, 1, 11]);
        assert_eq!(places.in_need(usize::MAX, 100), 0);
    }
}
