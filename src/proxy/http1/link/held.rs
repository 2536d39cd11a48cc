//! What a connection holds that waits for its client, or for the rest of what the client sends.

use super::Link;
use crate::proxy::body::REPLAY_BYTES;
use crate::proxy::io::{ClientStream, REQUEST_BYTES};

impl Link {
    /// What is held of a request whose body is still to come: the latest piece of it, which its backend
    /// may take slowly, and what may have to be sent again.
    pub(in crate::proxy::http1) fn held_upload(&self) -> usize {
        if !self.is_in_body() {
            return 0;
        }
        let again = if self.uploaded <= REPLAY_BYTES { self.uploaded } else { 0 };
        self.inbox.bytes().len() + self.piece + again + REQUEST_BYTES
    }

    /// What is held of an answer of which this much is still to be written.
    pub(in crate::proxy::http1) fn held_answer(&self, piece: usize) -> usize {
        let sealed = self.stream.as_ref().map_or(0, ClientStream::sealed);
        let bytes = self.unwritten() + piece + sealed;
        if bytes == 0 { 0 } else { bytes + self.inbox.bytes().len() + REQUEST_BYTES }
    }

    /// What has come of a head that has not ended.
    pub(in crate::proxy::http1) fn held_head(&self) -> usize {
        if self.whole_head { 0 } else { self.inbox.bytes().len() }
    }
}
