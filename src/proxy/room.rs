//! Room for those who come.
//!
//! Client connections are limited: for the process, by its files, on a listener. Whoever holds one
//! and does nothing with it keeps others out. So while hardly any place is left, the workers ask
//! connections to leave, each worker its share. First those that have kept us waiting for a handshake
//! or a head for longer than anybody needs, the longest first; then those that have been idle the
//! longest. Those that were new or in use a moment ago are asked only for who is waiting for a place
//! already, the oldest first, and never before they have had their time: a place that goes to the next
//! before a request can have come serves nobody. So who comes has time to speak even in a flood of
//! others that do not, and a flood has to come again and again. Never one with a request under way, nor
//! a tunnel.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::ConnectionState;
use super::worker::Worker;
use crate::state::{Idleness, Listener, ListenerState, Snapshot};

/// Time enough for a handshake and a head, and for the next request of a page.
const FRESH: Duration = Duration::from_secs(1);
/// So long may stay who has just come, or has just ended its handshake, whoever waits. Most need no
/// more for their first word.
pub const WELCOME: Duration = Duration::from_millis(250);
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

/// How many are to be asked to leave.
#[derive(Clone, Copy, Debug)]
struct Missing {
    /// That there may be some headroom.
    ahead: usize,
    /// Of these, for those who wait.
    in_need: usize,
}

impl Missing {
    fn in_all(worker: &Worker, snapshot: &Snapshot) -> Missing {
        let (files, most) = (&worker.shared.files, snapshot.max_connections);
        let taken = files.clients.taken();
        let for_files = taken.saturating_add(files.spare_for_clients());
        let in_need = files.clients.in_need(most.min(for_files), taken);
        Missing { ahead: files.missing_for_clients(most), in_need }
    }

    fn on(listener: &Listener) -> Missing {
        let (limit, places) = (listener.limits.max_connections, &listener.state.connections);
        let taken = places.taken();
        Missing { ahead: places.missing(limit, taken), in_need: places.in_need(limit, taken) }
    }

    /// A worker's.
    fn share(self, workers: usize) -> Missing {
        Missing { ahead: self.ahead.div_ceil(workers), in_need: self.in_need.div_ceil(workers) }
    }
}

/// Whose places are short: a listener's, or the process's.
type Scope<'a> = Option<&'a Arc<ListenerState>>;

/// Searches that found too few of late. One scope tells nothing about the others, and that nobody was
/// found for some headroom nothing about who would be found for those who wait.
#[derive(Debug, Default)]
pub struct InVain(RefCell<Vec<Search>>);

#[derive(Debug)]
struct Search {
    scope: Option<Arc<ListenerState>>,
    in_need: bool,
    then: Instant,
}

impl InVain {
    fn note(&self, scope: Scope<'_>, in_need: bool, then: Instant) {
        self.0.borrow_mut().push(Search { scope: scope.cloned(), in_need, then });
    }

    fn is_of_late(&self, scope: Scope<'_>, in_need: bool, now: Instant) -> bool {
        let mut searches = self.0.borrow_mut();
        searches.retain(|search| now.saturating_duration_since(search.then) < IN_VAIN);
        let scope = scope.map(Arc::as_ptr);
        searches.iter().any(|search| {
            search.scope.as_ref().map(Arc::as_ptr) == scope && search.in_need == in_need
        })
    }
}

/// Has room made for the next who come on this listener, if there is hardly any.
pub fn look_ahead(worker: &Worker, listener: &Listener) {
    let clients = worker.shared.files.missing_for_clients(worker.snapshot().max_connections);
    if clients > 0 || Missing::on(listener).ahead > 0 {
        worker.shared.remind_of_room();
    }
}

/// Asks this worker's share of connections to leave, if there is hardly any room, in a moment: what
/// the kernel has for them is read first. It may be the very request that one was waited for.
pub fn make(worker: &Rc<Worker>) {
    let this = Rc::clone(worker);
    worker.on_duty(async move {
        behind_what_has_come().await;
        this.shared.workers[this.id.index()].room_is_made();
        search(&this);
    });
}

/// Goes on behind a look at all sockets, and behind the tasks that were woken by that.
async fn behind_what_has_come() {
    tokio::task::yield_now().await;
}

