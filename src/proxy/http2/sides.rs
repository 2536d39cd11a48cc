//! The two sides of a stream, as those see it who serve it: its sender, and the body of its request or
//! the socket that it becomes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::{Core, FRAME_BYTES, code};
use super::streams::Stream;
use crate::proxy::body::UploadFailure;
use crate::proxy::wakers::note;

/// A part in a stream. What is left of the stream when nobody has one is reset.
#[derive(Debug)]
struct Part {
    core: Rc<RefCell<Core>>,
    key: usize,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.core.borrow_mut().let_go(self.key);
    }
}

/// The side that answers. If it is dropped before the answer's end, the stream is reset.
#[derive(Debug)]
pub(super) struct Sender(Part);

impl Sender {
    /// The sender of a stream that is held for it.
    pub(super) fn new(core: &Rc<RefCell<Core>>, key: usize) -> Sender {
        Sender(Part { core: Rc::clone(core), key })
    }

    /// Ready when the stream is no more. If not, the task is woken when it is, or when what was to be
    /// sent has gone.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let stream = &mut self.0.core.borrow_mut().streams[self.0.key];
        if stream.failure.is_some() {
            return Poll::Ready(());
        }
        note(&mut stream.sender, cx.waker());
        Poll::Pending
    }

    /// Whether the client's own mistake was the end of it, of which whoever serves it is to learn.
    pub(super) fn is_refused(&self) -> bool {
        self.0.core.borrow().streams[self.0.key].failure == Some(UploadFailure::Malformed)
    }

    /// Whether all that was to be sent has gone, into what is written next.
    pub(super) fn is_drained(&self) -> bool {
        self.0.core.borrow().streams[self.0.key].pending.is_empty()
    }

    /// How far what is to be sent has come.
    pub(super) fn progress(&self) -> Progress {
        let core = self.0.core.borrow();
        let stream = &core.streams[self.0.key];
        Progress { left: stream.pending.len(), open: stream.send_window > 0, sent: core.sent }
    }

    /// Whether it carries another protocol.
    pub(super) fn is_socket(&self) -> bool {
        self.0.core.borrow().streams[self.0.key].is_socket
    }

    /// Sends the head of the answer.
    pub(super) fn send_head(&self, ends: bool, encode: impl FnOnce(&mut Vec<u8>)) {
        let core = &mut *self.0.core.borrow_mut();
        core.streams[self.0.key].sent_head = true;
        core.streams[self.0.key].expects = false;
        core.budgets.sent_fields();
        core.send_fields(self.0.key, ends, encode);
    }

    /// Sends content; all that was given before has gone.
    pub(super) fn send_data(&self, data: Bytes, ends: bool) {
        self.0.core.borrow_mut().send_data(self.0.key, data, ends);
    }

    /// Sends trailers.
    pub(super) fn send_trailers(&self, trailers: &HeaderMap) {
        self.0.core.borrow_mut().send_trailers(self.0.key, trailers);
    }

    /// Breaks the answer off.
    pub(super) fn reset(&self, code: u32) {
        self.0.core.borrow_mut().reset(self.0.key, code, UploadFailure::Left);
    }
}

/// How far a stream has come with what is to be sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes that have not gone.
    left: usize,
    /// The stream has a window.
    open: bool,
    /// Bytes that have gone on the whole connection.
    sent: u64,
}

impl Progress {
    /// Whether something was taken since an earlier look: of the stream, or of others while this one
    /// waited for its turn on the connection.
    pub(super) fn has_moved_since(&self, earlier: &Progress) -> bool {
        self.left < earlier.left || (self.open && self.sent > earlier.sent)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let core = &mut *self.0.core.borrow_mut();
        let stream = &mut core.streams[self.0.key];
        stream.sender = None;
        if !stream.send_ended && !stream.is_socket {
            core.reset(self.0.key, code::INTERNAL_ERROR, UploadFailure::Left);
        }
    }
}

/// The body of a request. What is read of it, the client may send anew.
#[derive(Debug)]
pub struct Body(Part);

