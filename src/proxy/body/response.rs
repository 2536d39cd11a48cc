//! The body of a response, from a backend or from us to the client.
//!
//! It carries the two guards of an exchange to their ends: the slot is let go when the last byte
//! has been read from the backend, the record when the client's
//! connection lets go of the body.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::Instant;

use super::{EventStream, RequestBody, Upload};
use crate::framing::Violation;
use crate::health::keep_alive;
use crate::health::outliers::Outcome;
use crate::proxy::h2::stream::Asked;
use crate::proxy::headers::hop;
use crate::proxy::record::{End, RequestRecord};
use crate::proxy::timer::Timer;
use crate::proxy::worker::Worker;
use crate::state::{Backend, Slot};
use crate::upstream::http1::ConnectionGauge;
use crate::upstream::{Incoming, Lease};

/// The body of an answer, with the record of its request.
#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
    record: Option<RequestRecord>,
}

#[derive(Debug)]
enum Kind {
    Own(Option<Bytes>),
    Relay(Box<Relay>),
}

/// The backend's side of a response body.
#[derive(Debug)]
pub struct Relay {
    /// What the backend sends.
    pub incoming: Incoming,
    /// The request body, which may still be on its way.
    pub upload: Option<Rc<Upload>>,
    /// For the time between two bytes.
    pub timer: Timer,
    /// The longest time between two bytes.
    pub pause: Option<Duration>,
    /// When the route's total time is over.
    pub deadline: Option<Instant>,
    /// The backend had to be waited for since its head came.
    pub waited: bool,
    /// When the client had last to be waited for.
    pub blocked: Option<Instant>,
    /// What makes a tunnel of it, if it is a stream of events.
    pub stream: Option<Box<EventStream>>,
    /// What is held until the last byte was read.
    pub hold: Option<Hold>,
}

/// What an exchange holds on its backend.
#[derive(Debug)]
pub struct Hold {
    /// The request in flight.
    pub slot: Slot,
    /// The connection, to be given back; absent where it serves this one exchange only.
    pub lease: Option<Lease<RequestBody>>,
    /// Counts a connection that has no lease.
    pub gauge: Option<ConnectionGauge>,
    /// When the backend was picked.
    pub picked: Instant,
    /// What it answered.
    pub answer: Answer,
    /// Whose counters it goes into.
    pub worker: Rc<Worker>,
}

/// An answer as far as its backend is judged by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// It tells by its gRPC status of a failure that is the backend's.
    pub grpc_failed: bool,
}

/// Whether fields, of a head or behind a body, tell of a gRPC call that failed by the backend's fault:
/// UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
pub fn tells_grpc_failure(fields: &HeaderMap) -> bool {
    let status = fields.get("grpc-status").map(HeaderValue::as_bytes);
    matches!(status, Some(b"2" | b"4" | b"13" | b"14" | b"15"))
}

/// Why a response body broke off. The client is told in the way of its HTTP version: by closing
/// the connection before the announced end, or by resetting the stream.
#[derive(Debug, Error)]
pub enum BrokenOff {
    /// The backend broke it off.
    #[error("the backend broke off its response: {0}")]
    Backend(#[source] io::Error),
    /// The backend went on with something that is not to be passed on.
    #[error("the backend's response is malformed: {}", .0.reason())]
    Malformed(Violation),
    /// The backend sent nothing for `body_idle_timeout`.
    #[error("the backend stopped sending its response")]
    Stalled,
    /// Nothing came through a stream of events for `tunnel_idle_timeout`.
    #[error("nothing came for too long")]
    TunnelIdle,
    /// Its backend is let go, and the end cannot be told from a break.
    #[error("the backend is going away")]
    Drained,
    /// The route's total time is over.
    #[error("the route's timeout is over")]
    Deadline,
}

impl Hold {
    /// Whom it is held on.
    pub fn backend(&self) -> &Arc<Backend> {
        self.slot.backend()
    }

    /// The backend may have said how long it keeps unused connections.
    pub fn note_keep_alive(&self, headers: &HeaderMap) {
        if let Some(lease) = &self.lease
            && let Some(field) = headers.get("keep-alive")
            && let Some(timeout) = keep_alive::announced(field.as_bytes())
        {
            lease.on_announced(timeout, self.worker.now().into_std());
        }
    }

