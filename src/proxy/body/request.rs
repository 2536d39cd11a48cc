//! The body of a request, from the client to a backend.
//!
//! Several attempts may have to send the same body, so it lives in an [`Upload`] that they share,
//! one reader at a time. What has been read is kept for replay as long as that is little.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::Instant;

use super::Incoming;
use crate::framing::field::may_be_trailer;
use crate::proxy::timer::{Timer, Wheel};

/// Bodies up to this size can be sent again.
pub const REPLAY_BYTES: usize = 64 * 1024;

/// Why an upload did not come to its end.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum UploadFailure {
    /// It is larger than the route allows.
    #[error("the request body is larger than allowed")]
    TooLarge,
    /// The client sent nothing for `body_timeout`.
    #[error("the client stopped sending its request body")]
    TooSlow,
    /// What the client sent is no valid body.
    #[error("the request body is malformed")]
    Malformed,
    /// The trailers behind it are too long or too many.
    #[error("the trailers of the request are too large")]
    TrailersTooLarge,
    /// The client left.
    #[error("the request body broke off")]
    Left,
    /// The attempt that was reading it was given up.
    #[error("the attempt was given up")]
    GivenUp,
}

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The last byte was read from the client, then.
    Finished(Instant),
    /// The client is waited for.
    Awaited,
    /// Nobody has asked for more since.
    Untaken(Instant),
}

/// The body of one request, whatever the number of attempts.
#[derive(Debug)]
pub struct Upload {
    source: RefCell<Source>,
    max_bytes: Cell<u64>,
    pause: Cell<Option<Duration>>,
    /// The reader of this number is the one that may read.
    reader: Cell<u32>,
    received: Cell<u64>,
    finished: Cell<Option<Instant>>,
    /// The last look at the client found nothing.
    awaited: Cell<bool>,
    /// When something was last read from the client.
    moved: Cell<Instant>,
    failure: Cell<Option<UploadFailure>>,
}

#[derive(Debug)]
struct Source {
    incoming: Incoming,
    timer: Timer,
    /// In one piece, and a copy: the smallest frame would hold the buffer that it was read into.
    kept: Vec<u8>,
    keeping: bool,
    /// Something was read that is not kept.
    lost: bool,
    ended: bool,
}

impl Upload {
    /// An upload that nobody has begun to read. `pause` is the longest time between two bytes.
    pub fn new(incoming: Incoming, pause: Duration, wheel: &Rc<Wheel>) -> Rc<Self> {
        Rc::new(Upload {
            source: RefCell::new(Source {
                incoming,
                timer: wheel.timer(),
                kept: Vec::new(),
                keeping: false,
                lost: false,
                ended: false,
            }),
            max_bytes: Cell::new(u64::MAX),
            pause: Cell::new(Some(pause)),
            reader: Cell::new(0),
            received: Cell::new(0),
            finished: Cell::new(None),
            awaited: Cell::new(false),
            moved: Cell::new(Instant::now()),
            failure: Cell::new(None),
        })
    }

    /// Lets it be read: `replayable` is whether what has been read is kept for another attempt,
    /// `pause` the longest time between two bytes, if that is limited.
    pub fn admit(&self, replayable: bool, max_bytes: Option<u64>, pause: Option<Duration>) {
        self.pause.set(pause);
        self.source.borrow_mut().keeping = replayable;
        self.max_bytes.set(max_bytes.unwrap_or(u64::MAX));
    }

    /// The body for the next attempt; the one before can read no more.
    pub fn attempt(self: &Rc<Self>) -> RequestBody {
        self.reader.set(self.reader.get() + 1);
        RequestBody(Some(Reader {
            upload: Rc::clone(self),
            number: self.reader.get(),
            replayed: 0,
        }))
    }

    /// Lets nobody read on.
    pub fn give_up(&self) {
        self.reader.set(self.reader.get() + 1);
    }

    /// Whether another attempt could send it from its beginning.
    pub fn can_be_sent_again(&self) -> bool {
        self.failure.get().is_none() && !self.source.borrow().lost
    }

    /// When the last byte was read from the client.
    pub fn finished(&self) -> Option<Instant> {
        self.finished.get()
    }

    /// Whom it is waiting for, if it is not finished.
    pub fn progress(&self) -> Progress {
        match self.finished.get() {
            Some(at) => Progress::Finished(at),
            None if self.awaited.get() => Progress::Awaited,
            None => Progress::Untaken(self.moved.get()),
        }
    }

    /// Whether the client is waited for.
    pub fn is_awaited(&self) -> bool {
        self.progress() == Progress::Awaited
    }

