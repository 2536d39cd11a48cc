//! The client's end of an HTTP/1.1 connection: whatever arrives goes past the scanner, and from there
//! into heads, body frames and trailers; and what goes out waits here until the client takes it.

mod ending;
mod expects;
mod held;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::framing::inbox::Inbox;
use crate::framing::line::Lines;
use crate::framing::read_size::ReadSize;
use crate::framing::{Violation, fields};
use crate::proxy::body::UploadFailure;
use crate::proxy::framing::{Part, Phase, Scanner};
use crate::proxy::io::{ClientStream, IoState};
use crate::upstream::Spare;

/// The largest read while no body is being read.
const READ_BYTES: usize = 16 * 1024;
/// With so much waiting for its turn, nothing more is read ahead.
const AHEAD_BYTES: usize = 16 * 1024;
/// The largest read of a body: clients are many, and each may be slow or have a slow backend.
const BODY_READ_BYTES: usize = 32 * 1024;

/// What TLS may hold of an answer: as much as goes out in one write.
const SEALED_BYTES: usize = 64 * 1024;

/// What came in place of a request, or with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Its head is there.
    Head,
    /// Nothing: the client has left.
    End,
    /// What is not to be passed on.
    Refused(Violation),
}

/// A connection, as requests are read from it and answers are written to it.
#[derive(Debug)]
pub struct Link {
    /// Absent once it is somebody else's.
    stream: Option<ClientStream>,
    scanner: Scanner,
    state: Rc<IoState>,
    inbox: Inbox,
    /// It begins with a whole head.
    whole_head: bool,
    trailers: Option<Box<HeaderMap>>,
    /// Bytes of the latest piece of a body, and of what was read of it.
    piece: usize,
    uploaded: usize,
    /// The client has closed its sending side.
    ended: bool,
    /// The client waits for a word before it sends its body.
    expects: bool,
    /// What goes out belongs to an answer.
    answering: bool,
    /// What goes out next; written up to `written`.
    pub(super) out: Vec<u8>,
    written: usize,
    /// The connection's own task, while somebody else may read the body.
    waiting: Option<Waker>,
}

impl Link {
    /// A connection of which these bytes were read already.
    pub fn new(stream: ClientStream, held: Vec<u8>, scanner: Scanner, state: Rc<IoState>) -> Self {
        Link {
            stream: Some(stream),
            scanner,
            state,
            inbox: Inbox::new(&held, ReadSize::up_to(BODY_READ_BYTES)),
            whole_head: false,
            trailers: None,
            piece: 0,
            uploaded: 0,
            ended: false,
            expects: false,
            answering: false,
            out: Vec::new(),
            written: 0,
            waiting: None,
        }
    }

