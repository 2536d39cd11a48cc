//! What waits to be written on an HTTP/2 connection.
//!
//! h2 writes each frame of data as soon as it has it, and asks for a flush after each poll; as it
//! comes that would be a record of TLS and a system call for every small answer. So small writes are
//! gathered in here, up to what one record holds, and go out together when the connection is
//! flushed. Data in bulk passes by, in whole records, without being copied: only the part behind the
//! last whole record waits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use smallvec::SmallVec;
use tokio::io::AsyncWrite;

/// The largest record of TLS (RFC 8446 section 5.1), and the most that waits.
pub(super) const RECORD_BYTES: usize = 16 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Vec<u8>,
    /// How much of it has gone out.
    gone: usize,
    /// The stream did not take something; it will say when it does.
    blocked: bool,
}

impl Outbox {
    /// Whether there is something that may still wait for more.
    pub fn may_wait(&self) -> bool {
        self.left() > 0 && !self.blocked
    }

    /// Takes bytes to be written: all of them, unless they are many and `stream` does not take
    /// them. `note` is told what the stream made of each write.
    pub fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        mut note: impl FnMut(&Poll<io::Result<usize>>),
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            let left = self.left();
            if left + length <= RECORD_BYTES {
                self.keep(slices, 0);
                return Poll::Ready(Ok(length));
            }
            let whole = (left + length) / RECORD_BYTES * RECORD_BYTES;
            let written = ready!(self.pass(stream, cx, slices, whole, &mut note))?;
            let Some(taken) = written.checked_sub(left) else {
                self.gone += written;
                continue;
            };
            self.clear();
            if length - taken < RECORD_BYTES {
                self.keep(slices, taken);
                return Poll::Ready(Ok(length));
            }
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
    }

    /// Writes what waits, and flushes `stream`.
    pub fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        mut note: impl FnMut(&Poll<io::Result<usize>>),
    ) -> Poll<io::Result<()>> {
        while self.left() > 0 {
            let all = self.left();
            self.gone += ready!(self.pass(stream, cx, &[], all, &mut note))?;
        }
        self.clear();
        let flushed = Pin::new(stream).poll_flush(cx);
        self.blocked = flushed.is_pending();
        flushed
    }

    /// Adds bytes behind all that waits, however much that is.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Gives memory back that nothing is in.
    pub fn shrink(&mut self) {
        if self.left() == 0 {
            self.waiting = Vec::new();
        }
    }

    fn left(&self) -> usize {
        self.waiting.len() - self.gone
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.gone = 0;
    }

    /// Keeps what is behind the first `skip` bytes.
    fn keep(&mut self, slices: &[IoSlice<'_>], mut skip: usize) {
        if self.waiting.capacity() == 0 {
            self.waiting.reserve_exact(RECORD_BYTES);
        }
        if self.gone > 0 {
            self.waiting.drain(..self.gone);
            self.gone = 0;
        }
        for slice in slices {
            let skipped = slice.len().min(skip);
            skip -= skipped;
            self.waiting.extend_from_slice(&slice[skipped..]);
        }
    }

    /// One write to the stream: what waits and then the slices, so many bytes at most.
    fn pass<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        mut most: usize,
        note: &mut impl FnMut(&Poll<io::Result<usize>>),
    ) -> Poll<io::Result<usize>> {
        let waiting = &self.waiting[self.gone..];
        let mut parts: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        for part in std::iter::once(waiting).chain(slices.iter().map(|slice| &**slice)) {
            let length = part.len().min(most);
            most -= length;
            if length > 0 {
                parts.push(IoSlice::new(&part[..length]));
            }
        }
        let written = match &parts[..] {
            [one] => Pin::new(stream).poll_write(cx, one),
            all => Pin::new(stream).poll_write_vectored(cx, all),
        };
        self.blocked = written.is_pending();
        note(&written);
        match ready!(written)? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(Ok(written)),
        }
    }
}
