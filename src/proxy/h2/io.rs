//! The client's end of an HTTP/2 connection, wrapped for what h2 does not look after.
//!
//! h2 reads and writes through an [`Http2Io`]. On the way the wrapper shows the bytes of both
//! directions to the [`Meter`], and puts what is written into the `Outbox`. h2 asks for a flush
//! whenever it has nothing more to write, that is after nearly each answer; but whether something
//! else is about to be written only the task knows that drives the connection. So h2 is told that
//! all is well, and the task, which has the other handle to the same wrapper, settles what waits
//! when h2 has been polled: at once if nothing else is under way, or else after those tasks that are
//! ready now, and may be other streams of this connection, have had their turn.

use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Meter;
use super::outbox::{Outbox, RECORD_BYTES, Sink};
use crate::proxy::io::{ClientStream, IoState};
use crate::state::H2Abuse;

/// What TLS may hold of sealed records that were not written yet: four of the largest, which go out
/// as one write.
const SEALED_BYTES: usize = 4 * (RECORD_BYTES + 256);

/// A handle to the wrapper; its clones are of the same.
#[derive(Clone, Debug)]
pub struct Http2Io(Rc<RefCell<Wire>>);

#[derive(Debug)]
struct Wire {
    stream: ClientStream,
    /// Bytes that were read before, to tell the version of HTTP.
    held: Vec<u8>,
    meter: Meter,
    outbox: Outbox,
    /// What waits has waited for a turn of the run queue.
    yielded: bool,
    /// A flush failed, which h2 has still to be told.
    broken: Option<io::Error>,
    state: Rc<IoState>,
}

impl Http2Io {
    /// Wraps a connection of which these bytes were read already.
    pub fn new(mut stream: ClientStream, held: Vec<u8>, meter: Meter, state: Rc<IoState>) -> Self {
        if let ClientStream::Tls(tls) = &mut stream {
            tls.get_mut().1.set_buffer_limit(Some(SEALED_BYTES));
        }
        let outbox = Outbox::default();
        let wire = Wire { stream, held, meter, outbox, yielded: false, broken: None, state };
        Http2Io(Rc::new(RefCell::new(wire)))
    }

    /// Sees to what waits to be written, after h2 was polled. With `more` under way it waits for
    /// one turn of the run queue. Gives whether h2 has to be polled again at once.
    pub fn settle(&self, cx: &mut Context<'_>, more: bool) -> bool {
        let wire = &mut *self.0.borrow_mut();
        if more && wire.outbox.may_wait() && !wire.yielded {
            wire.yielded = true;
            cx.waker().wake_by_ref();
            return false;
        }
        wire.yielded = false;
        match wire.poll_flush(cx) {
            Poll::Ready(Err(error)) => {
                wire.broken = Some(error);
                true
            }
            Poll::Ready(Ok(())) | Poll::Pending => false,
        }
    }
}

impl Wire {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        if self.held.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let length = self.held.len().min(buf.remaining());
            buf.put_slice(&self.held[..length]);
            self.held.drain(..length);
        }
        let verdict = self.meter.received(&buf.filled()[before..], Instant::now);
        self.state.resets.set(self.meter.has_resets());
        let head_since = &self.state.head_since;
        if self.meter.within_fields() {
            head_since.set(Some(head_since.get().unwrap_or_else(Instant::now)));
        } else {
            head_since.set(None);
        }
        Poll::Ready(verdict.map_err(|abuse| self.break_off(cx, abuse)))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let state = &self.state;
        let note = |result: &_| state.note_write(result);
        let written = ready!(self.outbox.poll_write(&mut self.stream, cx, slices, note))?;
        match self.count_sent(slices, written) {
            Ok(()) => Poll::Ready(Ok(written)),
            Err(abuse) => Poll::Ready(Err(self.break_off(cx, abuse))),
        }
    }

    /// Shows the meter what is sent.
    fn count_sent(&mut self, slices: &[IoSlice<'_>], mut left: usize) -> Result<(), H2Abuse> {
        let verdict = slices.iter().try_for_each(|slice| {
            let part = &slice[..slice.len().min(left)];
            left -= part.len();
            self.meter.sent(part, Instant::now)
        });
        self.state.resets.set(self.meter.has_resets());
        self.state.malformed.set(self.state.malformed.get() + self.meter.take_mistakes());
        if let Some(ended) = self.meter.ended() {
            self.state.abuse.set(Some(ended));
        }
        verdict
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &self.state;
        let flushed =
            self.outbox.poll_flush(&mut self.stream, cx, |result| state.note_write(result));
        if state.resting.get() {
            self.outbox.shrink();
        }
        flushed
    }

    /// Ends the connection: h2 is told by an error, the client by a GOAWAY if the connection takes
    /// one at once.
    fn break_off(&mut self, cx: &mut Context<'_>, abuse: H2Abuse) -> io::Error {
        self.state.abuse.set(Some(abuse));
        if let Some(farewell) = self.meter.farewell() {
            self.outbox.push(&farewell);
            // Whether the client gets it is its own affair.
            let _ = self.poll_flush(cx);
        }
        io::Error::other(abuse.label())
    }
}

