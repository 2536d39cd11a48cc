//! One HTTP/2 stream's task, and the time that a client may leave it without a window.
//!
//! hyper asks a response body for data, then waits for room in the client's window, without end and
//! without asking the body again: no timer in the body would help. But hyper runs each stream as a
//! task of ours. So the task notes, with every poll, whether the body gave something that hyper did
//! not come back for; a stream that stays like this for `write_timeout`, on a connection that
//! otherwise takes what we write, is dropped, which resets it and lets its backend go.

use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::time::Instant;

use crate::proxy::connection::ConnectionState;
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
        tokio::task::spawn_local(run(Rc::clone(&self.0), stream));
    }
}

async fn run<F: Future>(connection: Rc<ConnectionState>, stream: F) {
    let mut stream = pin!(stream);
    let timer = connection.worker.wheel.timer();
    let mut stuck_since: Option<Instant> = None;
    std::future::poll_fn(|cx| {
        connection.asked.set(Asked::Nothing);
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match connection.asked.get() {
            // hyper waits for what it waited for before.
            Asked::Nothing => {}
            Asked::Waits if stuck_since.take().is_some() => timer.disarm(),
            Asked::Waits => {}
            Asked::Gave => {
                let now = Instant::now();
                stuck_since = Some(now);
                timer.arm(now + connection.write_timeout());
            }
        }
        let Some(since) = stuck_since else { return Poll::Pending };
        while timer.poll_expired(cx).is_ready() {
            // A slow network is the connection's affair: what is stuck in front of it has no
            // window because nothing has arrived.
            let began = connection.io.last_blocked.get().map_or(since, |at| at.max(since));
            let deadline = began + connection.write_timeout();
            if deadline <= Instant::now() {
                connection.note_abuse(H2Abuse::ZeroWindow);
                return Poll::Ready(());
            }
            timer.arm(deadline);
        }
        Poll::Pending
    })
    .await;
}
