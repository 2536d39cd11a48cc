//! A request on its way out: prepared once, sent as often as need be.

use std::rc::Rc;

use http::header::{CONNECTION, UPGRADE};
use tokio::time::Instant;

use super::body::{RequestBody, Upload};
use super::shadow::Pair;
use super::upgrade::Wish;
use crate::upstream::RequestHead;

/// A request that is ready to go out.
#[derive(Debug)]
pub struct Outgoing {
    /// What the backend is to see.
    pub head: RequestHead,
    /// The body, if there is one.
    pub upload: Option<Rc<Upload>>,
    /// Whether the method may be sent twice.
    pub idempotent: bool,
    /// Another protocol that the client asks for.
    pub wish: Option<Wish>,
    /// Of the client's address, for `ip_hash`.
    pub client_hash: u64,
    /// When the route's total time began.
    pub began: Instant,
    /// When the route's total time is over.
    pub deadline: Option<Instant>,
    /// An answer of 500 was kept from the client, which happens once.
    pub has_hidden: bool,
    /// What it is compared with, if it was copied.
    pub pair: Option<Rc<Pair>>,
}

impl Outgoing {
    /// The body for one attempt.
    pub fn body(&self) -> RequestBody {
        self.upload.as_ref().map_or_else(RequestBody::empty, Upload::attempt)
    }

    /// Goes on without the wish for another protocol.
    pub fn waive_wish(&mut self) {
        self.wish = None;
        // The fields that were put back for it.
        self.head.headers.remove(CONNECTION);
        self.head.headers.remove(UPGRADE);
    }

    /// Whether its body, if any, can be sent again from its beginning.
    pub fn is_replayable(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.can_be_sent_again())
    }
}
