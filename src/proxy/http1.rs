//! HTTP/1.1 on a client connection, and how little it holds while nothing happens there.
//!
//! Our own, and not hyper's, for what a proxy knows and a server does not: heads are parsed where
//! they were read, by the scanner that judges their framing; a body is read by whoever sends it on;
//! and an answer's head goes out in one piece with what there is of its body. Requests that come
//! together wait in the buffer, each for the answer to the one before.
//!
//! A connection is **parked** until its first head is there, and again after a while without a
//! request: then it is a socket, the clocks, and what has come of the next head. So a client that
//! drips one costs no more than what it has sent, and its clock runs on.

mod answer;
mod body;
mod head;
mod link;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Method;

use self::answer::Answer;
pub use self::body::Body;
use self::head::Asked;
use self::link::Heard;
pub use self::link::Link;
use super::body::Incoming;
use super::connection::ConnectionState;
use super::drive::{Over, Parked, drive};
use super::farewell::{linger, refuse};
use super::rare::boxed;
use super::received::Received;
use super::reply::Reply;
use super::tunnel::{self, Tunnel};
use super::{error, service};
use crate::framing::{Limits, Violation};

/// A connection, shared by its task and whoever reads a request's body.
pub type SharedLink = Rc<RefCell<Link>>;

/// A new connection whose first answer takes longer is entered into the reactor, which tells if its
/// client leaves, and is sent its session ticket.
const HURRY: Duration = Duration::from_millis(10);

/// What becomes of a connection behind an answer, or in place of one.
enum Next {
    /// It waits for the next request.
    GoOn,
    /// It is another protocol's now.
    Tunnel(Box<Tunnel>),
    /// It ends behind an answer that is to arrive, whatever its client is still sending.
    Linger,
    /// It ends as its client has asked, who sends nothing more.
    Part,
    /// It ends with an answer to what is not to be passed on.
    Refuse(Violation),
    /// It ends without one.
    Drop,
}

/// Serves a connection to its end.
pub async fn serve(state: &Rc<ConnectionState>, link: SharedLink) {
    let puts_off = link.borrow().puts_off();
    state.io.hurry_until.set(puts_off.then(|| state.idle_since.get() + HURRY));
    let end = loop {
        match wait(state, &link).await {
            Over::Done(Next::GoOn) => {}
            over => break over,
        }
        match boxed(|| converse(state, &link)).await {
            Over::Idle => {
                link.borrow_mut().park();
                state.park();
            }
            over => break over,
        }
    };
    // A switch that was agreed on and could not be told. It holds the connection that holds it.
    drop(state.tunnel.take());
    let (status, reason) = match end {
        Over::Done(Next::Tunnel(tunnel)) => {
            // Tunnels live long.
            drop(link);
            state.park();
            return tunnel.run().await;
        }
        Over::Done(Next::Linger) => return boxed(|| linger(state, &link)).await,
        Over::Done(Next::Refuse(violation)) => (violation.status(), violation.label()),
        Over::SlowHead => (error::SLOW_HEAD, "slow_head"),
        Over::Done(_) | Over::Idle | Over::Drop => return,
    };
    state.note_refusal(status, reason);
    boxed(|| refuse(state, &link, status)).await;
}

/// Waits, parked, until there is a request.
async fn wait(state: &ConnectionState, link: &RefCell<Link>) -> Over<Next> {
    let _parked = Parked::count(&state.worker);
    let mut hearing = pin!(hear(state, link));
    drive(state, |cx, _| hearing.as_mut().poll(cx)).await
}

/// Serves requests until none has come for a while, or the connection is over.
async fn converse(state: &Rc<ConnectionState>, link: &SharedLink) -> Over<Next> {
    let mut serving = pin!(async {
        loop {
            match hear(state, link).await {
                Next::GoOn => {}
                end => break end,
            }
            match pin!(exchange(state, link)).await {
                Next::GoOn => {}
                end => break end,
            }
        }
    });
    drive(state, |cx, _| serving.as_mut().poll(cx)).await
}

/// Waits for the head of the next request, to go on with.
async fn hear(state: &ConnectionState, link: &RefCell<Link>) -> Next {
    state.io.resting.set(true);
    let heard = poll_fn(|cx| {
        let heard = link.borrow_mut().poll_head(cx, &mut state.worker.scratch.borrow_mut());
        state.io.held.set(link.borrow().held_head(), state.io.head_since.get());
        // What has already arrived is looked at first, so that a request which crossed our wish to
        // close on its way is served.
        match heard {
            Poll::Pending if state.is_closing() && state.may_be_told_to_close() => {
                Poll::Ready(Heard::End)
            }
            heard => heard,
        }
    })
    .await;
    state.io.resting.set(false);
    match heard {
        Heard::Head => Next::GoOn,
        Heard::Refused(violation) => Next::Refuse(violation),
        Heard::End => goodbye(link).await,
    }
}