    /// What went wrong on the client's side.
    pub fn failure(&self) -> Option<UploadFailure> {
        self.failure.get()
    }

    /// Bytes received from the client.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Whether its length is known.
    pub fn has_known_length(&self) -> bool {
        self.source.borrow().incoming.size_hint().exact().is_some()
    }

    /// Reads on and throws away what the client still sends, up to so many bytes. Ready when
    /// nothing more comes, or too much.
    pub fn poll_discard(&self, cx: &mut Context<'_>, max_bytes: &mut usize) -> Poll<()> {
        let incoming = &mut self.source.borrow_mut().incoming;
        while let Some(Ok(frame)) = ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match max_bytes.checked_sub(length) {
                Some(left) => *max_bytes = left,
                None => break,
            }
        }
        Poll::Ready(())
    }

    fn fail(&self, failure: UploadFailure) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        self.failure.set(Some(failure));
        Poll::Ready(Some(Err(failure)))
    }

    fn finish(&self, source: &mut Source) {
        source.ended = true;
        source.timer.disarm();
        if self.finished.get().is_none() {
            self.finished.set(Some(Instant::now()));
        }
    }

    /// Reads on from the client, for the reader that has had everything that was kept.
    fn poll_source(
        &self,
        cx: &mut Context<'_>,
        replayed: &mut usize,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        let source = &mut *self.source.borrow_mut();
        let frame = match Pin::new(&mut source.incoming).poll_frame(cx) {
            Poll::Pending => {
                self.awaited.set(true);
                if let Some(pause) = self.pause.get()
                    && !source.timer.is_armed()
                {
                    source.timer.arm(Instant::now() + pause);
                }
                ready!(source.timer.poll_expired(cx));
                return self.fail(UploadFailure::TooSlow);
            }
            Poll::Ready(None) => {
                self.finish(source);
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(failure))) => return self.fail(failure),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        source.timer.disarm();
        self.awaited.set(false);
        self.moved.set(Instant::now());
        if let Some(data) = frame.data_ref() {
            let received = self.received.get() + data.len() as u64;
            self.received.set(received);
            if received > self.max_bytes.get() {
                return self.fail(UploadFailure::TooLarge);
            }
            if source.keeping && source.kept.len() + data.len() <= REPLAY_BYTES {
                source.kept.extend_from_slice(data);
                *replayed += data.len();
            } else {
                source.keeping = false;
                source.lost |= received > 0;
                source.kept = Vec::new();
                *replayed = 0;
            }
        } else {
            // HTTP/1.1 was checked in its raw form.
            let trailers = frame.trailers_ref();
            if trailers.is_some_and(|fields| {
                fields.keys().any(|name| !may_be_trailer(name.as_str().as_bytes()))
            }) {
                return self.fail(UploadFailure::Malformed);
            }
            // Trailers are rare enough not to be kept.
            source.lost = true;
        }
        // Behind trailers nothing comes, and whoever sends them on does not ask.
        if frame.is_trailers() || source.incoming.is_end_stream() {
            self.finish(source);
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

/// The body of one attempt.
#[derive(Debug)]
pub struct RequestBody(Option<Reader>);

#[derive(Debug)]
struct Reader {
    upload: Rc<Upload>,
    number: u32,
    /// How many of the kept bytes this reader has had.
    replayed: usize,
}

impl RequestBody {
    /// No body: nothing is allocated for it.
    pub fn empty() -> Self {
        RequestBody(None)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        let Some(reader) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        let upload = &reader.upload;
        if upload.reader.get() != reader.number {
            return Poll::Ready(Some(Err(UploadFailure::GivenUp)));
        }
        if let Some(failure) = upload.failure.get() {
            return Poll::Ready(Some(Err(failure)));
        }
        {
            let source = upload.source.borrow();
            let kept = source.kept.get(reader.replayed..).unwrap_or_default();
            if !kept.is_empty() {
                reader.replayed = source.kept.len();
                return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(kept)))));
            }
            if source.ended {
                return Poll::Ready(None);
            }
        }
        upload.poll_source(cx, &mut reader.replayed)
    }

    fn is_end_stream(&self) -> bool {
        let Some(reader) = &self.0 else { return true };
        let source = reader.upload.source.borrow();
        source.ended && reader.replayed >= source.kept.len()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(reader) = &self.0 else { return SizeHint::with_exact(0) };
        let source = reader.upload.source.borrow();
        let to_replay = source.kept.len().saturating_sub(reader.replayed) as u64;
        match source.incoming.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + to_replay),
            None => SizeHint::default(),
        }
    }
}
