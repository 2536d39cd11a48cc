//! A connection while the body of an answer is read from it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Lane;
use crate::framing::Violation;
use crate::upstream::http1::Http1;
use crate::upstream::http2::StreamGuard;

/// Keeps a connection for the length of a response.
///
/// Dropped, it closes an HTTP/1.1 connection: what is left on it belongs to an exchange that was
/// not read to its end. [`Lease::give_back`] keeps it for the next request.
#[derive(Debug)]
pub struct Lease(pub(super) Held);

#[derive(Debug)]
pub(super) enum Held {
    Http1 { lane: Rc<Lane>, epoch: u32, connection: Http1 },
    Http2 { _stream: StreamGuard },
}

impl Lease {
    /// The exchange is complete, both ways: the connection may serve the next request.
    pub fn give_back(self, now: Instant) {
        if let Held::Http1 { lane, epoch, connection } = self.0 {
            lane.put_back(connection, epoch, now);
        }
    }

    /// The backend said how long it keeps unused connections.
    pub fn on_announced(&self, timeout: Duration, now: Instant) {
        if let Held::Http1 { lane, .. } = &self.0 {
            lane.on_announced(timeout, now);
        }
    }

    /// What the backend sent that is not to be passed on; the answer breaks off there.
    pub fn violation(&self) -> Option<Violation> {
        match &self.0 {
            Held::Http1 { connection, .. } => connection.violation(),
            Held::Http2 { .. } => None,
        }
    }
}
