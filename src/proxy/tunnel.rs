//! Tunnels: bytes both ways after a protocol switch, until both sides have ended or neither has
//! said anything for too long.
//!
//! Reads go into one scratch buffer that the worker's tunnels share, and what was read is written
//! on at once; only what the other side does not take yet is kept, so an idle tunnel holds nothing.
//! Each direction ends on its own: an end of stream is passed on as one (half-close).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::body::Hold;
use super::io::ClientStream;
use super::record::{End, RequestRecord};
use super::timer::Timer;
use super::worker::Worker;
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
    pub record: RequestRecord,
    /// The longest time without a byte either way.
    pub idle_timeout: Option<Duration>,
}

/// The client's end.
#[derive(Debug)]
pub enum ClientEnd {
    /// What was an HTTP/1.1 connection.
    Http1(ClientStream),
    /// A stream of an HTTP/2 connection.
    Http2(TokioIo<Upgraded>),
}

/// A tunnel.
#[derive(Debug)]
pub struct Tunnel {
    // Told and let go before the streams are: who sees them end finds it in the numbers.
    record: RequestRecord,
    hold: Hold,
    worker: Rc<Worker>,
    client: ClientEnd,
    upstream: UpstreamStream,
    to_upstream: Direction,
    to_client: Direction,
    /// Bytes moved when the timer was last set.
    seen: u64,
    idle_timeout: Option<Duration>,
    timer: Timer,
    /// The client's direction has ended.
    left: bool,
}

impl Tunnel {
    /// Begins a tunnel. `early` is what the client sent ahead.
    pub fn new(start: Start, client: ClientEnd, early: Bytes) -> Self {
        let Start { worker, upstream, early: answered, hold, record, idle_timeout } = start;
        hold.slot.backend().cells.cell(worker.id).tunnels_opened.add(1);
        Tunnel {
            client,
            upstream,
            to_upstream: Direction::new(early),
            to_client: Direction::new(answered),
            seen: 0,
            idle_timeout,
            timer: worker.wheel.timer(),
            left: false,
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
        cells.tunnels_closed.add(1);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Tunnel { worker, client, upstream, to_upstream, to_client, .. } = self;
        let scratch = &mut worker.scratch.borrow_mut()[..];
        let up = to_upstream.poll(cx, client, upstream, scratch);
        let down = to_client.poll(cx, upstream, client, scratch);
        match (up, down) {
            (Poll::Ready(Err(_)), _) => return Poll::Ready(End::Incomplete),
            (_, Poll::Ready(Err(_))) => return Poll::Ready(End::BackendBrokeOff),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Complete),
            // hyper tells the end of a stream and its cancellation alike. Only the way back knows
            // better, one turn later: the task behind it was woken with this one.
            (Poll::Ready(Ok(())), Poll::Pending) if !std::mem::replace(&mut self.left, true) => {
                cx.waker().wake_by_ref();
            }
            (Poll::Ready(Ok(())), Poll::Pending) => {
                if let Poll::Ready(Err(_)) = Pin::new(client).poll_flush(cx) {
                    return Poll::Ready(End::Incomplete);
                }
            }
            _ => {}
        }
        let moved = to_upstream.moved + to_client.moved;
        if let Some(idle_timeout) = self.idle_timeout
            && (moved != self.seen || !self.timer.is_armed())
        {
            self.seen = moved;
            self.timer.arm(Instant::now() + idle_timeout);
        }
        self.timer.poll_expired(cx).map(|()| End::Deadline)
    }
}

/// One direction of a tunnel.
#[derive(Debug)]
struct Direction {
    /// Read, and not taken by the other side yet.
    kept: Bytes,
    moved: u64,
    unflushed: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; the other side is still to be told.
    Ended,
    Closed,
}

impl Direction {
    fn new(early: Bytes) -> Self {
        Direction { kept: early, moved: 0, unflushed: false, state: State::Open }
    }

    /// Moves what can be moved now. Ready when the source has ended and the other side knows.
    fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        // A bound on one turn, so that two fast ends cannot keep a worker to themselves.
        for _ in 0..16 {
            while self.kept.has_remaining() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.kept))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.kept.advance(written);
                self.moved += written as u64;
                self.unflushed = true;
            }
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Closed;
                    return Poll::Ready(Ok(()));
                }
                State::Open => {}
            }
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let read = buffer.filled();
            if read.is_empty() {
                self.state = State::Ended;
                continue;
            }
            let written = match Pin::new(&mut *to).poll_write(cx, read) {
                Poll::Ready(result) => result?,
                Poll::Pending => 0,
            };
            self.moved += written as u64;
            self.unflushed = true;
            if written < read.len() {
                self.kept = Bytes::copy_from_slice(&read[written..]);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for ClientEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientEnd::Http1(stream) => Pin::new(stream).poll_read(cx, buf),
            ClientEnd::Http2(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientEnd::Http1(stream) => Pin::new(stream).poll_write(cx, bytes),
            ClientEnd::Http2(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientEnd::Http1(stream) => Pin::new(stream).poll_flush(cx),
            ClientEnd::Http2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientEnd::Http1(stream) => Pin::new(stream).poll_shutdown(cx),
            ClientEnd::Http2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
