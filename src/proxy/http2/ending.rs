//! How a connection comes to its end (RFC 9113 section 6.8), and how it is found that it has.

use std::collections::VecDeque;

use bytes::Bytes;

use super::core::{Core, MAX_WINDOW, code};
use crate::framing::frames::{GOAWAY, PING};
use crate::proxy::body::UploadFailure;

/// What the PING says that tells when the client has seen our first GOAWAY.
const DRAIN_PING: [u8; 8] = *b"draining";
/// What those say that ask whether it is still there.
const ALIVE_PING: [u8; 8] = *b"alive?\0\0";

/// How far the connection has come to its end (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// The client was told that it will end, and asked whether it has heard that.
    Announced,
    /// The client was told which stream is the last.
    Told,
}

impl Core {
    /// Whether the client was told that no further stream is served.
    pub(super) fn is_closed_to_new(&self) -> bool {
        self.drain == Drain::Told
    }

    /// Tells the client why the connection ends at once.
    pub(super) fn go_away_for(&mut self, code: u32) {
        let begun = self.block.as_ref().filter(|block| block.is_new);
        // A request whose head has not come in full was not looked at.
        let last = begun.map_or(self.last_stream, |block| block.stream.saturating_sub(2));
        self.go_away(last, code);
    }

    /// Whether there is nothing left to be done, and nothing will come.
    pub(super) fn is_finished(&self) -> bool {
        (self.drain == Drain::Told || self.client_leaves) && self.streams.is_empty()
    }

    /// Begins to end the connection: what the client has asked for by the time that it hears of it is
    /// served (RFC 9113 section 6.8).
    pub(super) fn drain(&mut self) {
        if self.drain == Drain::No {
            self.drain = Drain::Announced;
            self.go_away(MAX_WINDOW as u32, code::NO_ERROR);
            self.out.frame(PING, 0, 0, &DRAIN_PING);
        }
    }

    /// A PING was answered.
    pub(super) fn answered_ping(&mut self, payload: &[u8]) {
        if payload == DRAIN_PING {
            self.tell_last();
        }
    }

    /// Tells the client which stream is the last, if it knows, or should know by now, that the end is
    /// near.
    pub(super) fn tell_last(&mut self) {
        if self.drain == Drain::Announced {
            self.drain = Drain::Told;
            self.go_away_for(code::NO_ERROR);
        }
    }

    /// Asks whether the client is still there, once; `false` if it was asked before and nothing has come
    /// since.
    pub(super) fn ask_alive(&mut self) -> bool {
        if std::mem::take(&mut self.heard) {
            self.asked_alive = false;
            return true;
        }
        if std::mem::replace(&mut self.asked_alive, true) {
            return false;
        }
        self.out.frame(PING, 0, 0, &ALIVE_PING);
        true
    }

    fn go_away(&mut self, last: u32, code: u32) {
        // Section 6.8: it never grows, though streams that are refused have larger numbers.
        self.last_told = self.last_told.min(last);
        let last = self.last_told;
        let mut payload = [0; 8];
        payload[..4].copy_from_slice(&last.to_be_bytes());
        payload[4..].copy_from_slice(&code.to_be_bytes());
        self.out.frame(GOAWAY, 0, 0, &payload);
    }

    /// The connection is over, and with it all of its streams.
    pub(super) fn abandon(&mut self) {
        self.task = None;
        self.accepted = Vec::new();
        self.line = VecDeque::new();
        for (_, stream) in &mut self.streams {
            if !stream.is_closed() {
                stream.failure = Some(UploadFailure::Left);
                stream.pending = Bytes::new();
                stream.untaken.clear();
            }
            stream.in_line = false;
            stream.wake();
        }
        self.open = Vec::new();
    }
}
