//! One HTTP/2 connection to a backend, shared by many requests of one worker.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::dial::UpstreamStream;
use super::error::classify;
use super::framing::MAX_INTERIM;
use super::http1::ConnectionGauge;
use super::request::RequestHead;
use super::{Error, Failed};
use crate::framing::Violation;
use crate::framing::bytes::trim;
use crate::framing::frames::{END_STREAM, Frames, HEADERS};
use crate::state::{Backend, WorkerId};

/// Streams at once; for more there are further connections. Backends that tell a limit mostly tell this.
const MAX_STREAMS: usize = 128;
/// Large enough that a stream fills a network near by, small enough that a stalled client cannot make
/// us hold much of a backend's answer.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// Room for all streams at once: the connection is shared by all clients, and those who take nothing of
/// their answers must not stop the others.
const CONNECTION_WINDOW_BYTES: u32 = MAX_STREAMS as u32 * STREAM_WINDOW_BYTES;
/// A backend that has streams open and leaves a ping without answer this long has gone away.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Heads that may come for each stream: interim ones, and the answer's.
const HEADS: u32 = MAX_INTERIM as u32 + 1;
/// Streams that were given up and whose heads may still be on their way, generously.
const LEFT: usize = 32;

/// An HTTP/2 connection.
#[derive(Debug)]
pub struct Http2<B> {
    sender: http2::SendRequest<B>,
    status: Rc<Status>,
}

/// What the driver publishes and the lane counts.
#[derive(Debug)]
pub(super) struct Status {
    /// hyper queues without bound above the peer's limit, so we never go beyond it, nor beyond ours.
    max_streams: Cell<usize>,
    streams: Cell<usize>,
    /// How many may still come. h2 keeps each one until the request's future is polled, without end.
    heads: Cell<u32>,
    served: Cell<bool>,
    idle_since: Cell<Instant>,
}

impl Status {
    fn new() -> Rc<Status> {
        Rc::new(Status {
            max_streams: Cell::new(0),
            streams: Cell::new(0),
            heads: Cell::new(0),
            served: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
        })
    }

    /// The backend takes so many streams.
    fn allow(&self, streams: usize) {
        self.max_streams.set(streams.min(MAX_STREAMS));
    }

    fn open(&self) {
        let streams = self.streams.get() + 1;
        self.streams.set(streams);
        let most = HEADS.saturating_mul(u32::try_from(streams + LEFT).unwrap_or(u32::MAX));
        self.heads.set(self.heads.get().saturating_add(HEADS).min(most));
    }

    /// A head has come.
    fn note_head(&self) -> io::Result<()> {
        let refused =
            || io::Error::new(io::ErrorKind::InvalidData, Violation::TooManyInterim.reason());
        self.heads.set(self.heads.get().checked_sub(1).ok_or_else(refused)?);
        Ok(())
    }
}

