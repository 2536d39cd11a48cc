//! What is held for one client, and since when that has not moved.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::Instant;

use crate::upstream::SlowClients;

/// What a request takes up beside what is held for it: its state here and towards its backend, in
/// bytes.
pub const REQUEST_BYTES: usize = 12 * 1024;

/// Bytes that are held for a client, counted on its worker until they are not.
#[derive(Debug, Default)]
pub struct Held {
    bytes: Cell<usize>,
    since: Cell<Option<Instant>>,
    moved: Cell<u64>,
    /// What had gone by when it was last looked at.
    seen: Cell<u64>,
    slow_clients: Rc<SlowClients>,
    written_off: Cell<bool>,
}

impl Held {
    /// Nothing, among those who are slow.
    pub fn among(slow_clients: Rc<SlowClients>) -> Held {
        Held {
            bytes: Cell::default(),
            since: Cell::default(),
            moved: Cell::default(),
            seen: Cell::default(),
            slow_clients,
            written_off: Cell::default(),
        }
    }

    /// So many bytes went by.
    pub fn moved(&self, bytes: usize) {
        self.moved.set(self.moved.get() + bytes as u64);
    }

    /// So much is held.
    pub fn note(&self, bytes: usize) {
        if bytes == 0 {
            return self.set(0, None);
        }
        let stands = self.seen.replace(self.moved.get()) == self.moved.get();
        let since = self.since.get().filter(|_| stands);
        self.set(bytes, Some(since.unwrap_or_else(Instant::now)));
    }

    /// So much is held, and has not moved since then.
    pub fn set(&self, bytes: usize, since: Option<Instant>) {
        if self.written_off.get() {
            return;
        }
        let before = self.bytes.replace(bytes);
        if before != bytes {
            self.slow_clients.account(before, bytes);
        }
        self.since.set(since);
    }

    /// Since when, and how much, if something is held.
    pub fn get(&self) -> Option<(Instant, usize)> {
        let bytes = self.bytes.get();
        self.since.get().filter(|_| bytes > 0).map(|since| (since, bytes))
    }

    /// By how much the worker holds too much, in bytes.
    pub fn excess(&self) -> usize {
        self.slow_clients.excess()
    }

    /// What may be taken up for it elsewhere, in bytes.
    pub fn room(&self) -> usize {
        self.slow_clients.room()
    }

    /// Whether little is held for all of the worker's clients.
    pub fn is_little(&self) -> bool {
        self.slow_clients.holds_little()
    }

    /// It is about to be let go, and counts no more.
    pub fn write_off(&self) {
        self.set(0, None);
        self.written_off.set(true);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.slow_clients.account(self.bytes.get(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_stands_is_told_from_what_moves() {
        let held = Held::default();
        let start = Instant::now();
        let after = |seconds| start + std::time::Duration::from_secs(seconds);
        let mut seen = Vec::new();
        for (bytes, moved) in [(5, 1), (5, 0), (7, 1), (0, 1), (5, 0)] {
            held.moved(moved);
            held.note(bytes);
            seen.push(held.get());
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
        }
        let expected = [Some((start, 5)), Some((start, 5)), Some((after(2), 7)), None];
        assert_eq!(seen, [&expected[..], &[Some((after(4), 5))]].concat());
    }

    #[test]
    fn what_is_gone_is_not_counted() {
        let slow_clients = Rc::<SlowClients>::default();
        slow_clients.allow(0);
        let held = [0, 1].map(|_| Held::among(Rc::clone(&slow_clients)));
        held.iter().for_each(|held| held.note(4));
        held[0].write_off();
        held[0].note(4);
        assert_eq!(slow_clients.excess(), 4);
        drop(held);
        assert_eq!(slow_clients.excess(), 0);
    }
}
