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
use super::status::Status;

/// A backend that has streams open and says nothing for so long is sent a ping.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// One that leaves it without answer so long has gone away.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

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
}

impl Watch {
    fn new(pings: Option<PingPong>) -> Watch {
        Watch { pings, timer: Box::pin(sleep(PING_INTERVAL)), rests: false, asked: false }
    }

    /// Ready when it gave none.
    fn poll(&mut self, cx: &mut Context<'_>, status: &Status) -> Poll<()> {
        if self.rests && status.has_streams() {
            self.rests = false;
            self.wait(PING_INTERVAL);
        }
        while !self.rests && self.timer.as_mut().poll(cx).is_ready() {
            if !status.has_streams() {
                self.rests = true;
                self.asked = false;
            } else if status.take_heard() {
                self.asked = false;
                self.wait(PING_INTERVAL);
            } else if self.asked {
                return Poll::Ready(());
            } else {
                self.asked = true;
                self.ask(cx);
                self.wait(PING_TIMEOUT);
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
