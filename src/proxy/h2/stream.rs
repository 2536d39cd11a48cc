//! One HTTP/2 stream's task, and the time that a client may leave it without a window.
//!
//! hyper asks a response body for data, then waits for room in the client's window, without end and
//! without asking the body again: no timer in the body would help. But hyper runs each stream as a
//! task of ours. So the task notes, with every poll, whether the body gave something that hyper did
//! not come back for; a stream that stays like this for `write_timeout`, on a connection that
//! otherwise takes what we write, is dropped, which resets it and lets its backend go.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::proxy::connection::ConnectionState;
use crate::proxy::timer::Timer;
use crate::state::H2Abuse;

/// What a response body was last asked for, of the streams of one connection; reset before each
/// poll of a stream, so that it tells of this poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    #[default]
    Nothing,
    /// It has nothing yet.
    Waits,
    /// It gave data.
    Gave,
}

/// Runs the streams of one connection.
#[derive(Clone, Debug)]
pub struct StreamExecutor(pub Rc<ConnectionState>);

impl<F: Future + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let timer = self.0.worker.wheel.timer();
        let connection = Rc::clone(&self.0);
        let stream = Box::pin(stream);
        tokio::task::spawn_local(StreamTask { stream, connection, timer, stuck_since: None });
    }
}

/// What hyper makes of a stream, boxed, since a task is moved several times on its way to where it
/// runs and away.
struct StreamTask<F> {
    stream: Pin<Box<F>>,
    connection: Rc<ConnectionState>,
    timer: Timer,
    stuck_since: Option<Instant>,
}

impl<F: Future> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.connection.asked.set(Asked::Nothing);
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match this.connection.asked.get() {
            // hyper waits for what it waited for before.
            Asked::Nothing => {}
            Asked::Waits if this.stuck_since.take().is_some() => this.timer.disarm(),
            Asked::Waits => {}
            Asked::Gave => {
                let now = Instant::now();
                this.stuck_since = Some(now);
                this.timer.arm(now + this.connection.write_timeout());
            }
        }
        match this.stuck_since {
            Some(since) => this.poll_stuck(cx, since),
            None => Poll::Pending,
        }
    }
}

impl<F> StreamTask<F> {
    fn poll_stuck(&self, cx: &mut Context<'_>, since: Instant) -> Poll<()> {
        let connection = &self.connection;
        while self.timer.poll_expired(cx).is_ready() {
            // A slow network is the connection's affair: what is stuck in front of it has no
            // window because nothing has arrived.
            let began = connection.io.last_blocked.get().map_or(since, |at| at.max(since));
            let deadline = began + connection.write_timeout();
            if deadline <= Instant::now() {
                connection.note_abuse(H2Abuse::ZeroWindow);
                return Poll::Ready(());
            }
            self.timer.arm(deadline);
        }
        Poll::Pending
    }
}
