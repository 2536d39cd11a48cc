//! Tunnels: bytes both ways after a protocol switch, until both sides have ended or neither has
//! said anything for too long.
//!
//! Reads go into one scratch buffer that the worker's tunnels share, and what was read is written
//! on at once; only what the other side does not take yet is kept, so an idle tunnel holds nothing.
//! Each direction ends on its own: an end of stream is passed on as one (half-close).

mod direction;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use self::direction::{All, Broken, Direction, Filter};
use super::body::Hold;
use super::http2;
use super::io::ClientStream;
use super::record::{End, RequestRecord};
use super::timer::Timer;
use super::tunnels::{CLOSE_PATIENCE, OpenTunnel};
use super::websocket::{Frames, GOING_AWAY};
use super::worker::Worker;
use crate::upstream::delegate::delegate_io;
use crate::upstream::dial::UpstreamStream;

/// Everything that a tunnel needs, ready when the switch has been answered.
#[derive(Debug)]
pub struct Start {
    /// The worker that it lives on.
    pub worker: Rc<Worker>,
    /// The backend's end.
    pub upstream: UpstreamStream,
    /// What the backend sent right behind its 101.
    pub early: Bytes,
    /// Counted in flight while the tunnel lives.
    pub hold: Hold,
    /// Told when the tunnel ends.
    pub record: Box<RequestRecord>,
    /// The longest time without a byte either way.
    pub idle_timeout: Option<Duration>,
    /// Whether what goes through it are the frames of a WebSocket.
    pub websocket: bool,
}

/// The client's end.
#[derive(Debug)]
pub enum ClientEnd {
    /// What was an HTTP/1.1 connection.
    Http1(ClientStream),
    /// A stream of an HTTP/2 connection.
    Http2(http2::Socket),
}

/// A tunnel.
#[derive(Debug)]
pub struct Tunnel {
    // Told and let go before the streams are: who sees them end finds it in the numbers.
    record: Box<RequestRecord>,
    hold: Hold,
    open: OpenTunnel,
    worker: Rc<Worker>,
    client: ClientEnd,
    upstream: UpstreamStream,
    to_upstream: Direction,
    to_client: Direction,
    /// Bytes moved when the timer was last set.
    seen: u64,
    idle_timeout: Option<Duration>,
    timer: Timer,
    /// The frames that the backend sends, if they are frames.
    frames: Option<Frames>,
    closing: Closing,
}

/// How far it has come with being closed from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// Nobody has asked for it.
    No,
    /// As soon as a frame of the backend's has ended.
    Asked,
    /// The client has been told, and what the backend sends goes nowhere. It is the client's close
    /// frame that the backend gets as an answer to nothing, and answers.
    Told,
}

impl Tunnel {
    /// Begins a tunnel. `early` is what the client sent ahead.
    pub fn new(start: Start, client: ClientEnd, early: Bytes) -> Self {
        let Start { worker, upstream, early: answered, hold, record, idle_timeout, websocket } =
            start;
        let mut frames = websocket.then(Frames::default);
        if let Some(frames) = &mut frames {
            frames.pass(&answered);
        }
        let enter = if websocket { OpenTunnel::websocket } else { OpenTunnel::new };
        Tunnel {
            open: enter(&worker, hold.slot.backend()),
            client,
            upstream,
            to_upstream: Direction::new(early),
            to_client: Direction::new(answered),
            seen: 0,
            idle_timeout,
            timer: worker.wheel.timer(),
            frames,
            closing: Closing::No,
            hold,
            record,
            worker,
        }
    }

    /// Carries bytes both ways until it is over.
    pub async fn run(mut self: Box<Self>) {
        let ended = poll_fn(|cx| self.poll(cx)).await;
        let Tunnel { worker, to_upstream, to_client, hold, record, .. } = &mut *self;
        let cells = hold.slot.backend().cells.cell(worker.id);
        record.end(ended);
        record.add_sent(usize::try_from(to_client.moved).unwrap_or(usize::MAX));
        cells.bytes_in.add(to_client.moved);
        cells.bytes_out.add(to_upstream.moved);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.closing == Closing::No && self.open.is_to_close(cx) {
            if self.frames.is_none() {
                return Poll::Ready(End::Drained);
            }
            self.closing = Closing::Asked;
            self.timer.arm(Instant::now() + CLOSE_PATIENCE);
        }
        match self.poll_move(cx) {
            Poll::Ready(End::Complete) if self.closing != Closing::No => Poll::Ready(End::Drained),
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => self.poll_timer(cx),
        }
    }

    /// Moves what can be moved now.
    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Tunnel { worker, client, upstream, to_upstream, to_client, .. } = self;
        let scratch = &mut worker.scratch.borrow_mut()[..];
        let mut up = to_upstream.poll(cx, client, upstream, scratch, &mut All);
        if up.is_pending() && upstream.is_deaf() {
            // Nobody hears what the client says, so that it keeps nothing open either.
            up = to_upstream.give_up();
        }
        let mut frames = Watched { frames: &mut self.frames, closing: &mut self.closing };
        let down = to_client.poll(cx, upstream, client, scratch, &mut frames);
        match (up, down) {
            (Poll::Ready(Err(Broken::Sink)), _) | (_, Poll::Ready(Err(Broken::Source))) => {
                return Poll::Ready(End::BackendBrokeOff);
            }
            (Poll::Ready(Err(Broken::Source)), _) | (_, Poll::Ready(Err(Broken::Sink))) => {
                return Poll::Ready(End::Incomplete);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Complete),
            // Behind the end of what the client says, only the way back tells that it has left.
            (Poll::Ready(Ok(())), Poll::Pending) => {
                if let Poll::Ready(Err(_)) = Pin::new(client).poll_flush(cx) {
                    return Poll::Ready(End::Incomplete);
                }
            }
            _ => {}
        }
        Poll::Pending
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.closing != Closing::No {
            return self.timer.poll_expired(cx).map(|()| End::Drained);
        }
        let moved = self.to_upstream.moved + self.to_client.moved;
        if let Some(idle_timeout) = self.idle_timeout
            && (moved != self.seen || !self.timer.is_armed())
        {
            self.seen = moved;
            self.timer.arm(Instant::now() + idle_timeout);
        }
        self.timer.poll_expired(cx).map(|()| End::TunnelIdle)
    }
}

/// What the backend sends, until the tunnel is to close.
struct Watched<'a> {
    frames: &'a mut Option<Frames>,
    closing: &'a mut Closing,
}

impl Filter for Watched<'_> {
    fn say(&mut self) -> Option<&'static [u8]> {
        let at_boundary = self.frames.as_ref().is_some_and(Frames::at_boundary);
        if *self.closing != Closing::Asked || !at_boundary {
            return None;
        }
        *self.closing = Closing::Told;
        Some(&GOING_AWAY)
    }

    fn pass(&mut self, bytes: &[u8]) -> usize {
        match (&mut *self.frames, *self.closing) {
            (None, _) => bytes.len(),
            (Some(frames), Closing::No) => {
                frames.pass(bytes);
                bytes.len()
            }
            (Some(frames), Closing::Asked) => frames.pass_frame(bytes),
            (Some(_), Closing::Told) => 0,
        }
    }
}

delegate_io!(ClientEnd { Http1, Http2 });
