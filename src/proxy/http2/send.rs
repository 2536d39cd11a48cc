//! Frames that answers are made of, and whose turn it is to send them.
//!
//! A stream sends at once while nobody else waits. Otherwise streams stand in line, and each sends one
//! frame in its turn, as far as the windows and the room in `out` go.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::core::{Core, FRAME_BYTES};
use super::streams::Stream;
use crate::framing::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHead, HEADERS};
use crate::framing::hpack::encode;

/// With so much waiting to be written, nobody sends content.
const OUT_BYTES: usize = 64 * 1024;

impl Stream {
    /// Whether it has something to send, could, and does not stand in line.
    pub(super) fn may_queue(&self) -> bool {
        !self.pending.is_empty() && self.send_window > 0 && !self.in_line
    }
}

impl Core {
    /// Sends a block of fields, which `encode` writes. `ends` is whether nothing follows.
    pub(super) fn send_fields(
        &mut self,
        key: usize,
        ends: bool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let id = self.streams[key].id;
        let out = self.out.flat();
        let start = out.len();
        out.extend_from_slice(&[0; FrameHead::BYTES]);
        if !std::mem::replace(&mut self.told_table, true) {
            encode::no_table(out);
        }
        encode(out);
        let length = out.len() - start - FrameHead::BYTES;
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        if length <= FRAME_BYTES {
            let head = FrameHead { length, kind: HEADERS, flags, stream: id };
            out[start..start + FrameHead::BYTES].copy_from_slice(&head.bytes());
        } else {
            let block = out.split_off(start + FrameHead::BYTES);
            out.truncate(start);
            self.send_long_block(id, flags, &block);
        }
        if ends {
            self.sent_end(key);
        }
        self.wake();
    }

    /// RFC 9113 section 4.3.
    fn send_long_block(&mut self, id: u32, flags: u8, block: &[u8]) {
        let last = block.len().div_ceil(FRAME_BYTES) - 1;
        for (number, part) in block.chunks(FRAME_BYTES).enumerate() {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let with_end = if number == 0 { flags & END_STREAM } else { 0 };
            let flags = with_end | if number == last { END_HEADERS } else { 0 };
            self.out.frame(kind, flags, id, part);
        }
    }

    /// Tells a client that waits that its body is wanted (RFC 9110 section 10.1.1).
    pub(super) fn send_continue(&mut self, key: usize) {
        self.send_fields(key, false, |out| encode::status(out, StatusCode::CONTINUE));
    }

    /// Sends trailers, behind which nothing follows.
    pub(super) fn send_trailers(&mut self, key: usize, trailers: &HeaderMap) {
        self.budgets.sent_fields();
        self.send_fields(key, true, |out| {
            trailers.iter().for_each(|(name, value)| encode::field(out, name, value));
        });
    }

    /// Sends content as soon as possible; `ends` is whether nothing follows. All that was given before
    /// has been sent.
    pub(super) fn send_data(&mut self, key: usize, data: Bytes, ends: bool) {
        let stream = &mut self.streams[key];
        if stream.failure.is_some() {
            return;
        }
        if !data.is_empty() {
            stream.piece = data.len();
            stream.pending = data;
            stream.pending_end = ends;
            if self.line.is_empty() {
                self.send_pending(key);
            }
            self.queue(key);
        } else if ends {
            let id = stream.id;
            self.out.frame(DATA, END_STREAM, id, &[]);
            self.sent_end(key);
        }
        self.wake();
    }

    /// Lets a stream stand in line, if it has reason to.
    pub(super) fn queue(&mut self, key: usize) {
        let stream = &mut self.streams[key];
        if stream.may_queue() {
            stream.in_line = true;
            self.line.push_back(key);
        }
    }

    /// Lets those in line send, each one frame in its turn, as long as there is room.
    pub(super) fn fill(&mut self) {
        while self.send_window > 0
            && self.has_room()
            && let Some(key) = self.line.pop_front()
        {
            self.streams[key].in_line = false;
            self.send_pending(key);
            self.queue(key);
            let stream = &mut self.streams[key];
            if stream.pending.is_empty()
                && let Some(sender) = stream.sender.take()
            {
                sender.wake();
            }
        }
    }

    /// Whether content may be gathered: less of it the more clients take nothing.
    fn has_room(&self) -> bool {
        self.out.len() < OUT_BYTES.min(self.spare.slow_clients.room())
    }

    /// Sends one frame of what a stream has to send.
    fn send_pending(&mut self, key: usize) {
        let has_room = self.has_room();
        let stream = &mut self.streams[key];
        let window = stream.send_window.min(self.send_window).clamp(0, FRAME_BYTES as i64) as usize;
        let length = window.min(stream.pending.len());
        if length == 0 || !has_room {
            return;
        }
        let part = match length == stream.pending.len() {
            true => std::mem::take(&mut stream.pending),
            false => stream.pending.split_to(length),
        };
        stream.send_window -= length as i64;
        stream.moved += length as u64;
        self.send_window -= length as i64;
        self.sent += length as u64;
        let ends = stream.pending.is_empty() && stream.pending_end;
        let id = stream.id;
        self.out.frame_of(DATA, if ends { END_STREAM } else { 0 }, id, part);
        self.budgets.sent_data(length);
        if ends {
            self.sent_end(key);
        }
    }

    fn sent_end(&mut self, key: usize) {
        self.streams[key].send_ended = true;
        self.budgets.ended_stream();
        self.close_if_over(key);
    }
}