impl Body {
    /// The body on a stream that is held for it.
    pub(super) fn new(core: &Rc<RefCell<Core>>, key: usize) -> Body {
        Body(Part { core: Rc::clone(core), key })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = UploadFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        let key = self.0.key;
        let core = &mut *self.0.core.borrow_mut();
        let stream = &mut core.streams[key];
        if let Some(failure) = stream.failure {
            return Poll::Ready(Some(Err(failure)));
        }
        if let Some(data) = stream.untaken.take_piece() {
            core.take(key, data.len());
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(failure) = stream.unfit {
            return Poll::Ready(Some(Err(failure)));
        }
        if let Some(trailers) = stream.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
        }
        if stream.receive_ended {
            return Poll::Ready(None);
        }
        note(&mut stream.receiver, cx.waker());
        if std::mem::take(&mut stream.expects) {
            core.send_continue(key);
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let stream = &self.0.core.borrow().streams[self.0.key];
        stream.receive_ended
            && stream.untaken.is_empty()
            && stream.trailers.is_none()
            && stream.unfit.is_none()
            && stream.failure.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let stream = &self.0.core.borrow().streams[self.0.key];
        match stream.length_left {
            Some(left) => SizeHint::with_exact(left + stream.untaken.len() as u64),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.0.core.borrow_mut().discard(self.0.key);
    }
}

/// A stream for another protocol (RFC 8441).
#[derive(Debug)]
pub struct Socket {
    part: Part,
    protocol: Bytes,
}

impl Socket {
    /// A stream that is held for it, and the protocol that the client named.
    pub(super) fn new(core: &Rc<RefCell<Core>>, key: usize, protocol: Bytes) -> Socket {
        Socket { part: Part { core: Rc::clone(core), key }, protocol }
    }

    /// The name of the protocol.
    pub fn protocol(&self) -> &[u8] {
        &self.protocol
    }

    /// Behind the head of the answer the other protocol begins.
    pub fn open(&self) {
        self.part.core.borrow_mut().streams[self.part.key].is_socket = true;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.part.core.borrow_mut().discard(self.part.key);
    }
}

/// The client has left.
fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Ready when all that was to be sent has gone.
fn poll_sent(stream: &mut Stream, cx: &Context<'_>) -> Poll<io::Result<()>> {
    if stream.failure.is_some() {
        return Poll::Ready(Err(gone()));
    }
    if stream.pending.is_empty() {
        return Poll::Ready(Ok(()));
    }
    note(&mut stream.sender, cx.waker());
    Poll::Pending
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let key = self.part.key;
        let core = &mut *self.part.core.borrow_mut();
        let stream = &mut core.streams[key];
        if stream.failure.is_some() {
            return Poll::Ready(Err(gone()));
        }
        let length = stream.untaken.read(buf);
        if length == 0 {
            if stream.receive_ended {
                return Poll::Ready(Ok(()));
            }
            note(&mut stream.receiver, cx.waker());
            return Poll::Pending;
        }
        core.take(key, length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let key = self.part.key;
        let core = &mut *self.part.core.borrow_mut();
        ready!(poll_sent(&mut core.streams[key], cx))?;
        let part = &bytes[..bytes.len().min(FRAME_BYTES)];
        core.send_data(key, Bytes::copy_from_slice(part), false);
        Poll::Ready(Ok(part.len()))
    }

    /// The connection's task does it. What there is to be learned is whether the client has left.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.part.core.borrow_mut().streams[self.part.key];
        if stream.failure.is_some() {
            return Poll::Ready(Err(gone()));
        }
        note(&mut stream.sender, cx.waker());
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let key = self.part.key;
        let core = &mut *self.part.core.borrow_mut();
        let stream = &mut core.streams[key];
        ready!(poll_sent(stream, cx))?;
        if !stream.send_ended {
            core.send_data(key, Bytes::new(), true);
        }
        Poll::Ready(Ok(()))
    }
}
