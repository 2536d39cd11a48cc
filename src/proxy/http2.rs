//! HTTP/2 on a client connection, and how little it holds while nothing happens there.
//!
//! Our own, and not hyper's, for what a proxy knows and a server does not. The connection is a plain
//! state machine, the `Core`: its task reads bytes into it, and writes the frames that it gathers,
//! once for all streams that were ready at a time. Each stream is a task of its own, which puts its
//! answer into the core, and whose body waits there; it waits when the windows or the room for frames
//! are used up, and gets its turn by the core. What a client may not do is refused where it is seen:
//! what is against the rules of a message ends its stream, what is against the rules of the
//! connection ends that, and what merely costs too much is paid for out of a budget, until it is over.
//!
//! For each connection we hold, at most, what its streams were sent and nobody took (64 KiB of each,
//! and 2 MiB besides), what was gathered and not written (64 KiB and the heads of answers), one piece of
//! each answer, a header block twice the size of a head, and 4 KiB of HPACK's table. A connection
//! without streams is **parked** after a while: then it is a socket, the clocks, and that table.

mod answer;
mod budget;
mod core;
mod cut;
mod ending;
mod head;
mod out;
mod receive;
mod request;
mod send;
mod sides;
mod standing;
mod streams;
#[cfg(test)]
mod tests;
mod untaken;
mod windows;
mod wire;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use self::core::{Accepted, Broken, Core, Form, Limits, code};
pub use self::request::check;
use self::sides::Sender;
pub use self::sides::{Body, Socket};
pub use self::wire::Wire;
use super::body::Incoming;
use super::connection::ConnectionState;
use super::drive::{Over, Parked, Wish, drive};
use super::error;
use super::farewell::{linger_broken, linger_http2};
use super::timer::Timer;
use crate::state::H2Abuse;

/// A client that has streams open, and has said nothing for so long, is asked whether it is there; and
/// as long again it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// By then a client has heard that the connection ends. One that is asleep does not say so.
const HEARING: Duration = Duration::from_secs(1);
/// Reads before others get their turn.
const READS: usize = 8;
/// With so much that the client does not take, nothing more is read from it.
const UNTAKEN_BYTES: usize = 256 * 1024;

/// How a connection came to its end.
enum End {
    /// It was closed by the client, or is of no use.
    Closed,
    /// All was said, and that the end is near.
    Finished,
    /// We broke it off.
    Broken(H2Abuse),
}

/// A connection, as its task has it.
struct Connection<'a> {
    state: &'a Rc<ConnectionState>,
    core: Rc<RefCell<Core>>,
    wire: Box<Wire>,
    /// For a client that says nothing while streams are open.
    silence: Timer,
    /// For a client that was told that the end is near.
    hearing: Option<Timer>,
    parked: Option<Parked<'a>>,
    /// Nothing is read for now.
    held_back: bool,
    /// Nothing is left but to say goodbye.
    finished: bool,
}

/// Serves a connection to its end.
pub async fn serve(state: &Rc<ConnectionState>, wire: Box<Wire>) {
    let mut connection = Connection::new(state, wire);
    let end = loop {
        match drive(state, |cx, wish| connection.poll(cx, wish)).await {
            Over::Idle => connection.park(),
            end => break end,
        }
    };
    match end {
        Over::Done(End::Finished) => {
            Box::pin(linger_http2(state, connection.wire.stream())).await;
        }
        Over::Done(End::Broken(kind)) => {
            state.note_abuse(kind);
            if kind == H2Abuse::Protocol {
                state.note_refusal(error::AGAINST_PROTOCOL, "h2_protocol_error");
            }
            connection.linger().await;
        }
        Over::SlowHead => {
            state.note_refusal(error::SLOW_HEAD, "slow_head");
            connection.part().await;
        }
        Over::Drop => connection.part().await,
        Over::Done(End::Closed) | Over::Idle => {}
    }
}

impl<'a> Connection<'a> {
    fn new(state: &'a Rc<ConnectionState>, wire: Box<Wire>) -> Self {
        state.park_at.set(Some(Instant::now() + state.worker.park_after));
        let limits = {
            let limits = &state.listener.borrow().limits;
            Limits {
                streams: limits.h2_streams,
                max_header_bytes: limits.max_header_bytes,
                max_headers: limits.max_headers,
            }
        };
        let spare = Rc::clone(&state.worker.upstreams.spare);
        Connection {
            state,
            core: Rc::new(RefCell::new(Core::new(limits, spare, Instant::now))),
            wire,
            silence: state.worker.wheel.timer(),
            hearing: None,
            parked: None,
            held_back: false,
            finished: false,
        }
    }

    fn park(&mut self) {
        self.core.borrow_mut().park();
        self.state.park();
        self.parked = Some(Parked::count(&self.state.worker));
    }

