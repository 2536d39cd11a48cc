//! Clients that take nothing at the moment: what was read for each is held until it does.
//!
//! One of them holds a large read at worst, a thousand of them a thousand. So the more there are, the
//! smaller are the reads, by which backends are slowed down: a worker's share is divided among them.

use std::cell::Cell;

/// What a worker's answers may hold for clients that take nothing, as long as each can have the least.
const ALL_BYTES: usize = 4 * 1024 * 1024;
/// The smallest read.
const LEAST_BYTES: usize = 4 * 1024;

/// How many of a worker's clients take nothing.
#[derive(Debug, Default)]
pub struct SlowClients(Cell<usize>);

impl SlowClients {
    /// One more takes nothing.
    pub fn come(&self) {
        self.0.set(self.0.get() + 1);
    }

    /// One of them takes something again, or is gone.
    pub fn go(&self) {
        self.0.set(self.0.get() - 1);
    }

    /// The room that the next read may have, in bytes.
    pub(super) fn room(&self) -> usize {
        (ALL_BYTES / (self.0.get() + 1)).max(LEAST_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_there_are_the_less_is_read() {
        let slow = SlowClients::default();
        let rooms = [0, 127, 511, 5000].map(|count| {
            slow.0.set(count);
            slow.room() / 1024
        });
        assert_eq!(rooms, [4096, 32, 8, 4]);
    }
}
