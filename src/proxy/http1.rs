//! HTTP/1.1 on a client connection, and how little it holds while nothing happens there.
//!
//! hyper keeps buffers and a state for a request as long as it has the connection, and most
//! connections are idle most of the time. So hyper has one only while there are requests on it. A
//! connection is **parked** until its first head is there, and again after a while without a
//! request: hyper is taken apart, and what is left is the wrapped stream, the clocks, and what has
//! come of the next head. Such a head waits in a buffer of its own size, so a client that drips one
//! costs no more than what it has sent, and its clock runs on.

use std::pin::Pin;
use std::rc::Rc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;

use super::connection::ConnectionState;
use super::drive::{Over, Wish, drive};
use super::farewell::{linger, refuse};
use super::io::ClientIo;
use super::tunnel::{self, Tunnel};
use super::worker::Worker;
use super::{error, service};
use crate::framing::Limits;

/// hyper's buffers, for a head that is being read or bodies that are being written.
const BUFFER_BYTES: usize = 32 * 1024;

/// What becomes of a connection that hyper has let go of.
enum Next {
    /// Nothing has happened for a while.
    Park(Box<ClientIo>),
    /// It is another protocol's now.
    Tunnel(Box<Tunnel>),
    /// It ends, but its client may still be sending.
    Linger(Box<ClientIo>),
    /// It ends, and why.
    TurnAway(Box<ClientIo>, Over<()>),
    /// It has ended.
    End,
}

/// Serves a connection to its end.
pub async fn serve(state: &Rc<ConnectionState>, mut io: Box<ClientIo>) {
    loop {
        let next = match wait(state, &mut io).await {
            Over::Done(true) => Box::pin(converse(state, io)).await,
            Over::Done(false) | Over::Idle | Over::Drop => return,
            over => Next::TurnAway(io, over.without_result()),
        };
        match next {
            Next::Park(parked) => io = parked,
            Next::Tunnel(tunnel) => return tunnel.run().await,
            Next::Linger(io) => return Box::pin(linger(*io)).await,
            Next::TurnAway(io, over) => return Box::pin(turn_away(state, *io, over)).await,
            Next::End => return,
        }
    }
}

/// Waits until there is a request, and gives whether there is one: if not, the connection is over.
async fn wait(state: &ConnectionState, io: &mut ClientIo) -> Over<bool> {
    let _parked = Parked::count(&state.worker);
    let mut closing = false;
    drive(state, |cx, wish| {
        closing |= wish == Wish::Close;
        if closing {
            return Pin::new(&mut *io).poll_shutdown(cx).map(|_| false);
        }
        io.poll_head(cx, &mut state.worker.scratch.borrow_mut())
    })
    .await
}

/// Lets hyper serve requests until none has come for a while, or the connection is over.
async fn converse(state: &Rc<ConnectionState>, io: Box<ClientIo>) -> Next {
    let serving = Rc::clone(state);
    // Boxed, since hyper has room for it from the first request to the last, and mostly there is
    // none.
    let service =
        service_fn(move |request| Box::pin(service::handle(Rc::clone(&serving), request)));
    let mut connection = builder(state).serve_connection(TokioIo::new(io), service);
    let over = drive(state, |cx, wish| {
        if wish == Wish::Close {
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx)
    })
    .await;
    let parts = connection.into_parts();
    let (mut io, unread) = (parts.io.into_inner(), parts.read_buf);
    let result = match over {
        Over::Done(result) => result,
        Over::Idle => {
            io.park(&unread);
            state.park();
            return Next::Park(io);
        }
        over => return Next::TurnAway(io, over.without_result()),
    };
    if let Some(start) = state.tunnel.borrow_mut().take() {
        let (held, stream) = io.into_tunnel();
        // A copy, since what was read is a part of a large buffer.
        let early = [&unread[..], &held[..]].concat().into();
        let client = tunnel::ClientEnd::Http1(stream);
        return match result {
            Ok(()) => Next::Tunnel(Box::new(Tunnel::new(*start, client, early))),
            Err(_) => Next::End,
        };
    }
    if let Err(error) = result {
        state.note_error(&error);
    }
    if state.is_cut() {
        io.reset();
    } else if state.has_unread() {
        return Next::Linger(io);
    }
    Next::End
}

/// What a head may be.
pub(super) fn head_limits(state: &ConnectionState) -> Limits {
    let limits = &state.listener.borrow().limits;
    Limits { max_header_bytes: limits.max_header_bytes, max_headers: limits.max_headers }
}

fn builder(state: &ConnectionState) -> http1::Builder {
    let limits = &state.listener.borrow().limits;
    let mut builder = http1::Builder::new();
    builder
        .keep_alive(!limits.keepalive_timeout.is_zero())
        .max_headers(usize::from(limits.max_headers))
        .max_buf_size(BUFFER_BYTES.max(limits.max_header_bytes as usize + 8 * 1024));
    builder
}

/// Refuses a head for what stands in it, or for having taken too long.
async fn turn_away(state: &ConnectionState, io: ClientIo, over: Over<()>) {
    let (status, reason) = match over {
        Over::Refused(violation) => (violation.status(), violation.label()),
        Over::SlowHead => (error::SLOW_HEAD, "slow_head"),
        Over::Done(()) | Over::Idle | Over::Drop => return,
    };
    state.note_refusal(status, reason);
    refuse(io, status).await;
}

/// Counts a connection as parked until dropped.
struct Parked<'a>(&'a Worker);

impl<'a> Parked<'a> {
    fn count(worker: &'a Worker) -> Self {
        worker.cells().parked.add(1);
        Parked(worker)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.cells().unparked.add(1);
    }
}