    fn poll(&mut self, cx: &mut Context<'_>, wish: Wish) -> Poll<End> {
        if wish == Wish::Close {
            self.core.borrow_mut().drain();
            let hearing = self.state.worker.wheel.timer();
            hearing.arm(Instant::now() + HEARING);
            self.hearing = Some(hearing);
        }
        if self.hearing.as_ref().is_some_and(|timer| timer.poll_expired(cx).is_ready()) {
            self.hearing = None;
            self.core.borrow_mut().tell_last();
        }
        self.state.leftovers.poll(cx);
        let read = self.read(cx);
        self.begin_streams();
        let core = Rc::clone(&self.core);
        let core = &mut *core.borrow_mut();
        self.state.note_malformed(core.take_mistakes());
        match read {
            Ok(true) => {}
            Ok(false) => return Poll::Ready(End::Closed),
            Err(broken) => return Poll::Ready(self.break_off(cx, core, broken)),
        }
        let Ok(written) = self.write(cx, core) else { return Poll::Ready(End::Closed) };
        if self.held_back && core.out.len() < UNTAKEN_BYTES {
            cx.waker().wake_by_ref();
        }
        if written && core.is_finished() {
            self.finished = true;
        }
        if self.finished && self.wire.poll_shutdown(cx).is_ready() {
            return Poll::Ready(End::Finished);
        }
        if self.poll_silence(cx, core).is_ready() {
            return Poll::Ready(End::Closed);
        }
        self.note_held(core);
        core.note_task(cx.waker());
        let at_rest = core.is_at_rest();
        if at_rest {
            core.out.trim();
        }
        self.state.io.resting.set(at_rest);
        Poll::Pending
    }

    /// Notes what is held for the client, and since when that stands.
    fn note_held(&self, core: &mut Core) {
        let io = &self.state.io;
        let (bytes, longest) = core.standing(Instant::now);
        let bytes = bytes + self.wire.sealed();
        let since =
            [longest, io.blocked_since.get(), io.head_since.get()].into_iter().flatten().min();
        match since {
            Some(since) => io.held.set(bytes, Some(since)),
            None => io.held.note(bytes),
        }
    }

    /// Reads what has come; `false` if the client has left.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Broken> {
        let scratch = &mut self.state.worker.scratch.borrow_mut()[..];
        let core = &mut *self.core.borrow_mut();
        for _ in 0..READS {
            self.held_back = core.out.len() >= UNTAKEN_BYTES;
            if self.held_back {
                return Ok(true);
            }
            let bytes = match self.wire.poll_read(cx, scratch) {
                Poll::Ready(Ok(bytes)) if !bytes.is_empty() => bytes,
                Poll::Ready(_) => return Ok(false),
                Poll::Pending => return Ok(true),
            };
            if self.parked.take().is_some() {
                self.state.park_at.set(Some(Instant::now() + self.state.worker.park_after));
            }
            core.receive(bytes)?;
            let head_since = &self.state.io.head_since;
            head_since.set(core.head_since(head_since.get(), Instant::now));
        }
        cx.waker().wake_by_ref();
        Ok(true)
    }

    /// Begins to serve the requests that came.
    fn begin_streams(&mut self) {
        let mut accepted = std::mem::take(&mut self.core.borrow_mut().accepted);
        for Accepted { key, request, form } in accepted.drain(..) {
            let body = match form {
                Form::None => Incoming::None,
                Form::Body => Incoming::Http2(Body::new(&self.core, key)),
                Form::Socket(protocol) => Incoming::Socket(Socket::new(&self.core, key, protocol)),
            };
            let sender = Sender::new(&self.core, key);
            let serving = answer::serve(Rc::clone(self.state), sender, request.map(|()| body));
            tokio::task::spawn_local(serving);
        }
        self.core.borrow_mut().accepted = accepted;
    }

    /// Writes what was gathered, and what those in line have; whether all of it has gone.
    fn write(&mut self, cx: &mut Context<'_>, core: &mut Core) -> std::io::Result<bool> {
        loop {
            core.fill();
            if core.out.is_empty() {
                let flushed = self.wire.poll_write(cx, &mut core.out)?;
                return Ok(flushed.is_ready());
            }
            if self.wire.poll_write(cx, &mut core.out)?.is_pending() {
                return Ok(false);
            }
        }
    }

    /// Ends the connection from our side; the client is told why, if it takes that at once.
    fn break_off(&mut self, cx: &mut Context<'_>, core: &mut Core, broken: Broken) -> End {
        self.go_away(cx, core, broken.code);
        tracing::debug!(peer = ?self.state.peer, code = broken.code, "broke an HTTP/2 connection off");
        End::Broken(broken.kind)
    }

    /// Tells a client whose time is up which of its requests were looked at (RFC 9113 section 6.8), if
    /// it takes that at once. A request may cross that on its way.
    async fn part(mut self) {
        poll_fn(|cx| {
            let core = Rc::clone(&self.core);
            self.go_away(cx, &mut core.borrow_mut(), code::NO_ERROR);
            Poll::Ready(())
        })
        .await;
        if self.core.borrow().has_begun() && self.state.untaken().is_none() {
            self.linger().await;
        }
    }

    /// Reads on a little behind a GOAWAY that ends all streams, lest a reset overtake it.
    async fn linger(mut self) {
        self.core.borrow_mut().abandon();
        Box::pin(linger_broken(self.state, self.wire.stream())).await;
    }

    fn go_away(&mut self, cx: &mut Context<'_>, core: &mut Core, code: u32) {
        // RFC 9113 section 3.4: whoever sends another preface speaks something else.
        if core.has_begun() {
            core.go_away_for(code);
            let _ = self.wire.poll_write(cx, &mut core.out);
        }
    }

    /// Ready when the client has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>, core: &mut Core) -> Poll<()> {
        if !core.has_streams() {
            return Poll::Pending;
        }
        if !self.silence.is_armed() {
            self.silence.arm(Instant::now() + PATIENCE);
        }
        while self.silence.poll_expired(cx).is_ready() {
            if !core.ask_alive() {
                return Poll::Ready(());
            }
            self.silence.arm(Instant::now() + PATIENCE);
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.core.borrow_mut().abandon();
    }
}
