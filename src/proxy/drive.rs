//! Driving a connection: whoever speaks HTTP on it is polled, and between polls everything that may
//! end the connection from our side is looked at. A slow head, a client that takes nothing, idleness,
//! a wish to close.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::ConnectionState;
use super::relief;
use super::worker::Worker;

/// A new connection that is to close gets so long for its first request, which is probably on its
/// way.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How the driving of a connection came to its end.
pub enum Over<T> {
    /// What was driven is done.
    Done(T),
    /// A head took too long.
    SlowHead,
    /// There has been no request for a while, and nothing is left to do: it can be parked.
    Idle,
    /// Nothing is to be said any more.
    Drop,
}

/// What HTTP/2 is told with a poll. Under HTTP/1.1 the connection's state says it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing new.
    GoOn,
    /// Finish what has begun, then close. Said once.
    Close,
}

/// Polls whoever speaks HTTP, and in between whatever may end the connection from our side.
pub async fn drive<T>(
    state: &ConnectionState,
    mut poll: impl FnMut(&mut Context<'_>, Wish) -> Poll<T>,
) -> Over<T> {
    let mut told = false;
    state.arm();
    poll_fn(|cx| {
        let _turn = state.worker.turn();
        loop {
            // What has already arrived is read before a close is asked for, so that a request
            // which crossed our wish on its way is served.
            if let Poll::Ready(result) = poll(cx, Wish::GoOn) {
                return Poll::Ready(Over::Done(result));
            }
            if state.closing.get() && !told && state.may_be_told_to_close() {
                told = true;
                if let Poll::Ready(result) = poll(cx, Wish::Close) {
                    return Poll::Ready(Over::Done(result));
                }
            }
            state.note_taken();
            // Asked before anything is armed: that would take an expiry back.
            if state.timer.poll_expired(cx).is_pending() {
                state.arm_for_io();
                relief::look(state);
                return Poll::Pending;
            }
            let now = Instant::now();
            if state.is_to_leave(now) {
                if state.note_too_slow() || told || !state.may_be_told_to_close() {
                    return Poll::Ready(Over::Drop);
                }
                state.say_farewell(now);
                state.arm();
                continue;
            }
            if state.is_to_be_parked(now) {
                return Poll::Ready(Over::Idle);
            }
            match state.overdue(now) {
                Some(Overdue::Head) => return Poll::Ready(Over::SlowHead),
                Some(why @ (Overdue::Write | Overdue::Silence)) => {
                    state.note_end(&why);
                    return Poll::Ready(Over::Drop);
                }
                // Whoever waits for its answer is told.
                Some(Overdue::HalfClosed) => state.io.left.set(true),
                Some(Overdue::Idle) if told => return Poll::Ready(Over::Drop),
                Some(Overdue::Idle) => {
                    state.closing.set(true);
                    // Should the close itself hang, the next expiry ends it.
                    state.idle_since.set(now);
                    state.arm();
                }
                None => state.hurry_if_due(now),
            }
        }
    })
    .await
}

enum Overdue {
    Head,
    Write,
    /// A client that has closed its sending side and was not answered.
    HalfClosed,
    /// A new connection that has not sent a byte.
    Silence,
    Idle,
}

impl ConnectionState {
    /// Whether it may be closed now, as soon as nothing is under way. Under HTTP/1.1 a new connection
    /// keeps its first request, which is probably on its way, and one whose next head has begun to
    /// come keeps that. Under HTTP/2 a GOAWAY loses nothing.
    pub(super) fn may_be_told_to_close(&self) -> bool {
        self.is_h2() || (self.spoken.get() && self.io.head_since.get().is_none())
    }

    /// Counts a connection that ends without a word to its client.
    fn note_end(&self, why: &Overdue) {
        match why {
            Overdue::Write => self.note_untaken(),
            Overdue::Silence => self.note_silence(),
            Overdue::Head | Overdue::HalfClosed | Overdue::Idle => {}
        }
    }

    /// How long to wait for the first byte.
    fn patience_for_first(&self) -> Duration {
        let limit = self.listener.borrow().limits.header_timeout;
        if self.closing.get() { limit.min(LAST_CHANCE) } else { limit }
    }

    /// Until when a new connection on which nothing has come may stay, if it is to close.
    pub(super) fn last_chance(&self) -> Option<Instant> {
        self.closing.get().then(|| self.idle_since.get() + LAST_CHANCE)
    }

    /// Sets the timer for what can become overdue next.
    pub(super) fn arm(&self) {
        if let Some(deadline) = self.next_deadline() {
            self.timer.arm(deadline);
        }
    }

    /// Has whoever is polled next do what was put off, or look again, if it is time for that, and sets
    /// the timer.
    fn hurry_if_due(&self, now: Instant) {
        for at in [&self.io.hurry_until, &self.io.look_again_at] {
            at.set(at.get().filter(|at| now < *at));
        }
        self.arm();
    }

    /// Since when a client that has closed its sending side waits for an answer.
    fn half_closed_since(&self) -> Option<Instant> {
        self.io.half_closed_since.get().filter(|_| !self.io.left.get())
    }

    /// What a slow client takes of an answer that has ended for us has not ended for it: it is idle from
    /// then on.
    fn note_taken(&self) {
        if let Some(at) = self.io.taken_at.take() {
            self.idle_since.set(self.idle_since.get().max(at));
            if self.is_idle() {
                self.timer.bring_forward(at + self.listener.borrow().limits.keepalive_timeout);
            }
        }
    }

    /// Whether nothing of a request or of an answer is under way.
    fn is_idle(&self) -> bool {
        let is_answered = !self.spoken.get() || self.io.blocked_since.get().is_none();
        self.active.get() == 0 && self.io.head_since.get().is_none() && is_answered
    }

    /// The wrapper has no timer: what it saw during a poll is taken up here. All of it is rare.
    fn arm_for_io(&self) {
        if self.io.head_since.get().is_some()
            || self.io.blocked_since.get().is_some()
            || self.io.half_closed_since.get().is_some()
            || self.io.look_again_at.get().is_some()
        {
            self.arm();
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let limits = &self.listener.borrow().limits;
        let head = self.io.head_since.get().map(|since| since + limits.header_timeout);
        let write = self.io.blocked_since.get().map(|since| since + limits.write_timeout);
        let answer = self.half_closed_since().map(|since| since + limits.half_close_timeout);
        let idle = self.is_idle().then(|| {
            let patience = if self.spoken.get() {
                limits.keepalive_timeout
            } else {
                self.patience_for_first()
            };
            self.idle_since.get() + patience
        });
        let leave = self.leaving.borrow().as_ref().map(|leaving| leaving.by);
        let (hurry, park) = (self.io.hurry_until.get(), self.park_at.get());
        let look = self.io.look_again_at.get();
        [head, write, answer, hurry, look, idle, leave, park].into_iter().flatten().min()
    }

    /// Whether it has been idle long enough. If it cannot be parked, it is asked again later.
    fn is_to_be_parked(&self, now: Instant) -> bool {
        if self.park_at.get().is_none_or(|at| now < at) {
            return false;
        }
        let parked = self.may_be_parked();
        self.park_at.set((!parked).then_some(now + self.worker.park_after));
        parked
    }

    /// Whether there is reason to end the connection from our side.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.overdue(now).is_some()
    }

    fn overdue(&self, now: Instant) -> Option<Overdue> {
        let limits = &self.listener.borrow().limits;
        let over = |since: Option<Instant>, limit| since.is_some_and(|since| now - since >= limit);
        if over(self.io.head_since.get(), limits.header_timeout) {
            return Some(Overdue::Head);
        }
        if over(self.io.blocked_since.get(), limits.write_timeout) {
            return Some(Overdue::Write);
        }
        if over(self.half_closed_since(), limits.half_close_timeout) {
            return Some(Overdue::HalfClosed);
        }
        if !self.is_idle() {
            return None;
        }
        let idle = now - self.idle_since.get();
        if !self.spoken.get() {
            return (idle >= self.patience_for_first()).then_some(Overdue::Silence);
        }
        (idle >= limits.keepalive_timeout).then_some(Overdue::Idle)
    }
}

/// Counts a connection as parked until dropped.
pub struct Parked<'a>(&'a Worker);

impl<'a> Parked<'a> {
    /// Counts it.
    pub fn count(worker: &'a Worker) -> Self {
        worker.cells().parked.add(1);
        Parked(worker)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.cells().unparked.add(1);
    }
}
