//! The body of a request on its way to a stream.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::task::AbortHandle;

use super::status::Place;

/// Sends a body as the backend's windows have room for it. Dropped before it is over, it resets the
/// stream, whatever the other half of it does.
#[derive(Debug)]
pub(super) struct Sending<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// Read from the body, and not sent yet.
    next: Bytes,
    over: bool,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All is sent, or the backend wants no more of it.
    Over,
    /// The body failed.
    Broken,
}

impl<B> Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    pub(super) fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Sending { stream, body, next: Bytes::new(), over: false }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        let sent = ready!(self.poll_send(cx));
        self.over = sent == Sent::Over;
        Poll::Ready(sent)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Sent::Over);
            }
            if !self.next.is_empty() {
                // Never more than there is room for: what h2 holds for want of room is not given up
                // with an answer that is complete.
                let room = self.stream.capacity().min(self.next.len());
                if room == 0 {
                    match ready!(self.stream.poll_capacity(cx)) {
                        Some(Ok(_)) => continue,
                        Some(Err(_)) | None => return Poll::Ready(Sent::Over),
                    }
                }
                let piece = self.next.split_to(room);
                let last = self.next.is_empty() && self.body.is_end_stream();
                if self.stream.send_data(piece, last).is_err() || last {
                    return Poll::Ready(Sent::Over);
                }
                continue;
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                let _ = self.stream.send_data(Bytes::new(), true);
                return Poll::Ready(Sent::Over);
            };
            let Ok(frame) = frame else { return Poll::Ready(Sent::Broken) };
            match frame.into_data() {
                Ok(data) => {
                    // Room is only asked for what is at hand: it is taken from all other streams.
                    self.stream.reserve_capacity(data.len());
                    self.next = data;
                }
                Err(frame) => {
                    let Ok(trailers) = frame.into_trailers() else { continue };
                    let sent = self.stream.send_trailers(trailers);
                    return Poll::Ready(sent.map_or(Sent::Broken, |()| Sent::Over));
                }
            }
        }
    }
}

impl<B> Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// Goes on beside the answer, which has begun.
    pub(super) fn spawn(mut self, place: Rc<Place>) -> AbortHandle {
        let sending = async move {
            poll_fn(|cx| self.poll(cx)).await;
            drop(self);
            drop(place);
        };
        tokio::task::spawn_local(sending).abort_handle()
    }
}

impl<B> Drop for Sending<B> {
    fn drop(&mut self) {
        if !self.over {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}
