//! One direction of a tunnel: what was read is written on at once, and only what the other side does
//! not take yet is kept.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One direction of a tunnel.
#[derive(Debug)]
pub(super) struct Direction {
    /// Read, and not taken by the other side yet.
    kept: Bytes,
    /// Bytes that went on.
    pub(super) moved: u64,
    unflushed: bool,
    state: State,
}

/// Which side of a direction has broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The one that is read from.
    Source,
    /// The one that is written to.
    Sink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; the other side is still to be told.
    Ended,
    Closed,
}

impl Direction {
    pub(super) fn new(early: Bytes) -> Self {
        Direction { kept: early, moved: 0, unflushed: false, state: State::Open }
    }

    /// Moves what can be moved now. Ready when the source has ended and the other side knows.
    pub(super) fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        scratch: &mut [u8],
        filter: &mut impl Filter,
    ) -> Poll<Result<(), Broken>> {
        // A bound on one turn, so that two fast ends cannot keep a worker to themselves.
        for _ in 0..16 {
            ready!(self.poll_kept(cx, to))?;
            match self.state {
                State::Closed => return Poll::Ready(Ok(())),
                State::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(sink)?;
                    self.state = State::Closed;
                    return Poll::Ready(Ok(()));
                }
                State::Open => {}
            }
            if let Some(words) = filter.say() {
                self.kept = Bytes::from_static(words);
                continue;
            }
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Ready(result) => result.map_err(|_| Broken::Source)?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(sink)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let read = buffer.filled();
            if read.is_empty() {
                self.state = State::Ended;
                continue;
            }
            let read = &read[..filter.pass(read)];
            if read.is_empty() {
                continue;
            }
            let written = match Pin::new(&mut *to).poll_write(cx, read) {
                Poll::Ready(result) => result.map_err(sink)?,
                Poll::Pending => 0,
            };
            self.moved += written as u64;
            self.unflushed = true;
            if written < read.len() {
                self.kept = Bytes::copy_from_slice(&read[written..]);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends it, since the other side takes nothing any more.
    pub(super) fn give_up(&mut self) -> Poll<Result<(), Broken>> {
        self.kept = Bytes::new();
        self.state = State::Closed;
        Poll::Ready(Ok(()))
    }

    /// Writes what is kept.
    fn poll_kept<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<Result<(), Broken>> {
        while self.kept.has_remaining() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.kept)).map_err(sink)?;
            if written == 0 {
                return Poll::Ready(Err(Broken::Sink));
            }
            self.kept.advance(written);
            self.moved += written as u64;
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

fn sink(_: io::Error) -> Broken {
    Broken::Sink
}

/// Decides what of the bytes that were read goes on, and what is said in their place.
pub(super) trait Filter {
    /// What is to be written, should everything read so far have been, before more is read.
    fn say(&mut self) -> Option<&'static [u8]> {
        None
    }

    /// Of these bytes, the first so many go on.
    fn pass(&mut self, bytes: &[u8]) -> usize;
}

/// Everything goes on.
pub(super) struct All;

impl Filter for All {
    fn pass(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::SimplexStream;

    use super::*;

    /// A source that fails, and a sink that does.
    struct Gone;

    impl AsyncRead for Gone {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    impl AsyncWrite for Gone {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    async fn moved(
        early: &'static str,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), Broken> {
        let mut direction = Direction::new(Bytes::from_static(early.as_bytes()));
        poll_fn(|cx| direction.poll(cx, &mut from, &mut to, &mut [0; 8], &mut All)).await
    }

    #[tokio::test]
    async fn it_is_told_which_side_has_broken_off() {
        let open = || SimplexStream::new_unsplit(8);
        assert_eq!(moved("", Gone, open()).await, Err(Broken::Source));
        assert_eq!(moved("", &b"word"[..], Gone).await, Err(Broken::Sink), "at a write");
        assert_eq!(moved("early", open(), Gone).await, Err(Broken::Sink), "at what is kept");
        assert_eq!(moved("", &b""[..], Gone).await, Err(Broken::Sink), "at the end");
        assert_eq!(moved("early", &b""[..], open()).await, Ok(()));
    }
}
