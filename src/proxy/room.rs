//! Room for those who come.
//!
//! Client connections are limited: for the process, by its files, on a listener. Whoever holds one
//! and does nothing with it keeps others out. So while hardly any place is left, the workers ask
//! connections to leave, each worker its share. First those that have kept us waiting for a handshake
//! or a head for longer than anybody needs, the longest first; then those that have been idle the
//! longest; and only then, the oldest first, those that were new or in use a moment ago. So who comes
//! has time to speak even in a flood of others that do not. Never one with a request under way, nor a
//! tunnel.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::ConnectionState;
use super::worker::Worker;
use crate::state::{Idleness, Listener, Mail};

/// Time enough for a handshake and a head, and for the next request of a page.
const FRESH: Duration = Duration::from_secs(1);
/// A connection that is told to close has so long for it.
const FAREWELL: Duration = Duration::from_millis(250);
/// Between two searches, if there were too few to be found.
const IN_VAIN: Duration = Duration::from_millis(20);

/// A connection that was asked to leave.
#[derive(Debug)]
pub struct Leaving {
    /// Then it is closed.
    pub by: Instant,
    idleness: Idleness,
}

/// Who leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    fresh: bool,
    served: bool,
    since: Instant,
}

impl Rank {
    fn new(idleness: Idleness, since: Instant, now: Instant) -> Rank {
        let fresh = now.saturating_duration_since(since) < FRESH;
        Rank { fresh, served: !fresh && idleness == Idleness::Idle, since }
    }
}

/// Has room made for the next who come on this listener, if there is hardly any.
pub fn look_ahead(worker: &Worker, listener: &Listener) {
    let clients = worker.shared.files.missing_for_clients(worker.snapshot().max_connections);
    if clients > 0 || missing_on(listener) > 0 {
        worker.shared.broadcast(|| Mail::MakeRoom);
    }
}

/// Asks this worker's share of connections to leave, if there is hardly any room.
pub fn make(worker: &Worker) {
    let snapshot = worker.snapshot();
    if !worker.shared.files.has_room_for_unused() {
        worker.upstreams.close_unused();
    }
    let missing = worker.shared.files.missing_for_clients(snapshot.max_connections);
    let mut asked = ask(worker, missing, |_| true);
    for listener in &snapshot.listeners {
        asked += ask(worker, missing_on(listener), |connection| {
            Arc::ptr_eq(&connection.counted, &listener.state)
        });
    }
    if asked > 0
        && let Some(also) = worker.shared.scarcity_complaints.admit(worker.shared.uptime())
    {
        tracing::warn!(
            connections = asked,
            also,
            "hardly any connection is left: closing idle ones to make room; raise max_connections, \
             or lower keepalive_timeout"
        );
    }
}

fn missing_on(listener: &Listener) -> usize {
    let (limit, places) = (listener.limits.max_connections, &listener.state.connections);
    places.missing(limit, places.taken())
}

/// Gives how many were asked.
fn ask(worker: &Worker, missing: usize, of: impl Fn(&ConnectionState) -> bool) -> usize {
    let share = missing.div_ceil(worker.shared.workers.len());
    if share == 0 {
        return 0;
    }
    let now = Instant::now();
    if worker.in_vain.get().is_some_and(|then| now - then < IN_VAIN) {
        return 0;
    }
    let connections = worker.connections.borrow();
    let mut idle: Vec<(Rank, Idleness, &Rc<ConnectionState>)> = connections
        .iter()
        .filter(|(_, connection)| of(connection))
        .filter_map(|(_, connection)| {
            let (idleness, since) = connection.idleness()?;
            Some((Rank::new(idleness, since, now), idleness, connection))
        })
        .collect();
    if idle.len() > share {
        idle.select_nth_unstable_by_key(share, |(rank, ..)| *rank);
        idle.truncate(share);
    }
    worker.in_vain.set((idle.len() < share).then_some(now));
    idle.iter().for_each(|(_, idleness, connection)| connection.ask_to_leave(*idleness, now));
    idle.len()
}

impl ConnectionState {
    /// What it waits for, and since when, if nothing happens on it.
    fn idleness(&self) -> Option<(Idleness, Instant)> {
        if self.active.get() > 0 || self.leaving.borrow().is_some() {
            return None;
        }
        let head_since = self.io.head_since.get();
        if !self.spoken.get() {
            let idleness = match head_since {
                _ if self.is_shaking_hands() => Idleness::Handshake,
                Some(_) => Idleness::SlowHead,
                None => Idleness::Silent,
            };
            return Some((idleness, self.opened));
        }
        if !self.io.resting.get() || self.io.blocked_since.get().is_some() {
            return None;
        }
        Some(match head_since {
            Some(since) => (Idleness::SlowHead, since),
            None => (Idleness::Idle, self.idle_since.get()),
        })
    }

    /// Asks it to leave, for this reason. Whoever was asked before is counted already.
    pub(super) fn ask_to_leave(&self, idleness: Idleness, now: Instant) {
        match &mut *self.leaving.borrow_mut() {
            Some(leaving) => (leaving.by, leaving.idleness) = (now, idleness),
            none => {
                self.worker.shared.files.clients.leaving();
                self.counted.connections.leaving();
                *none = Some(Leaving { by: now, idleness });
            }
        }
        match self.timer.key() {
            Some(key) => self.worker.wheel.expire(key),
            None => self.timer.arm(now),
        }
    }

    /// Whether it is to be closed now to make room, whatever it does.
    pub(super) fn is_to_leave(&self, now: Instant) -> bool {
        self.leaving.borrow().as_ref().is_some_and(|leaving| leaving.by <= now)
    }

    /// Whether it is to leave because too much is held for those who are slow: nobody would hear a word.
    pub(super) fn is_too_slow(&self) -> bool {
        self.leaving.borrow().as_ref().is_some_and(|leaving| leaving.idleness == Idleness::Slow)
    }

    /// It is told to close, and has a moment for it.
    pub(super) fn say_farewell(&self, now: Instant) {
        self.closing.set(true);
        if let Some(leaving) = &mut *self.leaving.borrow_mut() {
            leaving.by = now + FAREWELL;
        }
    }

    /// If it was asked to leave, it no longer is: it has a request, or it has ended. Gives what it
    /// had been waiting for.
    pub(super) fn stay(&self) -> Option<Idleness> {
        let leaving = self.leaving.take()?;
        self.worker.shared.files.clients.no_longer_leaving();
        self.counted.connections.no_longer_leaving();
        Some(leaving.idleness)
    }

    /// It has ended.
    pub(super) fn left(&self) {
        if let Some(idleness) = self.stay() {
            let listener = self.listener.borrow();
            listener.state.cells.cell(self.worker.id).made_room[idleness.index()].add(1);
            tracing::debug!(listener = %listener.name, peer = ?self.peer, was = idleness.label(),
                "closed a connection to make room");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_first() {
        let now = Instant::now() + Duration::from_secs(100);
        let rank = |idleness, ms| Rank::new(idleness, now - Duration::from_millis(ms), now);
        let order = [
            rank(Idleness::SlowHead, 5000),
            rank(Idleness::Handshake, 3000),
            rank(Idleness::Silent, 1000),
            rank(Idleness::Idle, 60_000),
            rank(Idleness::Idle, 1000),
            rank(Idleness::Silent, 999),
            rank(Idleness::Idle, 20),
            rank(Idleness::SlowHead, 10),
        ];
        assert!(order.is_sorted());
    }
}