fn search(worker: &Worker) {
    let snapshot = worker.snapshot();
    if !worker.shared.files.has_room_for_unused() {
        worker.upstreams.close_unused();
    }
    let mut asked = ask(worker, None, Missing::in_all(worker, &snapshot));
    for listener in &snapshot.listeners {
        asked += ask(worker, Some(&listener.state), Missing::on(listener));
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

/// Gives how many were asked.
fn ask(worker: &Worker, scope: Scope<'_>, missing: Missing) -> usize {
    let share = missing.share(worker.shared.workers.len());
    let (now, in_need) = (Instant::now(), share.in_need > 0);
    if share.ahead == 0 || worker.in_vain.is_of_late(scope, in_need, now) {
        return 0;
    }
    let connections = worker.connections.borrow();
    let mut able: Vec<(Rank, Idleness, &Rc<ConnectionState>)> = connections
        .iter()
        .filter(|(_, connection)| scope.is_none_or(|of| Arc::ptr_eq(of, &connection.counted)))
        .filter_map(|(_, connection)| {
            let (idleness, since) = connection.idleness()?;
            let rank = Rank::new(idleness, since, now);
            let may_stay = rank.fresh && (!in_need || connection.is_welcome(now));
            (!may_stay).then_some((rank, idleness, connection))
        })
        .collect();
    if able.len() > share.ahead {
        able.select_nth_unstable_by_key(share.ahead, |(rank, ..)| *rank);
        able.truncate(share.ahead);
    }
    able.sort_unstable_by_key(|(rank, ..)| *rank);
    let long_idle = able.partition_point(|(rank, ..)| !rank.fresh);
    able.truncate(long_idle.max(share.in_need));
    if able.len() < if in_need { share.in_need } else { share.ahead } {
        worker.in_vain.note(scope, in_need, now);
    }
    able.iter().for_each(|(_, idleness, connection)| connection.ask_to_leave(*idleness, now));
    able.len()
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
            return Some((idleness, self.idle_since.get()));
        }
        if !self.io.resting.get() || self.io.blocked_since.get().is_some() {
            return None;
        }
        Some(match head_since {
            Some(since) => (Idleness::SlowHead, since),
            None => (Idleness::Idle, self.idle_since.get()),
        })
    }

    /// Whether it has not had its time yet: until its first request, since it could send that.
    fn is_welcome(&self, now: Instant) -> bool {
        let came = if self.spoken.get() { self.opened } else { self.idle_since.get() };
        now.saturating_duration_since(came) < WELCOME
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
    use std::cell::Cell;

    use tokio::net::UnixStream;
    use tokio::runtime::{Builder, LocalRuntime};
    use tokio::task::{spawn_local, yield_now};

    use super::*;

    #[test]
    fn what_has_come_is_read_first() {
        let runtime: LocalRuntime =
            Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let (client, server) = UnixStream::pair().unwrap();
            let (read, waiting) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
            let (reading, waits) = (Rc::clone(&read), Rc::clone(&waiting));
            spawn_local(async move {
                waits.set(true);
                server.readable().await.unwrap();
                reading.set(true);
            });
            while !waiting.get() {
                yield_now().await;
            }
            client.writable().await.unwrap();
            client.try_write(b"asked").unwrap();
            let looking = spawn_local(async move {
                behind_what_has_come().await;
                read.get()
            });
            assert!(looking.await.unwrap());
        });
    }

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

    #[test]
    fn a_search_in_vain_says_nothing_of_others() {
        let now = Instant::now();
        let listeners = [Arc::new(ListenerState::new(1)), Arc::new(ListenerState::new(1))];
        let in_vain = InVain::default();
        in_vain.note(Some(&listeners[0]), true, now);
        assert!(in_vain.is_of_late(Some(&listeners[0]), true, now));
        assert!(!in_vain.is_of_late(Some(&listeners[0]), false, now));
        assert!(!in_vain.is_of_late(Some(&listeners[1]), true, now));
        assert!(!in_vain.is_of_late(None, true, now));
        assert!(!in_vain.is_of_late(Some(&listeners[0]), true, now + IN_VAIN));
    }
}
