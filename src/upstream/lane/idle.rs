//! Connections that lie unused: how long they are good, and what becomes of them.
//!
//! A backend closes them too, at an age of its own, and a request that is sent in that moment is lost.
//! So what it does and says about that is learned, and connections are let go before.

use std::time::{Duration, Instant};

use super::{Http1, Idle, Lane};

/// What a backend says in every answer is passed on so often.
const SAID_AGAIN: Duration = Duration::from_secs(60);

impl Lane {
    /// Closes what has been unused for longer than is good. To be called every second or so.
    pub(in crate::upstream) fn close_expired(&self, now: Instant) {
        self.learn_limit(now);
        let limit = self.keep_for.get();
        let expired = |since: Instant| now.saturating_duration_since(since) >= limit;
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain_mut(|idle| {
            let keep = !expired(idle.since) && self.is_open(idle, now);
            idle.seen = now;
            keep
        });
        idle.iter().for_each(|idle| idle.connection.release());
        self.cells().idle_out.add((before - idle.len()) as u64);
        self.http2
            .borrow_mut()
            .retain(|http2| http2.is_alive() && !http2.idle_since().is_some_and(expired));
    }

    /// Closes all that is unused.
    pub(in crate::upstream) fn close_unused(&self) {
        let unused = std::mem::take(&mut *self.idle.borrow_mut());
        self.cells().idle_out.add(unused.len() as u64);
        self.http2.borrow_mut().retain(|http2| http2.idle_since().is_none());
    }

    /// Takes the warmest connection that is still good, and says how long it was idle; on the way,
    /// those that are not are closed.
    pub(super) fn take_idle(&self, now: Instant) -> Option<(Http1, Duration)> {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        let limit = self.keep_for.get();
        let good = |idle: Idle| {
            let age = now.saturating_duration_since(idle.since);
            (age < limit && self.is_open(&idle, now)).then_some((idle.connection, age))
        };
        let taken = std::iter::from_fn(|| idle.pop()).find_map(good);
        self.cells().idle_out.add((before - idle.len()) as u64);
        taken
    }

    /// The backend said how long it keeps unused connections.
    pub(super) fn on_announced(&self, timeout: Duration, now: Instant) {
        let known = self.announced.get().is_some_and(|(said, at)| {
            said == timeout && now.saturating_duration_since(at) < SAID_AGAIN
        });
        if !known {
            self.announced.set(Some((timeout, now)));
            self.backend.keep_alive.on_announced(now, timeout);
            self.learn_limit(now);
        }
    }

    fn learn_limit(&self, now: Instant) {
        let allowed = self.settings.borrow().keepalive_timeout;
        let learned = self.backend.keep_alive.limit(now);
        self.keep_for.set(learned.map_or(allowed, |learned| learned.min(allowed)));
    }

    /// Whether the backend has left a connection open. If not, its age is learned from, as of when it
    /// was last seen open: to take backends for less patient than they are does no harm.
    fn is_open(&self, idle: &Idle, now: Instant) -> bool {
        let open = idle.connection.is_open();
        if !open && idle.connection.violation().is_none() {
            let age = idle.seen.saturating_duration_since(idle.since);
            self.backend.keep_alive.on_closed(now, age);
        }
        open
    }
}
