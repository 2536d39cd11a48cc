//! Reading from an HTTP/1.1 connection: whatever arrives goes past the scanner first, and from there
//! into heads, body frames and trailers, none of which is copied.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::ConnectionGauge;
use super::head;
use crate::framing::inbox::Inbox;
use crate::framing::plain::Sieve;
use crate::framing::read_size::ReadSize;
use crate::framing::{Limits, Violation, fields};
use crate::upstream::dial::UpstreamStream;
use crate::upstream::error::closes;
use crate::upstream::framing::{Asked, Part, Scanner};
use crate::upstream::spare::Spare;
use crate::upstream::{Error, ResponseHead};

/// What a backend may send in one head: more than any that is meant well, and little enough that a
/// thousand of them at once do no harm.
pub(in crate::upstream) const LIMITS: Limits =
    Limits { max_header_bytes: 64 * 1024, max_headers: 256 };

/// A connection, as its reader sees it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: UpstreamStream,
    /// The request has been written in full.
    pub(super) sent: bool,
    scanner: Scanner,
    inbox: Inbox,
    /// Something came since the latest request.
    heard: bool,
    /// No further request may be sent.
    over: bool,
    /// The request cannot be written to its end.
    cut: bool,
    violation: Option<Violation>,
    trailers: Option<Box<HeaderMap>>,
    /// Whoever reads, while somebody else writes.
    reader: Option<Waker>,
    /// What of the answer's fields may stay as it comes.
    sieve: Option<Sieve>,
    gauge: ConnectionGauge,
    pub(super) spare: Rc<Spare>,
}

impl Link {
    pub(super) fn new(stream: UpstreamStream, gauge: ConnectionGauge, spare: Rc<Spare>) -> Self {
        Link {
            stream,
            sent: true,
            scanner: Scanner::new(LIMITS),
            inbox: Inbox::new(&[], ReadSize::new()),
            heard: false,
            over: false,
            cut: false,
            violation: None,
            trailers: None,
            reader: None,
            sieve: None,
            gauge,
            spare,
        }
    }

    pub(super) fn gauge(&self) -> ConnectionGauge {
        self.gauge.clone()
    }

    /// What the backend sent that is not to be passed on.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// A request is about to be written: what comes from now on may be its answer.
    pub(super) fn ask(&mut self, asked: Asked, sieve: Option<Sieve>) {
        self.scanner.ask(asked);
        self.sieve = sieve;
        self.inbox.hold_back();
        self.heard = false;
        self.sent = false;
    }

    /// Whoever gets the answer does not keep up with it.
    pub(super) fn hold_back(&mut self) {
        self.inbox.hold_back();
    }

    /// Whether another request can be sent.
    pub(super) fn is_reusable(&self) -> bool {
        !self.over && self.sent && self.scanner.is_idle()
    }

