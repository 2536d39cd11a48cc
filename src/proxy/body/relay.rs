//! A response body that a backend sends, up to its last byte, or to where it breaks off.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use thiserror::Error;
use tokio::time::Instant;

use super::hold::{Hold, tells_grpc_failure};
use super::{EventStream, Progress, Upload, UploadFailure};
use crate::framing::Violation;
use crate::health::outliers::Outcome;
use crate::proxy::headers::hop;
use crate::proxy::record::End;
use crate::proxy::timer::Timer;
use crate::upstream::{Incoming, Lease};

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
    /// When the client had last to be waited for.
    pub blocked: Option<Instant>,
    /// What makes a tunnel of it, if it is a stream of events.
    pub stream: Option<Box<EventStream>>,
    /// What is held until the last byte was read.
    pub hold: Option<Hold>,
    /// How it ended, if we brought a stream to its end before its backend did.
    pub closed: Option<End>,
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
    /// The request that it answers failed on the client's side.
    #[error("{0}")]
    Upload(UploadFailure),
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

impl Relay {
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.stream.as_ref().is_some_and(|stream| stream.is_to_close(cx)) {
            return Poll::Ready(self.close(End::Drained, "the backend is going away"));
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
                return Poll::Ready(match ready!(self.poll_late(cx)) {
                    BrokenOff::TunnelIdle if self.is_grpc() => {
                        self.close(End::TunnelIdle, "nothing came for too long")
                    }
                    late => Some(Err(late)),
                });
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
            Some(Err(error)) => Poll::Ready(Some(Err(self.fail(error)))),
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
        let excused = self.excused_until(now);
        let Some(stream) = &mut self.stream else {
            if let Some(until) = excused {
                self.timer.arm(self.deadline.map_or(until, |deadline| deadline.min(until)));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
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

    /// Until when the backend may be silent, if the client has kept it waiting: perhaps it says no
    /// more before it has more of the request.
    fn excused_until(&self, now: Instant) -> Option<Instant> {
        let moved = match self.upload.as_ref()?.progress() {
            Progress::Finished(at) | Progress::Untaken(at) => at,
            // Its own pauses are limited by whoever reads from it.
            Progress::Awaited => now,
        };
        Some(moved + self.pause?).filter(|until| *until > now)
    }

    /// Brings a stream to an end from our side.
    fn close(&mut self, end: End, why: &'static str) -> Option<Result<Frame<Bytes>, BrokenOff>> {
        // What is held is let go, connection and all: it is in the middle of an answer.
        self.hold = None;
        self.closed.get_or_insert(end);
        let last_words = self.stream.as_mut().and_then(|stream| stream.last_words(why));
        if last_words.is_none() && self.incoming.size_hint().exact().is_some() {
            return Some(Err(BrokenOff::Drained));
        }
        last_words.map(Ok)
    }

    fn is_grpc(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_grpc())
    }

    /// The backend's side has ended early: lets go of what was held, and says by whose fault.
    fn fail(&mut self, error: io::Error) -> BrokenOff {
        let lease = self.hold.as_ref().and_then(|hold| hold.lease.as_ref());
        let violation = lease.and_then(Lease::violation);
        let failure = self.upload.as_ref().and_then(|upload| upload.failure());
        if violation.is_none()
            && let Some(failure) = failure
        {
            // Half a request gets no whole answer, from whichever side it was broken off.
            self.hold = None;
            return BrokenOff::Upload(failure);
        }
        self.broke_off();
        violation.map_or(BrokenOff::Backend(error), BrokenOff::Malformed)
    }

    /// By the backend's fault. What was held is let go: nothing more comes.
    fn broke_off(&mut self) {
        if let Some(hold) = self.hold.take() {
            hold.ended(Outcome::BrokeOff);
        }
    }

    pub(super) fn note_blocked(&mut self, blocked: Option<Instant>) {
        if blocked != self.blocked {
            self.blocked = blocked;
            self.incoming.hold_back();
        }
    }

    fn complete(&mut self) {
        // With its slot: what is in flight and no tunnel is a request.
        self.stream = None;
        if let Some(hold) = self.hold.take() {
            let now = hold.worker.time_of_turn();
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
