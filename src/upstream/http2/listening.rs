//! The reading end of a connection, with an eye on the heads of frames: what h2 would count to its
//! own end, or never count at all.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::status::Status;
use crate::framing::frames::{DATA, END_STREAM, FrameHead, Frames, HEADERS, HeadBytes, PADDED};
use crate::upstream::dial::UpstreamStream;

/// Bytes of padding, its length included.
const MOST_PADDING: usize = 256;
/// Pieces of an answer below this are small.
const SMALL_BYTES: usize = 256;

/// A connection whose frames are looked at as they are read.
#[derive(Debug)]
pub(super) struct Listening {
    stream: UpstreamStream,
    frames: Frames,
    status: Rc<Status>,
}

impl Listening {
    pub(super) fn new(stream: UpstreamStream, status: Rc<Status>) -> Listening {
        Listening { stream, frames: Frames::default(), status }
    }
}

/// Looks at a frame that begins.
fn note(status: &Status, head: FrameHead, bytes: &mut HeadBytes<'_>) -> io::Result<()> {
    let ends = head.has(END_STREAM);
    if matches!(head.kind, HEADERS | DATA) {
        status.note_words();
    }
    match head.kind {
        HEADERS if !ends => return status.note_head(),
        // They mean nothing (RFC 9113 section 6.1), but h2 takes only so many of them in the whole life
        // of a connection.
        DATA if head.length == 0 && !ends => {
            let is_hidden = bytes.make_unknown();
            if !is_hidden {
                status.note_empty();
            }
        }
        // There may be nothing in it but padding, which is not seen here.
        DATA if head.has(PADDED) && head.length <= MOST_PADDING && !ends => {
            status.note_small();
            status.note_empty();
        }
        DATA if head.length < SMALL_BYTES => status.note_small(),
        _ => {}
    }
    Ok(())
}

impl AsyncRead for Listening {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Listening { stream, frames, status } = self.get_mut();
        if status.is_crowded() {
            // The driver comes first.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(stream).poll_read(cx, buf));
        let new = &mut buf.filled_mut()[before..];
        if !new.is_empty() {
            status.note_heard();
        }
        let noted = frames.feed(new, |head, bytes| note(status, head, bytes));
        Poll::Ready(read.and(noted))
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
