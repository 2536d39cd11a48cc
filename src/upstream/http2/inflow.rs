//! What has come on a stream and was not taken yet.

use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http_body::Frame;

/// The incoming half of a stream. Its window bounds what lies here, and is given back for what is taken.
#[derive(Debug)]
pub(super) struct Inflow {
    stream: RecvStream,
    /// What was drawn together, ahead of what h2 still has.
    gathered: BytesMut,
    /// Data has ended: trailers are next.
    at_trailers: bool,
    /// Who waits for more.
    waiting: Waker,
}

impl Inflow {
    pub(super) fn new(stream: RecvStream) -> Inflow {
        let waiting = Waker::noop().clone();
        Inflow { stream, gathered: BytesMut::new(), at_trailers: false, waiting }
    }

    /// Whether all of it was taken.
    pub(super) fn is_over(&self) -> bool {
        self.gathered.is_empty() && self.stream.is_end_stream()
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let polled = self.poll_frame(cx);
        if polled.is_pending() {
            self.waiting.clone_from(cx.waker());
        }
        polled
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.gathered.is_empty() {
            let data = std::mem::take(&mut self.gathered).freeze();
            return Poll::Ready(Some(Ok(self.taken(data))));
        }
        if !self.at_trailers {
            if let Some(data) = ready!(self.stream.poll_data(cx)) {
                return Poll::Ready(Some(data.map(|data| self.taken(data))));
            }
            self.at_trailers = true;
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    fn taken(&mut self, data: Bytes) -> Frame<Bytes> {
        // It cannot be more than has come.
        let _ = self.stream.flow_control().release_capacity(data.len());
        Frame::data(data)
    }

    /// Draws together what has come, so that it takes up no more room than its length.
    pub(super) fn gather(&mut self) {
        // Should there be nothing, whoever waits is still to be woken when there is.
        let mut cx = Context::from_waker(&self.waiting);
        while let Poll::Ready(Some(Ok(data))) = self.stream.poll_data(&mut cx) {
            self.gathered.extend_from_slice(&data);
        }
    }
}
