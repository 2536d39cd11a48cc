//! HTTP/2 on a client connection, by hyper.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::Request;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::io::Http2Io;
use super::stream::StreamExecutor;
use crate::proxy::body::Incoming;
use crate::proxy::connection::ConnectionState;
use crate::proxy::drive::{Over, Wish, drive};
use crate::proxy::{error, service};
use crate::state::H2Abuse;

/// HTTP/2 windows towards clients: enough for an upload over a fast network; per connection they
/// bound what we must hold for it.
const H2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// What one HTTP/2 stream may have waiting to be written: a frame. There may be many streams.
const H2_SEND_BUFFER_BYTES: usize = 16 * 1024;
/// Streams that a client resets in the same breath as it opens them, and that hyper has still to
/// look at. Above the burst that the meter allows, lest h2 end the connection of a browser that
/// leaves a page.
const H2_PENDING_RESETS: usize = 1024;
/// A client that leaves a ping without answer for this long is gone.
const H2_PING: Duration = Duration::from_secs(30);

/// Serves a connection to its end.
pub async fn serve(state: &Rc<ConnectionState>, io: Http2Io) {
    let limits = state.listener.borrow().limits.clone();
    let serving = Rc::clone(state);
    // Boxed, since the task of a stream is moved several times on its way to where it runs.
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let handling = service::handle(Rc::clone(&serving), request.map(Incoming::Http2));
        Box::pin(async { Ok::<_, Infallible>(handling.await) })
    });
    let mut connection = pin!(
        http2::Builder::new(StreamExecutor(Rc::clone(state)))
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_streams)
            .max_header_list_size(limits.max_header_bytes)
            .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(H2_SEND_BUFFER_BYTES)
            // Both are metered, by time and not by the connection's age.
            .max_pending_accept_reset_streams(H2_PENDING_RESETS)
            .max_local_error_reset_streams(None)
            .keep_alive_interval(H2_PING)
            .keep_alive_timeout(H2_PING)
            .enable_connect_protocol()
            .serve_connection(TokioIo::new(io.clone()), service)
    );
    let over = drive(state, |cx, wish| {
        if wish == Wish::Close {
            connection.as_mut().graceful_shutdown();
        }
        // First, so that what it asks of the connection is done at once.
        state.leftovers.poll(cx);
        let mut polled = connection.as_mut().poll(cx);
        if polled.is_pending() && io.settle(cx, state.active.get() > 0) {
            polled = connection.as_mut().poll(cx);
        }
        state.note_malformed(state.io.malformed.take());
        polled
    })
    .await;
    if let Some(abuse) = state.io.abuse.get() {
        state.note_abuse(abuse);
        if abuse == H2Abuse::Protocol {
            state.note_refusal(error::AGAINST_PROTOCOL, "h2_protocol_error");
        }
        return;
    }
    match over {
        Over::Done(Err(error)) => {
            tracing::debug!(peer = ?state.peer, %error, "a client connection ended");
        }
        Over::SlowHead => state.note_refusal(error::SLOW_HEAD, "slow_head"),
        _ => {}
    }
}