    /// Waits for the head of a request. `scratch` is lent for reads, so that who is silent holds no
    /// buffer, and who drips a head none that is larger than what has come of it.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Heard> {
        if self.whole_head {
            return Poll::Ready(Heard::Head);
        }
        loop {
            match self.scan_head() {
                Ok(true) => return Poll::Ready(Heard::Head),
                Ok(false) if self.ended => return Poll::Ready(Heard::End),
                Ok(false) => {}
                Err(violation) => return Poll::Ready(Heard::Refused(violation)),
            }
            let filled = self.poll_fill(cx, scratch);
            if filled.is_pending() {
                self.catch_up(cx);
            }
            if ready!(filled).is_err() {
                return Poll::Ready(Heard::End);
            }
        }
    }

    /// Looks for a whole head in what was read. A line without its end waits in the buffer, and the
    /// scanner does not see it yet, since it would keep it too.
    fn scan_head(&mut self) -> Result<bool, Violation> {
        while !self.inbox.fresh().is_empty() {
            let (fresh, lines) = (self.inbox.fresh(), self.inbox.whole_lines());
            if lines.is_empty() && self.scanner.over_limit(fresh.len()).is_none() {
                break;
            }
            let lines = if lines.is_empty() { fresh } else { lines };
            let (passed, part) = self.scanner.next(lines);
            self.inbox.judge(passed);
            match part? {
                Part::HeadEnd => {
                    self.whole_head = true;
                    self.state.head_since.set(None);
                    return Ok(true);
                }
                Part::EmptyLine => self.inbox.skip(),
                _ => {}
            }
        }
        if self.inbox.bytes().is_empty() {
            self.state.head_since.set(None);
        } else if self.state.head_since.get().is_none() {
            self.state.head_since.set(Some(Instant::now()));
        }
        Ok(false)
    }

    /// The whole head that is there, as bytes, and what the scanner says of it.
    pub(super) fn take_head(&mut self) -> (Bytes, &Scanner) {
        self.whole_head = false;
        self.answering = false;
        self.inbox.hold_back();
        (self.piece, self.uploaded) = (0, 0);
        if !self.ended {
            self.state.half_closed_since.set(None);
        }
        let head = self.scanner.head();
        self.expects = head.expects && !head.http10 && self.scanner.phase() == Phase::Body;
        (self.inbox.take(), &self.scanner)
    }

    /// Whether something of the latest request's body is still to come.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.scanner.phase(), Phase::Body | Phase::Refused) || self.trailers.is_some()
    }

    /// The length of the body that comes now, if it was announced, in bytes.
    pub(super) fn body_length(&self) -> Option<u64> {
        self.scanner.body_length()
    }

    /// Waits for the next frame of the body; `None` at its end.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        self.ask_for_body(cx);
        loop {
            if let Some(trailers) = self.trailers.take() {
                self.note_end();
                return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
            }
            match self.scanner.phase() {
                Phase::Body => {}
                Phase::Refused => return Poll::Ready(Some(Err(UploadFailure::of(&self.scanner)))),
                _ => return Poll::Ready(None),
            }
            if !self.inbox.fresh().is_empty() {
                match self.scan() {
                    Ok(Part::Data) => {
                        let data = self.inbox.take();
                        self.pass_framing();
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(part) => self.pass_over(part),
                    Err(_) => return Poll::Ready(Some(Err(UploadFailure::of(&self.scanner)))),
                }
                continue;
            }
            match ready!(self.poll_fill_body(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(UploadFailure::Left)));
                }
            }
        }
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
        } else if self.scanner.phase() != Phase::Body {
            let lines = self.inbox.take();
            if !self.scanner.spans().is_empty() {
                self.trailers =
                    fields::read(&lines, self.scanner.spans(), HeaderMap::new()).map(Box::new);
            }
            self.note_end();
        }
    }

    /// Tells the connection's own task if the body has ended, and it is not the one that reads.
    fn note_end(&mut self) {
        if !self.is_in_body()
            && let Some(task) = self.waiting.take()
        {
            task.wake();
        }
    }

    fn scan(&mut self) -> Result<Part, Violation> {
        let (passed, part) = self.scanner.next(self.inbox.fresh());
        self.inbox.judge(passed);
        part
    }

    /// Watches for the end of a client that waits for its answer. Ready when it has left.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
        if self.state.left.get() {
            if self.ended || self.stream.as_ref().is_none_or(ClientStream::is_hung_up) {
                return Poll::Ready(());
            }
            // It has only sent much ahead, and is asked after again later.
            self.state.left.set(false);
            self.state.half_closed_since.set(None);
        }
        let in_body = self.is_in_body();
        self.waiting = in_body.then(|| cx.waker().clone());
        if self.puts_off() && ready!(self.poll_catch_up(cx)).is_err() {
            return Poll::Ready(());
        }
        if in_body {
            return self.poll_broken();
        }
        // What comes meanwhile waits for its turn; the end is seen only behind it.
        while self.inbox.bytes().len() < AHEAD_BYTES && !self.ended {
            if let Some(stream) = &mut self.stream
                && ready!(stream.poll_readable(cx)).is_err()
            {
                return Poll::Ready(());
            }
            if ready!(self.poll_fill(cx, scratch)).is_err() {
                return Poll::Ready(());
            }
        }
        if self.state.half_closed_since.get().is_none() {
            // It may be no more than the end of its requests. And behind what is not read an end is
            // not told of, so that it is looked for then.
            self.state.half_closed_since.set(Some(Instant::now()));
        }
        Poll::Pending
    }

    /// The task is polled: it need not be woken for what happens meanwhile.
    pub(super) fn begin_turn(&mut self) {
        self.waiting = None;
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<()>> {
        let mut buf = ReadBuf::new(&mut scratch[..READ_BYTES]);
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(gone())) };
        ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
        let read = buf.filled();
        self.ended |= read.is_empty();
        self.inbox.extend(read);
        Poll::Ready(Ok(()))
    }

    fn poll_fill_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(gone())) };
        self.inbox.hold_to(self.state.held.room());
        if self.inbox.is_without_buffer() {
            // Whoever uploads slowly is waited for without one.
            ready!(stream.poll_readable(cx))?;
        }
        let read = ready!(pin!(stream.read_buf(self.inbox.buffer())).poll(cx))?;
        self.inbox.note_read(read);
        self.state.held.moved(read);
        self.piece = read;
        self.uploaded += read;
        Poll::Ready(Ok(read))
    }

    /// Writes what is in `out`, and `data` and `end` behind it. Ready as soon as something was
    /// written, or nothing was left.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        end: &mut &'static [u8],
    ) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(gone())) };
        stream.hold_to(SEALED_BYTES.min(self.state.held.room()));
        let head = &self.out[self.written..];
        let result = if data.is_empty() && end.is_empty() {
            Pin::new(&mut *stream).poll_write(cx, head)
        } else {
            let slices = [head, data, end].map(IoSlice::new);
            Pin::new(&mut *stream).poll_write_vectored(cx, &slices)
        };
        self.state.note_write(stream, &result);
        let mut written = match ready!(result)? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => written,
        };
        let mut take = |length: usize| {
            let taken = written.min(length);
            written -= taken;
            taken
        };
        self.written += take(head.len());
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        let taken = take(data.len());
        // An empty rest would still hold the buffer that it was read into.
        *data = if taken == data.len() { Bytes::new() } else { data.split_off(taken) };
        *end = &end[take(end.len())..];
        Poll::Ready(Ok(()))
    }

    /// What goes out from now on is an answer: nothing else is to be said.
    pub(super) fn begin_answer(&mut self, spare: &Spare) -> &mut Vec<u8> {
        self.answering = true;
        self.expects = false;
        if self.out.is_empty() {
            self.out = spare.take_out();
        }
        &mut self.out
    }

    /// How much is to be written before anything else.
    pub(super) fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Sees to it that what was written is on its way.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        let flushed = Pin::new(&mut *stream).poll_flush(cx);
        self.state.note_flush(stream, &flushed);
        flushed
    }

    /// The answer has been given. If it did not switch protocols, what follows is the next request.
    pub(super) fn resume(&mut self) {
        self.scanner.resume();
    }
}

/// The stream is no longer here.
fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
