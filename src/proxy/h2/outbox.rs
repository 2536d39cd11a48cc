//! What waits to be written on an HTTP/2 connection.
//!
//! h2 writes each frame of data as soon as it has it, and asks for a flush after each poll; as it
//! comes that would be a record of TLS and a system call for every small answer. So small writes are
//! gathered in here, up to what one record holds, and go out together when the connection is
//! flushed. Data in bulk passes by, in whole records, without being copied: only the part behind the
//! last whole record waits. Where the connection is secured, the records wait too, sealed, until
//! there are a few of them.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use smallvec::SmallVec;

/// The largest record of TLS (RFC 8446 section 5.1), and the most that waits.
pub(super) const RECORD_BYTES: usize = 16 * 1024;

/// Where an outbox is emptied into.
pub trait Sink {
    /// Takes bytes, if only to keep them until it is flushed.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Writes what was kept.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Vec<u8>,
    /// How much of it has gone out.
    gone: usize,
    /// Something was taken that was not flushed.
    unflushed: bool,
    /// The sink did not take something; it will say when it does.
    blocked: bool,
}

impl Outbox {
    /// Whether there is something that may still wait for more.
    pub fn may_wait(&self) -> bool {
        self.unflushed && !self.blocked
    }

    /// Takes bytes to be written: all of them, unless they are many and the sink does not take
    /// them. `note` is told what the sink made of each.
    pub fn poll_write<S: Sink>(
        &mut self,
        sink: &mut S,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        mut note: impl FnMut(&Poll<io::Result<usize>>),
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        self.unflushed = true;
        loop {
            let left = self.left();
            if left + length <= RECORD_BYTES {
                self.keep(slices, 0);
                return Poll::Ready(Ok(length));
            }
            let whole = (left + length) / RECORD_BYTES * RECORD_BYTES;
            let written = ready!(self.pass(sink, cx, slices, whole, &mut note))?;
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

    /// Writes what waits, and flushes the sink.
    pub fn poll_flush<S: Sink>(
        &mut self,
        sink: &mut S,
        cx: &mut Context<'_>,
        mut note: impl FnMut(&Poll<io::Result<usize>>),
    ) -> Poll<io::Result<()>> {
        while self.left() > 0 {
            let all = self.left();
            self.gone += ready!(self.pass(sink, cx, &[], all, &mut note))?;
        }
        self.clear();
        let flushed = sink.poll_flush(cx);
        self.blocked = flushed.is_pending();
        self.unflushed = self.blocked;
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

    /// One take of the sink: what waits and then the slices, so many bytes at most.
    fn pass<S: Sink>(
        &mut self,
        sink: &mut S,
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
        let written = sink.poll_take(cx, &parts);
        self.blocked = written.is_pending();
        note(&written);
        match ready!(written)? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(Ok(written)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use fastrand::Rng;

    use super::*;

    /// Takes what it is told to, and keeps each write.
    #[derive(Default)]
    struct Stream {
        writes: Vec<Vec<u8>>,
        /// How much it takes of the next writes; everything behind the last.
        takes: Vec<Poll<usize>>,
        flushed: usize,
    }

    impl Stream {
        fn taking(takes: &[Poll<usize>]) -> Stream {
            Stream { takes: takes.iter().rev().copied().collect(), ..Stream::default() }
        }

        fn lengths(&self) -> Vec<usize> {
            self.writes.iter().map(Vec::len).collect()
        }
    }

    impl Sink for Stream {
        fn poll_take(
            &mut self,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let most = ready!(self.takes.pop().unwrap_or(Poll::Ready(usize::MAX)));
            let taken = all.len().min(most);
            self.writes.push(all[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed += 1;
            Poll::Ready(Ok(()))
        }
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn write(outbox: &mut Outbox, sink: &mut Stream, parts: &[&[u8]]) -> Poll<usize> {
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        outbox.poll_write(sink, &mut cx(), &slices, |_| ()).map(Result::unwrap)
    }

    fn flush(outbox: &mut Outbox, sink: &mut Stream) -> Poll<()> {
        outbox.poll_flush(sink, &mut cx(), |_| ()).map(Result::unwrap)
    }

    #[test]
    fn small_writes_go_out_together() {
        let (mut outbox, mut stream) = (Outbox::default(), Stream::default());
        assert_eq!(write(&mut outbox, &mut stream, &[b"head", b"data"]), Poll::Ready(8));
        assert_eq!(write(&mut outbox, &mut stream, &[b"more"]), Poll::Ready(4));
        assert!(outbox.may_wait() && stream.writes.is_empty());
        assert_eq!(flush(&mut outbox, &mut stream), Poll::Ready(()));
        assert_eq!((&stream.writes[..], stream.flushed), (&[b"headdatamore".to_vec()][..], 1));
        assert!(!outbox.may_wait());
    }

    #[test]
    fn bulk_passes_in_whole_records() {
        let (mut outbox, mut stream) = (Outbox::default(), Stream::default());
        let frame = vec![7; RECORD_BYTES];
        for _ in 0..3 {
            let taken = write(&mut outbox, &mut stream, &[&[0; 9], &frame]);
            assert_eq!(taken, Poll::Ready(9 + RECORD_BYTES));
        }
        assert_eq!(flush(&mut outbox, &mut stream), Poll::Ready(()));
        assert_eq!(stream.lengths(), [RECORD_BYTES, RECORD_BYTES, RECORD_BYTES, 27]);
    }

    #[test]
    fn no_more_than_a_record_waits_for_a_stream_that_takes_nothing() {
        let (mut outbox, mut stream) = (Outbox::default(), Stream::taking(&[Poll::Pending; 2]));
        let kept = (0..).take_while(|_| write(&mut outbox, &mut stream, &[&[1; 1000]]).is_ready());
        assert_eq!(kept.count(), RECORD_BYTES / 1000);
        // Once it is known to be blocked, there is nothing to wait for.
        assert!(!outbox.may_wait());
        assert_eq!(flush(&mut outbox, &mut stream), Poll::Pending);
        assert_eq!(flush(&mut outbox, &mut stream), Poll::Ready(()));
        assert_eq!(stream.lengths(), [RECORD_BYTES / 1000 * 1000]);
    }

    #[test]
    fn whatever_the_stream_takes_the_order_stays() {
        let mut rng = Rng::with_seed(4);
        for _ in 0..20 {
            let (mut outbox, mut stream) = (Outbox::default(), Stream::default());
            let mut expected = Vec::new();
            for count in 0..60_u8 {
                stream.takes =
                    (0..4)
                        .map(|_| {
                            if rng.bool() {
                                Poll::Pending
                            } else {
                                Poll::Ready(rng.usize(1..40_000))
                            }
                        })
                        .collect();
                let bytes = vec![count; rng.usize(1..30_000)];
                let (head, tail) = bytes.split_at(rng.usize(..bytes.len()));
                if let Poll::Ready(taken) = write(&mut outbox, &mut stream, &[head, tail]) {
                    expected.extend_from_slice(&bytes[..taken]);
                }
                if rng.u8(..4) == 0 {
                    let _ = flush(&mut outbox, &mut stream);
                    outbox.shrink();
                }
                assert!(outbox.left() <= RECORD_BYTES);
            }
            stream.takes.clear();
            assert_eq!(flush(&mut outbox, &mut stream), Poll::Ready(()));
            assert!(stream.writes.concat() == expected);
        }
    }

    #[test]
    fn a_stream_that_takes_nothing_for_good_is_an_error() {
        let (mut outbox, mut stream) = (Outbox::default(), Stream::taking(&[Poll::Ready(0)]));
        let _ = write(&mut outbox, &mut stream, &[b"a"]);
        let error = outbox.poll_flush(&mut stream, &mut cx(), |_| ());
        let Poll::Ready(Err(error)) = error else { panic!("{error:?}") };
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
