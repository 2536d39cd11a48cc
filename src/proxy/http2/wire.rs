//! The client's end of an HTTP/2 connection: bytes in, gathered frames out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::out::Out;
use crate::proxy::io::{ClientStream, IoState};

/// What TLS may hold of sealed records that were not written yet: four of the largest (RFC 8446
/// section 5.1), which go out as one write.
const SEALED_BYTES: usize = 4 * (16 * 1024 + 256);

/// See the module.
#[derive(Debug)]
pub struct Wire {
    stream: ClientStream,
    /// Bytes that were read before, to tell the version of HTTP.
    held: Vec<u8>,
    state: Rc<IoState>,
}

impl Wire {
    /// A connection of which these bytes were read already.
    pub fn new(mut stream: ClientStream, held: Vec<u8>, state: Rc<IoState>) -> Wire {
        if let ClientStream::Tls(tls) = &mut stream {
            tls.share();
        }
        Wire { stream, held, state }
    }

    /// Reads into some room. Nothing is read at the end.
    pub(super) fn poll_read<'a>(
        &mut self,
        cx: &mut Context<'_>,
        room: &'a mut [u8],
    ) -> Poll<io::Result<&'a [u8]>> {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            room[..held.len()].copy_from_slice(&held);
            return Poll::Ready(Ok(&room[..held.len()]));
        }
        let mut buf = ReadBuf::new(room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        let length = buf.filled().len();
        Poll::Ready(Ok(&room[..length]))
    }

    /// Writes what waits. Ready when all of it is on its way.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Out,
    ) -> Poll<io::Result<()>> {
        if !out.is_empty() {
            self.stream.hold_to(SEALED_BYTES.min(self.state.held.room()));
        }
        while !out.is_empty() {
            let written = take(&mut self.stream, cx, &out.pieces());
            self.state.note_write(&mut self.stream, &written);
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => out.advance(written),
            }
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.state.note_flush(&mut self.stream, &flushed);
        flushed
    }

    /// What TLS holds of what is to be written, at most, in bytes.
    pub(super) fn sealed(&self) -> usize {
        self.stream.sealed()
    }

    /// The connection, of which no more frames are read.
    pub(super) fn stream(&mut self) -> &mut ClientStream {
        &mut self.stream
    }

    /// Says goodbye.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Takes bytes to be written; those that are to be sealed, go out when flushed.
fn take(
    stream: &mut ClientStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let tls = match stream {
        ClientStream::Plain(stream) => {
            return match pieces {
                [piece] => Pin::new(stream).poll_write(cx, piece),
                pieces => Pin::new(stream).poll_write_vectored(cx, pieces),
            };
        }
        ClientStream::Tls(tls) => tls,
    };
    // Sealed only: what a turn has to say goes out in one write.
    let taken = tls.seal(pieces)?;
    if taken > 0 {
        return Poll::Ready(Ok(taken));
    }
    let flushed = tls.session_mut().poll_send(cx)?;
    // Part of it may have gone.
    match tls.seal(pieces)? {
        0 if flushed.is_pending() => Poll::Pending,
        taken => Poll::Ready(Ok(taken)),
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::framing::frames::{DATA, PING};
    use crate::proxy::io::{Secured, settled_in_little};

    #[tokio::test]
    async fn who_only_asks_whether_we_are_there_takes_nothing() {
        let (_client, session) = settled_in_little().await;
        let state = IoState::among(&Rc::default());
        let stream = ClientStream::Tls(Box::new(Secured::new(session)));
        let mut wire = Wire::new(stream, Vec::new(), Rc::clone(&state));
        let mut out = Out::default();
        let mut write = |kind, payload: &[u8]| {
            out.frame(kind, 0, 0, payload);
            assert!(
                wire.poll_write(&mut Context::from_waker(Waker::noop()), &mut out).is_pending()
            );
            assert!(out.is_empty(), "TLS takes it in");
            state.blocked_since.get()
        };
        let since = write(DATA, &[0; 16 * 1024]);
        assert!(since.is_some());
        assert_eq!(write(PING, &[0; 8]), since);
    }
}