/// Ends a connection that is idle, or whose client has asked for that. Nobody reads on. Where it is
/// idle the answers arrived long ago, so that a reset cannot overtake one, and a request that is on
/// its way is lost either way (RFC 9112 section 9.6).
async fn goodbye(link: &RefCell<Link>) -> Next {
    poll_fn(|cx| link.borrow_mut().poll_goodbye(cx)).await;
    Next::Drop
}

/// One request and its answer.
async fn exchange(state: &Rc<ConnectionState>, link: &SharedLink) -> Next {
    let (received, asked) = match take_request(state, link) {
        Ok(taken) => taken,
        Err(violation) => return Next::Refuse(violation),
    };
    let serving = pin!(service::handle(Rc::clone(state), received));
    let Some(reply) = answer(state, link, serving).await else { return Next::Drop };
    let last = state.is_closing() || !state.keeps_alive();
    let worker = &state.worker;
    let mut answer = Answer::begin(&mut link.borrow_mut(), reply, asked, last, worker);
    let written = poll_fn(|cx| {
        let written = answer.poll(link, cx);
        state.io.held.note(link.borrow().held_answer(answer.held()));
        match written {
            Poll::Ready(written) => Poll::Ready(written.is_ok()),
            Poll::Pending => poll_left(state, link, cx).map(|()| false),
        }
    })
    .await;
    state.io.held.note(0);
    let next = if written { behind(state, link, &answer, asked) } else { Next::Drop };
    match next {
        Next::Part => goodbye(link).await,
        next => next,
    }
}

/// The request whose head is there, and what its answer hangs on.
fn take_request(
    state: &ConnectionState,
    link: &SharedLink,
) -> Result<(Box<Received>, Asked), Violation> {
    let mut link_now = link.borrow_mut();
    let (bytes, scanner) = link_now.take_head();
    let head = *scanner.head();
    let empty = || state.worker.upstreams.spare.take();
    let received = state.worker.take_received();
    let mut received = head::parse(bytes, &head, scanner.spans(), empty, received)?;
    if link_now.is_in_body() {
        received.body = Incoming::Http1(Body(Rc::clone(link)));
    }
    state.io.for_server.set(head.for_server);
    let asked = Asked {
        head_only: received.parts.method == Method::HEAD,
        http10: head.http10,
        trailers: head.te_trailers,
        keeps_open: head.keeps_open(),
    };
    Ok((received, asked))
}

/// The answer to a request, if the client waits for it.
async fn answer(
    state: &Rc<ConnectionState>,
    link: &RefCell<Link>,
    mut serving: Pin<&mut impl Future<Output = Reply>>,
) -> Option<Reply> {
    poll_fn(|cx| {
        link.borrow_mut().begin_turn();
        match serving.as_mut().poll(cx) {
            Poll::Ready(reply) => Poll::Ready(Some(reply)),
            Poll::Pending => {
                state.io.held.note(link.borrow().held_upload());
                poll_left(state, link, cx).map(|()| None)
            }
        }
    })
    .await
}

fn poll_left(state: &ConnectionState, link: &RefCell<Link>, cx: &mut Context<'_>) -> Poll<()> {
    link.borrow_mut().poll_left(cx, &mut state.worker.scratch.borrow_mut())
}

/// What follows upon an answer that was written.
fn behind(state: &ConnectionState, link: &RefCell<Link>, answer: &Answer, asked: Asked) -> Next {
    let mut link = link.borrow_mut();
    if let Some(start) = state.tunnel.borrow_mut().take() {
        let (early, stream) = link.give_up();
        let client = stream.map(tunnel::ClientEnd::Http1);
        return client.map_or(Next::Drop, |client| {
            Next::Tunnel(Box::new(Tunnel::new(*start, client, early)))
        });
    }
    if state.is_cut() {
        link.reset();
        return Next::Drop;
    }
    if !answer.is_whole() {
        return Next::Drop;
    }
    link.end_answer(&state.worker.upstreams.spare);
    if state.has_unread() || link.is_in_body() {
        return Next::Linger;
    }
    if !asked.keeps_open && link.is_read_up() {
        // It must not send more (RFC 9112 section 9.6), and has not, so that nothing comes which would
        // have the kernel reset the connection.
        return Next::Part;
    }
    if answer.is_last() {
        return Next::Linger;
    }
    link.resume();
    Next::GoOn
}

/// What a head may be.
pub(super) fn head_limits(state: &ConnectionState) -> Limits {
    let limits = &state.listener.borrow().limits;
    Limits { max_header_bytes: limits.max_header_bytes, max_headers: limits.max_headers }
}

impl ConnectionState {
    /// Whether it is to be closed when what has begun is finished.
    fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether connections are kept at all.
    fn keeps_alive(&self) -> bool {
        !self.listener.borrow().limits.keepalive_timeout.is_zero()
    }
}