    /// It ended as its backend is judged by.
    fn ended(&self, outcome: Outcome) {
        self.worker.attempt_ended(self.backend(), outcome, Some(self.answer.status));
    }

    /// The last byte was read, at `now`; `body` is whether there was any.
    fn complete(mut self, upload: Option<&Rc<Upload>>, now: Instant, body: bool) {
        let Answer { status, grpc_failed } = self.answer;
        self.ended(Outcome::of_answer(status, body, grpc_failed));
        let cells = self.backend().cells.cell(self.worker.id);
        cells.duration.observe(now.saturating_duration_since(self.picked));
        if let Some(upload) = upload {
            cells.bytes_out.add(upload.received());
        }
        let sent = upload.is_none_or(|upload| upload.finished().is_some());
        if let Some(lease) = self.lease.take() {
            // An answer that came before the end of the request leaves the connection in the
            // middle of it: nobody can use it again.
            if sent {
                lease.give_back(now.into_std());
            }
        }
        if let Some(upload) = upload
            && !sent
        {
            upload.give_up();
        }
    }
}

impl ResponseBody {
    /// A body of our own.
    pub fn own(bytes: Bytes) -> Self {
        ResponseBody { kind: Kind::Own((!bytes.is_empty()).then_some(bytes)), record: None }
    }

    /// No body.
    pub fn empty() -> Self {
        ResponseBody { kind: Kind::Own(None), record: None }
    }

    /// Leaves out a body of our own, and gives its length in bytes.
    pub fn omit_own(&mut self) -> Option<usize> {
        let Kind::Own(bytes) = &mut self.kind else { return None };
        let omitted = bytes.take()?.len();
        if let Some(record) = &mut self.record {
            record.end(End::Complete);
        }
        Some(omitted)
    }

    /// A body that a backend sends.
    pub fn relay(mut relay: Relay) -> Self {
        // HEAD, 204, 304 and empty bodies are at their end already, and nobody will ask.
        if relay.incoming.is_end_stream()
            && let Some(hold) = relay.hold.take()
        {
            let now = hold.worker.now();
            hold.complete(relay.upload.as_ref(), now, false);
        }
        ResponseBody { kind: Kind::Relay(Box::new(relay)), record: None }
    }

