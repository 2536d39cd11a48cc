//! The client's end of a connection: the stream, and the few facts that timeouts hang on.
//!
//! HTTP/1.1 and HTTP/2 read and write it in their own ways, see [`http1`](super::http1) and
//! [`http2`](super::http2). On the way both note since when a head has been arriving and since when
//! the client takes nothing. The facts are in an [`IoState`] shared with the task that drives the
//! connection, which acts on them.

mod held;
mod secured;
mod session;
mod socket;
mod stream;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use tokio::time::Instant;

pub use self::held::{Held, REQUEST_BYTES};
pub use self::secured::Secured;
pub use self::session::Session;
#[cfg(test)]
pub use self::session::tests::{settled, settled_in_little};
pub use self::socket::Socket;
pub use self::stream::{ClientStream, Peer, RawStream};
use crate::upstream::SlowClients;

/// What reading and writing have shown.
#[derive(Debug)]
pub struct IoState {
    /// A head has begun to arrive at this time and has not ended.
    pub head_since: Cell<Option<Instant>>,
    /// The client has taken nothing since.
    pub blocked_since: BlockedSince,
    /// What is held for the client.
    pub held: Held,
    /// When the client last had to be waited for.
    pub last_blocked: Cell<Option<Instant>>,
    /// A client that had to be waited for has taken something, at this time.
    pub taken_at: Cell<Option<Instant>>,
    /// The latest HTTP/1.1 request is OPTIONS for the server as a whole (RFC 9112 section 3.2.4).
    pub for_server: Cell<bool>,
    /// Requests are waited for, and nothing else is under way.
    pub resting: Cell<bool>,
    /// The client has closed its sending side and waits for answers: since when, or since when it
    /// was last sent something. Or it has sent so much ahead that its end might not be seen.
    pub half_closed_since: Cell<Option<Instant>>,
    /// Until then an answer may come that makes unnecessary what is put off.
    pub hurry_until: Cell<Option<Instant>>,
    /// Then it is to be looked whether the client has gone whose upload nobody reads.
    pub look_again_at: Cell<Option<Instant>>,
    /// It has waited for too long: it has left, if it is closed at all.
    pub left: Cell<bool>,
}

/// Since when a client takes nothing, which is counted on its worker until it takes something or is
/// gone.
#[derive(Debug)]
pub struct BlockedSince {
    since: Cell<Option<Instant>>,
    slow_clients: Rc<SlowClients>,
}

impl BlockedSince {
    /// Since when, if it is so.
    pub fn get(&self) -> Option<Instant> {
        self.since.get()
    }

    fn begin(&self, now: Instant) {
        if self.since.get().is_none() {
            self.since.set(Some(now));
            self.slow_clients.come();
        }
    }

    /// Whether it was so.
    fn end(&self) -> bool {
        let was = self.since.take().is_some();
        if was {
            self.slow_clients.go();
        }
        was
    }
}

impl Drop for BlockedSince {
    fn drop(&mut self) {
        self.end();
    }
}

impl IoState {
    /// Nothing was shown yet, on a worker with these slow clients.
    pub fn among(slow_clients: &Rc<SlowClients>) -> Rc<Self> {
        let held = Held::among(Rc::clone(slow_clients));
        let slow_clients = Rc::clone(slow_clients);
        Rc::new(IoState {
            blocked_since: BlockedSince { since: Cell::default(), slow_clients },
            held,
            head_since: Cell::default(),
            last_blocked: Cell::default(),
            taken_at: Cell::default(),
            for_server: Cell::default(),
            resting: Cell::default(),
            half_closed_since: Cell::default(),
            hurry_until: Cell::default(),
            look_again_at: Cell::default(),
            left: Cell::default(),
        })
    }

    /// Notes what a flush of this stream has come to.
    pub(super) fn note_flush(&self, stream: &mut ClientStream, flushed: &Poll<io::Result<()>>) {
        self.note(stream.taken(0), flushed.is_pending());
    }

    /// Notes what a write to this stream has come to.
    pub(super) fn note_write(&self, stream: &mut ClientStream, written: &Poll<io::Result<usize>>) {
        let length = match written {
            Poll::Ready(Ok(length)) => *length,
            _ => 0,
        };
        self.note(stream.taken(length), written.is_pending());
    }

    /// Notes what the client's socket has taken, in bytes, and whether more waits for it. Whoever
    /// takes a part takes something; whoever takes nothing does not, whatever is sealed for it meanwhile.
    fn note(&self, taken: usize, waits: bool) {
        if taken > 0 {
            self.held.moved(taken);
            if self.blocked_since.end() {
                self.taken_at.set(Some(Instant::now()));
            }
            if self.half_closed_since.get().is_some() {
                self.half_closed_since.set(Some(Instant::now()));
            }
        }
        if waits {
            let now = Instant::now();
            self.last_blocked.set(Some(now));
            self.blocked_since.begin(now);
        }
    }
}
