//! What came on a stream and was not taken yet.

use std::collections::VecDeque;
use std::mem;

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;

/// The largest piece of a body that is given at once: the backend may take it slowly, and meanwhile
/// the client may send as much again.
pub(super) const PIECE_BYTES: usize = 32 * 1024;

/// See the module. It lies in pieces as they are given, and goes on without being copied again.
#[derive(Debug, Default)]
pub(super) struct Untaken {
    first: Vec<u8>,
    /// How much of the first has gone.
    gone: usize,
    behind: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Untaken {
    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// More has come.
    pub(super) fn push(&mut self, mut content: &[u8]) {
        self.bytes += content.len();
        loop {
            let last = self.behind.back_mut().unwrap_or(&mut self.first);
            let room = PIECE_BYTES - last.len();
            let (fits, rest) = content.split_at(content.len().min(room));
            last.extend_from_slice(fits);
            if rest.is_empty() {
                return;
            }
            self.behind.push_back(Vec::new());
            content = rest;
        }
    }

    /// Takes a piece.
    pub(super) fn take_piece(&mut self) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        let gone = self.gone;
        let mut piece = Bytes::from(self.next());
        piece.advance(gone);
        self.bytes -= piece.len();
        Some(piece)
    }

    /// Takes as much as there is room for, and says how much that is.
    pub(super) fn read(&mut self, room: &mut ReadBuf<'_>) -> usize {
        let before = self.bytes;
        while self.bytes > 0 && room.remaining() > 0 {
            let left = &self.first[self.gone..];
            let taken = left.len().min(room.remaining());
            room.put_slice(&left[..taken]);
            self.gone += taken;
            self.bytes -= taken;
            if self.gone == self.first.len() {
                self.next();
            }
        }
        before - self.bytes
    }

    /// Lets all of it go, and says how much that was.
    pub(super) fn clear(&mut self) -> usize {
        mem::take(self).bytes
    }

    /// Goes on to the next piece. The memory of this one goes with it: tunnels live long, and are silent
    /// most of the time.
    fn next(&mut self) -> Vec<u8> {
        self.gone = 0;
        mem::replace(&mut self.first, self.behind.pop_front().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_comes_and_is_taken_the_order_stays() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut untaken, mut room) = (Untaken::default(), vec![0; 100_000]);
        let (mut came, mut taken) = (Vec::new(), Vec::new());
        for _ in 0..500 {
            let content: Vec<u8> = (0..random.usize(..40_000)).map(|_| random.u8(..)).collect();
            untaken.push(&content);
            came.extend(content);
            if random.bool() {
                let mut room = ReadBuf::new(&mut room[..random.usize(..100_000)]);
                assert_eq!(untaken.read(&mut room), room.filled().len());
                taken.extend(room.filled());
            } else if let Some(piece) = untaken.take_piece() {
                assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
                taken.extend(piece);
            }
            assert_eq!(untaken.len(), came.len() - taken.len());
        }
        taken.extend(std::iter::from_fn(|| untaken.take_piece()).flatten());
        assert!(taken == came);
        assert_eq!(untaken.len(), 0);
    }
}