    /// Whether an unused connection is as it was left: neither closed nor spoken on, since there is
    /// nothing to speak of.
    pub(super) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        if self.over {
            return false;
        }
        if self.stream.is_silent() {
            return true;
        }
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        if pin!(&mut self.stream).poll_read(cx, &mut byte).is_pending() {
            return true;
        }
        if !byte.filled().is_empty() {
            self.refuse(Violation::Unsolicited);
        }
        self.over = true;
        false
    }

    /// Why nothing more is to be had of a connection that is not quiet.
    pub(super) fn why_over(&self) -> Error {
        match self.violation {
            Some(violation) => Error::Malformed(violation.reason().into()),
            None => Error::Connect(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Gives the room for reads back.
    pub(super) fn release(&mut self) {
        self.scanner.release();
        self.inbox.shrink();
    }

    /// Nothing more can come of this exchange: its request cannot be written to its end.
    pub(super) fn cut(&mut self) {
        self.cut = true;
        self.over = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Waits for the head of the answer.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        reused: bool,
    ) -> Poll<Result<Box<ResponseHead>, Error>> {
        loop {
            while !self.inbox.fresh().is_empty() {
                match self.scan() {
                    Ok(Part::InterimEnd) => self.inbox.skip(),
                    Ok(Part::HeadEnd) => {
                        let head = self.inbox.take();
                        return Poll::Ready(self.take_in(head));
                    }
                    Ok(_) => {}
                    Err(violation) => {
                        return Poll::Ready(Err(Error::Malformed(violation.reason().into())));
                    }
                }
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if !is_start_of_head(self.inbox.bytes()) => {
                    self.refuse(Violation::InvalidStatusLine);
                    return Poll::Ready(Err(self.why_over()));
                }
                Ok(0) => {
                    let end = io::ErrorKind::UnexpectedEof.into();
                    return Poll::Ready(Err(self.broken(end, reused)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.broken(error, reused))),
            }
        }
    }

    fn take_in(&mut self, head: Bytes) -> Result<Box<ResponseHead>, Error> {
        let spans = self.scanner.take_spans();
        let length_is_known = matches!(self.scanner.body_length(), Some(1..));
        let head = head::parse(head, &spans, &self.spare, self.sieve, length_is_known);
        let head = head.ok_or_else(|| {
            self.count_malformed();
            Error::Malformed("its head cannot be read".into())
        })?;
        self.over |= !self.scanner.keeps_open() || self.scanner.is_spent();
        self.look_ahead().map_err(|violation| {
            self.refuse(violation);
            Error::Malformed(violation.reason().into())
        })?;
        self.scanner.keep_spans(spans);
        self.note_end();
        Ok(head)
    }

    /// Looks at the chunks that came with the head. Once the head has been passed on, the client can
    /// only be told of what is wrong with them by a broken connection.
    fn look_ahead(&self) -> Result<(), Violation> {
        if !self.scanner.expects_framing() {
            return Ok(());
        }
        let mut scanner = self.scanner.clone();
        let mut rest = self.inbox.bytes();
        while !rest.is_empty() && !scanner.is_idle() {
            let (passed, part) = scanner.next(rest);
            part?;
            rest = &rest[passed..];
        }
        Ok(())
    }

    /// Waits for the next frame of the body; `None` at its end.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
            }
            if self.scanner.is_idle() {
                return Poll::Ready(None);
            }
            if !self.inbox.fresh().is_empty() {
                match self.scan() {
                    Ok(Part::Data) => {
                        let data = self.inbox.take();
                        self.pass_framing();
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(part) => self.pass_over(part),
                    Err(_) => return Poll::Ready(Some(Err(io::ErrorKind::InvalidData.into()))),
                }
                continue;
            }
            let read = self.poll_fill(cx);
            if read.is_pending() && !self.sent {
                if self.cut {
                    return Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into())));
                }
                self.reader = Some(cx.waker().clone());
            }
            match ready!(read) {
                Ok(0) if self.scanner.ends_with_connection() => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// Whether the answer has been read to its end.
    pub(super) fn is_at_end(&self) -> bool {
        self.scanner.is_idle() && self.trailers.is_none()
    }

    /// The length of the body that comes now, in bytes, if it was announced.
    pub(super) fn body_length(&self) -> Option<u64> {
        self.scanner.body_length()
    }

    /// The connection behind a switch of protocols, and what was read from it already.
    pub(super) fn into_tunnel(self) -> (UpstreamStream, Bytes) {
        // A copy, since the buffer is large and a tunnel lives long.
        (self.stream, Bytes::copy_from_slice(self.inbox.bytes()))
    }

    /// Passes over what frames the data that was read, so that its end is known with its last byte.
    fn pass_framing(&mut self) {
        while !self.inbox.fresh().is_empty() && self.scanner.expects_framing() {
            match self.scan() {
                Ok(part) => self.pass_over(part),
                // Told in place of the next frame.
                Err(_) => return,
            }
        }
        self.note_end();
    }

    fn pass_over(&mut self, part: Part) {
        if part != Part::Trailers {
            self.inbox.skip();
        } else if self.scanner.is_idle() {
            let lines = self.inbox.take();
            let spans = self.scanner.take_spans();
            if !spans.is_empty() {
                self.trailers = fields::read(&lines, &spans, HeaderMap::new()).map(Box::new);
            }
            self.note_end();
        }
    }

    /// Behind the end of the answer nothing may come.
    fn note_end(&mut self) {
        if !self.scanner.is_idle() {
            return;
        }
        if let Some(room) = self.inbox.give_back() {
            self.spare.keep_room(room);
        } else if !self.inbox.bytes().is_empty() && self.violation.is_none() {
            self.refuse(Violation::Unsolicited);
        }
    }

    fn scan(&mut self) -> Result<Part, Violation> {
        if let Some(violation) = self.violation {
            return Err(violation);
        }
        let (passed, part) = self.scanner.next(self.inbox.fresh());
        self.inbox.judge(passed);
        part.inspect_err(|violation| self.refuse(*violation))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.inbox.hold_to(self.spare.slow_clients.room());
        // A slow backend is waited for without a buffer.
        let wants_buffer = self.inbox.is_without_buffer();
        let lent = wants_buffer && !self.heard && self.inbox.lend(|| self.spare.take_room());
        if wants_buffer && !lent {
            ready!(self.stream.poll_readable(cx))?;
        }
        let read = pin!(self.stream.read_buf(self.inbox.buffer())).poll(cx);
        if lent
            && read.is_pending()
            && let Some(room) = self.inbox.give_back()
        {
            self.spare.keep_room(room);
        }
        let read = ready!(read)?;
        self.heard |= read > 0;
        self.inbox.note_read(read);
        Poll::Ready(Ok(read))
    }

    /// The connection ended, or broke, before the head of the answer.
    fn broken(&mut self, error: io::Error, reused: bool) -> Error {
        self.over = true;
        // Whoever has begun to answer had not closed the connection before it was asked
        // (RFC 9112 section 9.6).
        let stale = reused && !self.heard && closes(error.kind());
        if stale { Error::Stale } else { Error::Reset(error) }
    }

    fn refuse(&mut self, violation: Violation) {
        self.over = true;
        self.violation = Some(violation);
        self.count_malformed();
        let (backend, kind) = (&*self.gauge.backend().label, violation.label());
        tracing::debug!(backend, kind, "a backend sent what is not to be passed on");
    }

    fn count_malformed(&self) {
        self.gauge.cells().malformed.add(1);
    }
}

/// Whether so little, or nothing, can still become a head.
fn is_start_of_head(bytes: &[u8]) -> bool {
    const VERSION: &[u8] = b"HTTP/1.";
    let length = bytes.len().min(VERSION.len());
    bytes[..length] == VERSION[..length]
}
