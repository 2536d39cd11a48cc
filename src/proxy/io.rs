//! The client's end of a connection: the stream, and the few facts that timeouts hang on.
//!
//! HTTP/1.1 and HTTP/2 read and write it in their own ways, see [`http1`](super::http1) and
//! [`h2::io`](super::h2::io). On the way both note since when a head has been arriving and since when
//! the client takes nothing. The facts are in an [`IoState`] shared with the task that drives the
//! connection, which acts on them.

mod secured;
mod stream;

use std::cell::Cell;
use std::io;
use std::task::Poll;

use tokio::time::Instant;

pub use self::secured::Secured;
pub use self::stream::{ClientStream, Peer, RawStream};
use crate::state::H2Abuse;

/// What reading and writing have shown.
#[derive(Debug, Default)]
pub struct IoState {
    /// A head has begun to arrive at this time and has not ended.
    pub head_since: Cell<Option<Instant>>,
    /// The client has taken nothing since.
    pub blocked_since: Cell<Option<Instant>>,
    /// When the client last had to be waited for.
    pub last_blocked: Cell<Option<Instant>>,
    /// The latest HTTP/1.1 request is OPTIONS for the server as a whole (RFC 9112 section 3.2.4).
    pub for_server: Cell<bool>,
    /// Requests are waited for, and nothing else is under way.
    pub resting: Cell<bool>,
    /// Streams of the HTTP/2 connection have been reset.
    pub resets: Cell<bool>,
    /// HTTP/2 streams that were reset for the client's mistakes and are not counted yet.
    pub malformed: Cell<u32>,
    /// Why an HTTP/2 connection was broken off.
    pub abuse: Cell<Option<H2Abuse>>,
    /// The client has closed its sending side and waits for answers: since when, or since when it
    /// was last sent something. Or it has sent so much ahead that its end might not be seen.
    pub half_closed_since: Cell<Option<Instant>>,
    /// It has waited for too long: it has left, if it is closed at all.
    pub left: Cell<bool>,
}

impl IoState {
    /// Notes what the client takes.
    pub(super) fn note_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => {
                let now = Instant::now();
                self.last_blocked.set(Some(now));
                if self.blocked_since.get().is_none() {
                    self.blocked_since.set(Some(now));
                }
            }
            Poll::Ready(_) => {
                self.blocked_since.set(None);
                if self.half_closed_since.get().is_some() {
                    self.half_closed_since.set(Some(Instant::now()));
                }
            }
        }
    }
}