impl Sink for ClientStream {
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tls = match self {
            ClientStream::Plain(stream) => return Pin::new(stream).poll_write_vectored(cx, slices),
            ClientStream::Tls(tls) => tls,
        };
        // Past tokio-rustls, which would write each record as soon as it is sealed.
        let taken = tls.get_mut().1.writer().write_vectored(slices)?;
        if taken > 0 {
            return Poll::Ready(Ok(taken));
        }
        let flushed = Pin::new(&mut *tls).poll_flush(cx)?;
        // Part of it may have gone.
        match tls.get_mut().1.writer().write_vectored(slices)? {
            0 if flushed.is_pending() => Poll::Pending,
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(self), cx)
    }
}

impl AsyncRead for Http2Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Http2Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The task that drives the connection does it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self.0.borrow_mut();
        ready!(wire.poll_flush(cx))?;
        Pin::new(&mut wire.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use tokio::net::UnixStream;

    use super::*;
    use crate::proxy::h2::MeterLimits;
    use crate::proxy::io::RawStream;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Pair {
        ours: Http2Io,
        theirs: UnixStream,
        wakes: Arc<Wakes>,
    }

    impl Pair {
        fn new() -> Pair {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let limits = MeterLimits { streams: 100, max_header_bytes: 1000 };
            let meter = Meter::new(limits, Instant::now());
            let stream = ClientStream::Plain(RawStream::Unix(ours));
            let ours = Http2Io::new(stream, Vec::new(), meter, Rc::default());
            Pair { ours, theirs, wakes: Arc::default() }
        }

        fn poll<T>(&mut self, poll: impl FnOnce(Pin<&mut Http2Io>, &mut Context<'_>) -> T) -> T {
            let waker = Waker::from(Arc::clone(&self.wakes));
            poll(Pin::new(&mut self.ours), &mut Context::from_waker(&waker))
        }

        fn write(&mut self, bytes: &[u8]) {
            let written = self.poll(|io, cx| io.poll_write(cx, bytes));
            assert!(matches!(written, Poll::Ready(Ok(length)) if length == bytes.len()));
        }

        fn settle(&mut self, more: bool) -> bool {
            self.poll(|io, cx| io.settle(cx, more))
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::Relaxed)
        }

        fn arrived(&self) -> Vec<u8> {
            let mut bytes = [0; 100];
            self.theirs.try_read(&mut bytes).map_or(Vec::new(), |length| bytes[..length].to_vec())
        }
    }

    #[tokio::test]
    async fn what_is_alone_goes_out_at_once() {
        let mut pair = Pair::new();
        pair.write(b"alone");
        assert!(!pair.settle(false));
        pair.theirs.readable().await.unwrap();
        assert_eq!((pair.arrived(), pair.wakes()), (b"alone".to_vec(), 0));
    }

    #[tokio::test]
    async fn what_is_not_alone_waits_for_one_turn() {
        let mut pair = Pair::new();
        pair.write(b"one ");
        pair.settle(true);
        assert_eq!((pair.arrived(), pair.wakes()), (Vec::new(), 1));
        pair.write(b"two");
        pair.settle(true);
        pair.theirs.readable().await.unwrap();
        assert_eq!((pair.arrived(), pair.wakes()), (b"one two".to_vec(), 1));
        // And nobody is woken for nothing.
        pair.settle(true);
        assert_eq!(pair.wakes(), 1);
    }

    #[tokio::test]
    async fn what_waits_goes_out_before_the_end() {
        let mut pair = Pair::new();
        pair.write(b"last words");
        assert!(pair.poll(|io, cx| io.poll_shutdown(cx)).is_ready());
        pair.theirs.readable().await.unwrap();
        assert_eq!(pair.arrived(), b"last words");
    }

    #[tokio::test]
    async fn a_flush_that_fails_is_told() {
        let mut pair = Pair::new();
        let (other, _) = UnixStream::pair().unwrap();
        drop(std::mem::replace(&mut pair.theirs, other));
        pair.write(b"to nobody");
        assert!(pair.settle(false));
        let mut space = [0; 10];
        let read = pair.poll(|io, cx| io.poll_read(cx, &mut ReadBuf::new(&mut space)));
        assert!(matches!(read, Poll::Ready(Err(_))), "{read:?}");
    }
}