impl<B> Http2<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Speaks HTTP/2 on a fresh connection, and waits for the backend to do so: only its settings
    /// tell how many streams it takes, and whoever sends none does not speak HTTP/2.
    ///
    /// # Errors
    /// If the connection ends before that; nothing was sent.
    pub async fn open(
        stream: UpstreamStream,
        backend: &Arc<Backend>,
        worker: WorkerId,
    ) -> Result<Self, Error> {
        let heard = Rc::new(Notify::new());
        let status = Status::new();
        let frames = Frames::default();
        let stream =
            Listening { stream, heard: Rc::clone(&heard), frames, status: Rc::clone(&status) };
        let (sender, mut connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_max_send_streams(0)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Error::Connect(io::Error::other(error)))?;
        while connection.current_max_send_streams() == 0 {
            tokio::select! {
                () = heard.notified() => {}
                ended = &mut connection => {
                    let why = ended.map_or_else(io::Error::other, |()| io::ErrorKind::UnexpectedEof.into());
                    return Err(Error::Connect(why));
                }
            }
        }
        status.allow(connection.current_max_send_streams());
        status.idle_since.set(Instant::now());
        let gauge = ConnectionGauge::open(Arc::clone(backend), worker);
        let published = Rc::clone(&status);
        tokio::task::spawn_local(async move {
            let _gauge = gauge;
            std::future::poll_fn(|cx| {
                // A failure of the connection reaches each of its streams.
                let done = Pin::new(&mut connection).poll(cx).map(drop);
                published.allow(connection.current_max_send_streams());
                done
            })
            .await;
        });
        Ok(Http2 { sender, status })
    }

    /// Whether one more stream may be opened on it now.
    pub fn has_room(&self) -> bool {
        !self.sender.is_closed() && self.status.streams.get() < self.status.max_streams.get()
    }

    /// Whether it can still be used, now or later.
    pub fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Since when it has had no stream, if it has none.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.status.streams.get() == 0).then(|| self.status.idle_since.get())
    }

    /// It is going to lie unused before its first request.
    pub fn lay_aside(&self) {
        self.status.served.set(true);
    }

    /// A stream on the connection, counted from now.
    pub fn stream(&self) -> Http2Stream<B> {
        let status = Rc::clone(&self.status);
        status.open();
        let reused = status.served.replace(true);
        Http2Stream { sender: self.sender.clone(), guard: StreamGuard(status), reused }
    }
}

/// A place for one request on an HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Stream<B> {
    sender: http2::SendRequest<B>,
    guard: StreamGuard,
    reused: bool,
}

impl<B> Http2Stream<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Whether the connection has carried a request before.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Sends a request and waits for the response head. Dropping the future resets the stream.
    ///
    /// # Errors
    /// Those of the exchange.
    pub async fn send(
        mut self,
        head: &RequestHead,
        secure: bool,
        body: B,
    ) -> Result<(Response<Incoming>, StreamGuard), Failed> {
        let request = head.to_http2(secure, body)?;
        match self.sender.try_send_request(request).await {
            Ok(response) => match check(&response) {
                Ok(()) => Ok((response, self.guard)),
                Err(violation) => Err(Error::Malformed(violation.reason().into()).into()),
            },
            Err(mut failure) => {
                let unsent = failure.take_message().is_some();
                let alone = self.guard.0.streams.get() == 1;
                let error = classify(failure.into_error(), self.reused, alone);
                Err(Failed { unsent, error })
            }
        }
    }
}

/// What h2 lets through and the scanner would refuse over HTTP/1.1, or may not be passed on.
fn check<B>(response: &Response<B>) -> Result<(), Violation> {
    // RFC 9110 section 15.
    if response.status().as_u16() > 599 {
        return Err(Violation::InvalidStatus);
    }
    let fields = response.headers();
    if fields.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Violation::RepeatedContentLength);
    }
    // RFC 9113 section 8.2.1.
    let is_spaced = |value: &HeaderValue| trim(value.as_bytes()).len() != value.len();
    if fields.values().any(is_spaced) { Err(Violation::SpaceAroundValue) } else { Ok(()) }
}

/// Counts a stream as open until it is dropped.
#[derive(Debug)]
pub struct StreamGuard(Rc<Status>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0 {
            self.0.idle_since.set(Instant::now());
        }
    }
}

/// A connection that says when something was read from it: hyper reads in a task of its own, and
/// tells nobody that settings have come. And it counts heads.
#[derive(Debug)]
struct Listening {
    stream: UpstreamStream,
    heard: Rc<Notify>,
    frames: Frames,
    status: Rc<Status>,
}

impl AsyncRead for Listening {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Listening { stream, heard, frames, status } = self.get_mut();
        let before = buf.filled().len();
        let read = ready!(Pin::new(stream).poll_read(cx, buf));
        // Once the connection is open nobody else has the other end.
        if Rc::strong_count(heard) > 1 {
            heard.notify_one();
        }
        let heads = frames.feed(&buf.filled()[before..], |head| {
            let begins = head.kind == HEADERS && !head.has(END_STREAM);
            if begins { status.note_head() } else { Ok(()) }
        });
        Poll::Ready(read.and(heads))
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Runs hyper's tasks on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
