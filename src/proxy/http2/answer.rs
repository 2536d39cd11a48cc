//! One stream's task: the request is handed to the service, and its answer is sent as fast as the
//! backend gives it and the client takes it.
//!
//! An answer is asked for more only when what it gave has gone into what is written next. A client may
//! leave a stream without a window, without end, on a connection that otherwise takes what we write:
//! if it does so for `write_timeout`, the stream is reset, which lets its backend go.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Request};
use http_body::Body;
use tokio::time::Instant;

use super::core::code;
use super::sides::{Progress, Sender};
use crate::framing::hpack::encode;
use crate::proxy::body::Incoming;
use crate::proxy::connection::ConnectionState;
use crate::proxy::headers::X_REQUEST_ID;
use crate::proxy::received::Received;
use crate::proxy::reply::Reply;
use crate::proxy::service;
use crate::proxy::timer::Timer;
use crate::state::H2Abuse;
use crate::upstream::ResponseHead;

/// Serves a stream to its end.
pub(super) fn serve(
    state: Rc<ConnectionState>,
    sender: Sender,
    request: Request<Incoming>,
) -> impl Future<Output = ()> {
    let worker = Rc::clone(&state.worker);
    // Boxed, since a task is moved several times on its way to where it runs and away.
    let mut serving = Box::pin(async move {
        if let Some(reply) = answer(&state, &sender, request).await {
            send(&state, &sender, reply).await;
        }
    });
    poll_fn(move |cx| {
        let _turn = worker.turn();
        serving.as_mut().poll(cx)
    })
}

/// The answer to a request, if the client waits for it.
async fn answer(
    state: &Rc<ConnectionState>,
    sender: &Sender,
    request: Request<Incoming>,
) -> Option<Reply> {
    let mut serving = pin!(service::handle(
        Rc::clone(state),
        Received::mapped(request, state.worker.take_received())
    ));
    let mut begun = false;
    poll_fn(|cx| {
        let gone = sender.poll_gone(cx).is_ready();
        // Whoever reads the body tells of a client's mistake.
        if gone && !(begun && sender.is_refused()) {
            return Poll::Ready(None);
        }
        begun = true;
        match serving.as_mut().poll(cx) {
            Poll::Ready(reply) => Poll::Ready((!gone).then_some(reply)),
            Poll::Pending if gone => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn send(state: &ConnectionState, sender: &Sender, reply: Reply) {
    let Reply { head, mut body } = reply;
    // What follows behind the head of a socket is no body.
    let is_socket = sender.is_socket();
    let ends = body.is_end_stream() && !is_socket;
    let length = if ends || is_socket { None } else { body.size_hint().exact() };
    let worker = &state.worker;
    worker.with_date(|date| {
        sender.send_head(ends, |out| encode_head(&head, body.request_id(), length, date, out));
    });
    worker.upstreams.spare.keep_head(head);
    if ends || is_socket {
        return;
    }
    let mut patience =
        Patience { timer: worker.wheel.timer(), since: None, seen: Progress::default() };
    loop {
        let frame = poll_fn(|cx| match sender.poll_gone(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => Pin::new(&mut body).poll_frame(cx).map(Some),
        });
        let frame = match frame.await {
            None => return,
            Some(None) => return sender.send_data(Bytes::new(), true),
            Some(Some(Err(_))) => return sender.reset(code::INTERNAL_ERROR),
            Some(Some(Ok(frame))) => frame,
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                return frame.trailers_ref().into_iter().for_each(|it| sender.send_trailers(it));
            }
        };
        let ends = body.is_end_stream();
        sender.send_data(data, ends);
        // The record of the request ends with its body.
        if !poll_fn(|cx| patience.poll_sent(cx, state, sender)).await || ends {
            return;
        }
    }
}

/// How long a client may leave a stream without a window.
struct Patience {
    timer: Timer,
    since: Option<Instant>,
    /// How far it had come then.
    seen: Progress,
}

impl Patience {
    /// Ready when what was to be sent has gone, with whether there is still a stream.
    fn poll_sent(
        &mut self,
        cx: &mut Context<'_>,
        state: &ConnectionState,
        sender: &Sender,
    ) -> Poll<bool> {
        if sender.is_drained() {
            if self.since.take().is_some() {
                self.timer.disarm();
            }
            return Poll::Ready(true);
        }
        if sender.poll_gone(cx).is_ready() {
            return Poll::Ready(false);
        }
        let since = *self.since.get_or_insert_with(|| {
            let now = Instant::now();
            self.timer.arm(now + state.write_timeout());
            self.seen = sender.progress();
            now
        });
        while self.timer.poll_expired(cx).is_ready() {
            // Whoever takes a little at a time takes something.
            let progress = sender.progress();
            if progress.has_moved_since(&std::mem::replace(&mut self.seen, progress)) {
                self.timer.arm(Instant::now() + state.write_timeout());
                continue;
            }
            // A slow network is the connection's affair: what is stuck in front of it has no window
            // because nothing has arrived.
            let began = state.io.last_blocked.get().map_or(since, |at| at.max(since));
            let deadline = began + state.write_timeout();
            if deadline <= Instant::now() {
                state.note_abuse(H2Abuse::ZeroWindow);
                sender.reset(code::CANCEL);
                return Poll::Ready(false);
            }
            self.timer.arm(deadline);
        }
        Poll::Pending
    }
}

/// Writes the head of an answer, with the request's name, and the length of its body if that is known.
fn encode_head(
    head: &ResponseHead,
    id: Option<&HeaderValue>,
    length: Option<u64>,
    date: &[u8],
    out: &mut Vec<u8>,
) {
    encode::status(out, head.status);
    let (mut told_length, mut told_date) = (false, false);
    for (name, value) in &head.headers {
        match *name {
            // RFC 9113 section 8.2.2.
            CONNECTION | TRANSFER_ENCODING | UPGRADE => continue,
            CONTENT_LENGTH => told_length = true,
            DATE => told_date = true,
            _ => {}
        }
        encode::field(out, name, value);
    }
    if let Some(id) = id {
        encode::field(out, &X_REQUEST_ID, id);
    }
    if let Some(length) = length.filter(|_| !told_length) {
        let mut digits = itoa::Buffer::new();
        encode::indexed_name(out, encode::CONTENT_LENGTH, digits.format(length).as_bytes());
    }
    if !told_date {
        encode::indexed_name(out, encode::DATE, date);
    }
}
