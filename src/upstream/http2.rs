//! One HTTP/2 connection to a backend, shared by many requests of one worker.
//!
//! On h2 itself, so that each half of a stream is in our hands. What is given up is reset at once,
//! whatever it waits for, and a stream keeps its place among those that may be open until both of its
//! halves are over. The connection is polled in one task, its `Driver`, which sees at once what the
//! backend says of it; and nothing that one client leaves untaken may cost the others the connection.

mod body;
mod driver;
mod inflow;
mod listening;
mod sending;
mod status;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};
use tokio::task::AbortHandle;

pub use self::body::Body;
use self::driver::Driver;
use self::listening::Listening;
use self::sending::{Sending, Sent};
use self::status::{Place, Status};
use super::dial::UpstreamStream;
use super::error::classify;
use super::http1::{ConnectionGauge, LIMITS};
use super::request::{Framing, RequestHead};
use super::{Error, Failed};
use crate::framing::Violation;
use crate::framing::bytes::trim;
use crate::state::{Backend, WorkerId};

/// Streams at once; for more there are further connections. Backends that tell a limit mostly tell this.
const MAX_STREAMS: usize = 128;
/// Large enough that a stream fills a network near by, small enough that a stalled client cannot make
/// us hold much of a backend's answer.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// Room for all streams at once: the connection is shared by all clients, and those who take nothing of
/// their answers must not stop the others.
const CONNECTION_WINDOW_BYTES: u32 = MAX_STREAMS as u32 * STREAM_WINDOW_BYTES;
/// As long as over HTTP/1.1; here each field counts for 32 bytes more than it has (RFC 9113 section 6.5.2).
const MAX_HEADER_LIST_BYTES: u32 = LIMITS.max_header_bytes + 32 * LIMITS.max_headers as u32;
/// Streams that were reset are remembered for a while, so that answers that cross the reset are read
/// over. Clients leave in crowds: there is room for several times all.
const REMEMBERED_STREAMS: usize = 8 * MAX_STREAMS;
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// An HTTP/2 connection. Dropped, it takes no more streams, and closes behind those that it has.
#[derive(Debug)]
pub struct Http2(Rc<Status>);

impl Http2 {
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
        let status = Status::new();
        let stream = Listening::new(stream, Rc::clone(&status));
        let (sender, mut connection) = builder()
            .handshake(stream)
            .await
            .map_err(|error| Error::Connect(io::Error::other(error)))?;
        poll_fn(|cx| heard_settings(&mut connection, cx)).await.map_err(Error::Connect)?;
        status.begin(sender, connection.max_concurrent_send_streams());
        let gauge = ConnectionGauge::open(Arc::clone(backend), worker);
        let driver = Driver::new(connection, Rc::clone(&status));
        tokio::task::spawn_local(async move {
            let _gauge = gauge;
            driver.run().await;
        });
        Ok(Http2(status))
    }

    /// Whether one more stream may be opened on it now.
    pub fn has_room(&self) -> bool {
        self.0.has_room()
    }

    /// Whether it can still be used, now or later.
    pub fn is_alive(&self) -> bool {
        self.0.takes_streams()
    }

    /// Since when it has had no stream, if it has none.
    pub fn idle_since(&self) -> Option<Instant> {
        self.0.idle_since()
    }

    /// It is going to lie unused before its first request.
    pub fn lay_aside(&self) {
        self.0.serve();
    }

    /// A stream on the connection, if it has room for one, counted from now.
    pub fn stream(&self) -> Option<Http2Stream> {
        if !self.has_room() {
            return None;
        }
        let sender = self.0.sender()?;
        let reused = self.0.serve();
        Some(Http2Stream { sender, place: Place::take(&self.0), reused })
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.0.retire();
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_max_send_streams(0)
        .max_concurrent_reset_streams(REMEMBERED_STREAMS)
        .reset_stream_duration(REMEMBERED_FOR)
        // What comes on a forgotten stream is answered by a reset more. h2 would end the connection
        // after some number of them, at the cost of everybody else's requests.
        .max_local_error_reset_streams(None)
        // The driver draws together what comes in small pieces: see `Status`.
        .data_frame_budget(usize::MAX)
        .enable_push(false);
    builder
}

/// Whether the backend has told how many streams it takes.
fn heard_settings(
    connection: &mut Connection<Listening>,
    cx: &mut std::task::Context<'_>,
) -> Poll<io::Result<()>> {
    match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
        Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    }
}

/// A place for one request on an HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Stream {
    sender: SendRequest<Bytes>,
    place: Rc<Place>,
    reused: bool,
}

impl Http2Stream {
    /// Whether the connection has carried a request before.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Sends a request and waits for the response head. Dropping the future resets the stream.
    ///
    /// # Errors
    /// Those of the exchange.
    pub async fn send<B>(
        self,
        head: &RequestHead,
        secure: bool,
        body: B,
    ) -> Result<(Response<Body>, StreamGuard), Failed>
    where
        B: http_body::Body<Data = Bytes> + Unpin + 'static,
    {
        let Http2Stream { mut sender, place, reused } = self;
        let request = head.to_http2(secure, Framing::of(&body))?;
        let ends = body.is_end_stream();
        let (mut answer, stream) = match sender.send_request(request, ends) {
            Ok(sent) => sent,
            Err(error) => {
                let error = place.refused(error, reused);
                return Err(Failed { unsent: true, error });
            }
        };
        drop(sender);
        let mut sending = (!ends).then(|| Sending::new(stream, body));
        let answered = poll_fn(|cx| {
            match sending.as_mut().map(|sending| sending.poll(cx)) {
                Some(Poll::Ready(Sent::Broken)) => return Poll::Ready(Err(Error::RequestBody)),
                Some(Poll::Ready(Sent::Over)) => sending = None,
                Some(Poll::Pending) | None => {}
            }
            let answered = Pin::new(&mut answer).poll(cx);
            answered.map_err(|error| place.failed(error, reused))
        });
        // It has left us, whatever became of it.
        let sent = |error| Failed { unsent: false, error };
        let response = answered.await.map_err(sent)?;
        check(&response).map_err(|violation| sent(Error::Malformed(violation.reason().into())))?;
        let response = Body::of(response, &place);
        let sending = sending.map(|sending| sending.spawn(Rc::clone(&place)));
        Ok((response, StreamGuard { _place: place, sending }))
    }
}

impl Place {
    /// What it means that a request could not even be queued.
    fn refused(&self, error: h2::Error, reused: bool) -> Error {
        if error.reason().is_none() && !error.is_io() {
            return Error::Target("the request cannot be forwarded over HTTP/2");
        }
        // Whoever asks for a connection again shall not be given this one.
        self.status().retire();
        self.failed(error, reused)
    }

    fn failed(&self, error: h2::Error, reused: bool) -> Error {
        if self.status().is_silent() {
            return Error::Reset(io::ErrorKind::TimedOut.into());
        }
        classify(error, reused, self.status().is_alone())
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

/// A stream whose answer has begun. Dropped, it sends nothing more: what is left of the request body
/// nobody waits for.
#[derive(Debug)]
pub struct StreamGuard {
    _place: Rc<Place>,
    sending: Option<AbortHandle>,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
    }
}
