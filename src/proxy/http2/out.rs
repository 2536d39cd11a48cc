//! What waits to be written on an HTTP/2 connection: frames, gathered until the connection's turn.
//!
//! Heads and small payloads lie one behind the other; larger payloads stay where they are, and are
//! only noted by their place among them.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use crate::framing::frames::FrameHead;

/// Up to here a payload is copied.
const FLAT_BYTES: usize = 2048;
/// Room that is kept while there is nothing to be written.
const KEPT_BYTES: usize = 4096;
/// Pieces of one write.
const PIECES: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Out {
    flat: Vec<u8>,
    /// How much of it has gone.
    gone: usize,
    /// Payloads, each with the place in `flat` that it stands in front of.
    payloads: VecDeque<(usize, Bytes)>,
    /// Bytes of them.
    payload_bytes: usize,
}

impl Out {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.flat.len() - self.gone + self.payload_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a frame.
    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let head = FrameHead { length: payload.len(), kind, flags, stream };
        self.flat.extend_from_slice(&head.bytes());
        self.flat.extend_from_slice(payload);
    }

    /// Adds a frame of which the payload need not be copied.
    pub(super) fn frame_of(&mut self, kind: u8, flags: u8, stream: u32, payload: Bytes) {
        if payload.len() <= FLAT_BYTES {
            return self.frame(kind, flags, stream, &payload);
        }
        let head = FrameHead { length: payload.len(), kind, flags, stream };
        self.flat.extend_from_slice(&head.bytes());
        self.payload_bytes += payload.len();
        self.payloads.push_back((self.flat.len(), payload));
    }

    /// Where whole frames can be written to by others.
    pub(super) fn flat(&mut self) -> &mut Vec<u8> {
        &mut self.flat
    }

    /// What is to be written next.
    pub(super) fn pieces(&self) -> SmallVec<[IoSlice<'_>; PIECES]> {
        let mut pieces = SmallVec::new();
        let mut at = self.gone;
        for (place, payload) in self.payloads.iter().take(PIECES / 2 - 1) {
            if at < *place {
                pieces.push(IoSlice::new(&self.flat[at..*place]));
            }
            pieces.push(IoSlice::new(payload));
            at = *place;
        }
        let end = self.payloads.get(PIECES / 2 - 1).map_or(self.flat.len(), |next| next.0);
        if at < end {
            pieces.push(IoSlice::new(&self.flat[at..end]));
        }
        pieces
    }

    /// So many bytes of it were written.
    pub(super) fn advance(&mut self, mut written: usize) {
        while let Some((place, payload)) = self.payloads.front_mut() {
            let flat = written.min(*place - self.gone);
            self.gone += flat;
            written -= flat;
            let taken = written.min(payload.len());
            payload.advance(taken);
            self.payload_bytes -= taken;
            written -= taken;
            if !payload.is_empty() {
                return;
            }
            self.payloads.pop_front();
        }
        self.gone += written;
        if self.gone == self.flat.len() {
            self.flat.clear();
            self.gone = 0;
        }
    }

    /// Gives memory back that nothing is in, if it is much.
    pub(super) fn trim(&mut self) {
        if self.is_empty() && self.flat.capacity() > KEPT_BYTES {
            self.release();
        }
    }

    /// Gives all memory back that nothing is in.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Out::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_taken_at_a_time_the_order_stays() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..200 {
            let mut out = Out::default();
            let (mut wanted, mut written): (Vec<u8>, Vec<u8>) = Default::default();
            for number in 0..30_u8 {
                let payload = vec![number; random.usize(..10_000)];
                let head = FrameHead { length: payload.len(), kind: 0, flags: 0, stream: 1 };
                wanted.extend(head.bytes());
                wanted.extend(&payload);
                out.frame_of(0, 0, 1, payload.into());
                if random.bool() {
                    let all: Vec<u8> =
                        out.pieces().iter().flat_map(|piece| piece.to_vec()).collect();
                    let taken = random.usize(..=all.len());
                    written.extend(&all[..taken]);
                    out.advance(taken);
                }
                assert_eq!(out.len(), wanted.len() - written.len());
            }
            while !out.is_empty() {
                let all: Vec<u8> = out.pieces().iter().flat_map(|piece| piece.to_vec()).collect();
                assert!(!all.is_empty());
                written.extend(&all);
                out.advance(all.len());
            }
            assert!(written == wanted);
        }
    }
}
