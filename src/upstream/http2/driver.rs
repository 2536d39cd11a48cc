//! The task that a connection is polled in.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::client::Connection;
use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use super::listening::Listening;
use super::status::{Heard, Status};

/// A backend that has streams open and says nothing for so long is sent a ping.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// One that leaves it without answer so long has gone away.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// One that answers it, and still says nothing on its streams, is sent the next after so long. Servers
/// of gRPC put up with one in five minutes without data by default, and end the connection at the
/// third that comes sooner.
const NEXT_PING: Duration = Duration::from_secs(6 * 60);

/// Moves a connection, and publishes what becomes of it.
#[derive(Debug)]
pub(super) struct Driver {
    connection: Connection<Listening>,
    watch: Watch,
    status: Rc<Status>,
}

impl Driver {
    pub(super) fn new(mut connection: Connection<Listening>, status: Rc<Status>) -> Driver {
        Driver { watch: Watch::new(connection.ping_pong()), connection, status }
    }

    /// Until the connection is over.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
        self.status.retire();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.watch.poll(cx, &self.status).is_ready() {
            self.status.fall_silent();
            return Poll::Ready(());
        }
        // A failure of the connection reaches each of its streams.
        let done = Pin::new(&mut self.connection).poll(cx).map(drop);
        if done.is_ready() {
            self.status.note_end();
        }
        self.status.allow(self.connection.max_concurrent_send_streams());
        self.status.review(cx);
        self.status.gather();
        done
    }
}

/// Asks a backend for a sign of life.
#[derive(Debug)]
struct Watch {
    pings: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    /// The timer is not set: there is nothing to wait for.
    rests: bool,
    asked: bool,
    /// It has answered, and nothing more: the next ping has time.
    patient: bool,
}

impl Watch {
    fn new(pings: Option<PingPong>) -> Watch {
        let timer = Box::pin(sleep(PING_INTERVAL));
        Watch { pings, timer, rests: false, asked: false, patient: false }
    }

    /// Ready when it gave none.
    fn poll(&mut self, cx: &mut Context<'_>, status: &Status) -> Poll<()> {
        if (self.rests && status.has_streams()) || (self.patient && status.has_spoken()) {
            (self.rests, self.patient) = (false, false);
            self.wait(PING_INTERVAL);
        }
        while !self.rests && self.timer.as_mut().poll(cx).is_ready() {
            let heard = status.take_heard();
            if !status.has_streams() {
                (self.rests, self.asked, self.patient) = (true, false, false);
                continue;
            }
            match (heard, self.asked) {
                (Heard::Nothing, true) => return Poll::Ready(()),
                (Heard::Nothing, false) => {
                    self.asked = true;
                    self.ask(cx);
                    self.wait(PING_TIMEOUT);
                }
                (Heard::Something, true) => {
                    (self.asked, self.patient) = (false, true);
                    self.wait(NEXT_PING);
                }
                (Heard::Something, false) | (Heard::Words, _) => {
                    self.asked = false;
                    self.wait(PING_INTERVAL);
                }
            }
        }
        Poll::Pending
    }

    fn ask(&mut self, cx: &mut Context<'_>) {
        if let Some(pings) = &mut self.pings {
            // The answer to the one before makes room for the next.
            let _ = pings.poll_pong(cx);
            let _ = pings.send_ping(Ping::opaque());
        }
    }

    fn wait(&mut self, time: Duration) {
        self.timer.as_mut().reset(Instant::now() + time);
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::Place;
    use super::*;

    /// What the watch says after so many seconds more.
    async fn after(watch: &mut Watch, status: &Status, seconds: u64) -> (bool, bool) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        let over = poll_fn(|cx| Poll::Ready(watch.poll(cx, status).is_ready())).await;
        (watch.asked, over)
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_pings_and_says_nothing_else_is_sent_few() {
        const ASKED: (bool, bool) = (true, false);
        const LET_BE: (bool, bool) = (false, false);
        let (status, mut watch) = (Status::new(), Watch::new(None));
        let _place = Place::take(&status);
        assert_eq!(after(&mut watch, &status, 11).await, ASKED);
        status.note_heard();
        assert_eq!(after(&mut watch, &status, 11).await, LET_BE);
        assert_eq!(after(&mut watch, &status, 300).await, LET_BE);
        assert_eq!(after(&mut watch, &status, 61).await, ASKED);
        status.note_heard();
        assert_eq!(after(&mut watch, &status, 11).await, LET_BE);
        status.note_words();
        assert_eq!(after(&mut watch, &status, 1).await, LET_BE);
        assert_eq!(after(&mut watch, &status, 11).await, LET_BE, "it was heard in that time");
        assert_eq!(after(&mut watch, &status, 11).await, ASKED);
        assert_eq!(after(&mut watch, &status, 11).await, (true, true));
    }

    #[tokio::test(start_paused = true)]
    async fn without_streams_nobody_is_asked() {
        let (status, mut watch) = (Status::new(), Watch::new(None));
        assert_eq!(after(&mut watch, &status, 11).await, (false, false));
        let _place = Place::take(&status);
        assert_eq!(after(&mut watch, &status, 9).await, (false, false));
        assert_eq!(after(&mut watch, &status, 11).await, (true, false));
    }
}