    /// The record goes with the body.
    pub fn with_record(mut self, mut record: RequestRecord) -> Self {
        if self.is_end_stream() {
            record.end(End::Complete);
        }
        self.record = Some(record);
        self
    }
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.stream.as_ref().is_some_and(|stream| stream.is_to_close(cx)) {
            return Poll::Ready(self.close());
        }
        // Streams that count as tunnels are closed by order instead.
        let cut = |hold: &Hold| hold.backend().cut.load(Ordering::Relaxed);
        if self.stream.is_none() && self.hold.as_ref().is_some_and(cut) {
            return Poll::Ready(Some(Err(BrokenOff::Drained)));
        }
        // Not left to the timer: whoever keeps sending keeps moving it.
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Poll::Ready(Some(Err(BrokenOff::Deadline)));
        }
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => {
                self.waited = true;
                return Poll::Ready(Some(Err(ready!(self.poll_late(cx)))));
            }
            Poll::Ready(frame) => frame,
        };
        self.timer.disarm();
        match frame {
            Some(Ok(frame)) => {
                let frame = without_forbidden_trailers(frame);
                if let Some(hold) = &mut self.hold {
                    if let Some(data) = frame.data_ref() {
                        let cells = hold.backend().cells.cell(hold.worker.id);
                        cells.bytes_in.add(data.len() as u64);
                    } else if let Some(trailers) = frame.trailers_ref() {
                        hold.answer.grpc_failed |= tells_grpc_failure(trailers);
                    }
                }
                if self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let lease = self.hold.as_ref().and_then(|hold| hold.lease.as_ref());
                let violation = lease.and_then(Lease::violation);
                self.broke_off();
                let why = violation.map_or(BrokenOff::Backend(error), BrokenOff::Malformed);
                Poll::Ready(Some(Err(why)))
            }
            None => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    /// Waits for what did not come in time.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BrokenOff> {
        if !self.timer.is_armed() {
            let pause = self.pause.map(|pause| Instant::now() + pause);
            let settles = self.stream.as_ref().and_then(|stream| stream.settles_at());
            let next = [pause, self.deadline, settles].into_iter().flatten().min();
            next.inspect(|next| self.timer.arm(*next));
        }
        ready!(self.timer.poll_expired(cx));
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Poll::Ready(BrokenOff::Deadline);
        }
        let Some(stream) = &mut self.stream else {
            self.broke_off();
            return Poll::Ready(BrokenOff::Stalled);
        };
        let hold = self.hold.as_ref();
        if hold.is_some_and(|hold| stream.settle(&hold.worker, hold.backend(), now)) {
            // From now on it can be told to close, which the next poll begins with.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Silence is what such streams are made of: no fault of the backend's.
        Poll::Ready(BrokenOff::TunnelIdle)
    }

    /// Brings a stream to an end from our side, as its backend is let go.
    fn close(&mut self) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        // What is held is let go, connection and all: it is in the middle of an answer.
        self.hold = None;
        let last_words = self.stream.as_mut().and_then(|stream| stream.last_words());
        if last_words.is_none() && self.incoming.size_hint().exact().is_some() {
            return Some(Err(BrokenOff::Drained));
        }
        last_words.map(Ok)
    }

    fn is_closed(&self) -> bool {
        self.stream.is_some() && self.hold.is_none()
    }

    /// By the backend's fault. What was held is let go: nothing more comes.
    fn broke_off(&mut self) {
        if let Some(hold) = self.hold.take() {
            hold.ended(Outcome::BrokeOff);
        }
    }

    fn note_blocked(&mut self, blocked: Option<Instant>) {
        if blocked != self.blocked {
            self.blocked = blocked;
            self.incoming.hold_back();
        }
    }

    fn complete(&mut self) {
        // With its slot: what is in flight and no tunnel is a request.
        self.stream = None;
        if let Some(hold) = self.hold.take() {
            let worker = &hold.worker;
            let now = if self.waited { worker.tick() } else { worker.now() };
            hold.complete(self.upload.as_ref(), now, true);
        }
    }
}

/// Leaves out the trailers that could change the meaning of the head (RFC 9110 section 6.5.1), which
/// is with the client already.
fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            hop::strip_forbidden_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload
            && upload.finished().is_none()
        {
            upload.give_up();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        if let (Kind::Relay(relay), Some(record)) = (&mut this.kind, &this.record) {
            relay.note_blocked(record.connection.io.last_blocked.get());
        }
        let frame = match &mut this.kind {
            Kind::Own(bytes) => Poll::Ready(bytes.take().map(Frame::data).map(Ok)),
            Kind::Relay(relay) => relay.poll(cx),
        };
        if let Some(record) = &this.record {
            let asked = if frame.is_pending() { Asked::Waits } else { Asked::Gave };
            record.connection.asked.set(asked);
        }
        let frame = ready!(frame);
        if let Some(record) = &mut this.record {
            match &frame {
                Some(Ok(frame)) => {
                    record.add_sent(frame.data_ref().map_or(0, Bytes::len));
                }
                Some(Err(BrokenOff::Backend(_))) => record.end(End::BackendBrokeOff),
                Some(Err(BrokenOff::Malformed(_))) => record.end(End::BackendMalformed),
                Some(Err(BrokenOff::Stalled)) => record.end(End::BackendStalled),
                Some(Err(BrokenOff::Deadline)) => record.end(End::Deadline),
                Some(Err(BrokenOff::TunnelIdle)) => record.end(End::TunnelIdle),
                Some(Err(BrokenOff::Drained)) => record.end(End::Drained),
                None if matches!(&this.kind, Kind::Relay(relay) if relay.is_closed()) => {
                    record.end(End::Drained);
                }
                None => record.end(End::Complete),
            }
            let ended = match &this.kind {
                Kind::Own(bytes) => bytes.is_none(),
                Kind::Relay(relay) => relay.incoming.is_end_stream(),
            };
            if ended && matches!(frame, Some(Ok(_))) {
                record.end(End::Complete);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.is_none(),
            Kind::Relay(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Relay(relay) => relay.incoming.size_hint(),
        }
    }
}
