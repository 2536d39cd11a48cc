//! Clients that take nothing at the moment: what was read for each is held until it does.
//!
//! One of them holds a large read at worst, a thousand of them a thousand. So the more there are, the
//! smaller are the reads, by which backends are slowed down: a part of what a worker may hold is
//! divided among them. And what is held in all is counted, so that those who take nothing can be let go
//! when it is too much.

use std::cell::Cell;

/// What a worker may hold for clients, if nothing else is said.
pub const COMMON_SHARE_BYTES: usize = 20 * 1024 * 1024;
/// The part of it, as a divisor, that is divided for reads, as long as each can have the least.
const FOR_READS: usize = 6;
/// The smallest read.
const LEAST_BYTES: usize = 4 * 1024;

/// How many of a worker's clients take nothing, and what is held for them.
#[derive(Debug)]
pub struct SlowClients {
    count: Cell<usize>,
    held: Cell<usize>,
    share: Cell<usize>,
}

impl Default for SlowClients {
    fn default() -> Self {
        SlowClients {
            count: Cell::new(0),
            held: Cell::new(0),
            share: Cell::new(COMMON_SHARE_BYTES),
        }
    }
}

impl SlowClients {
    /// One more takes nothing.
    pub fn come(&self) {
        self.count.set(self.count.get() + 1);
    }

    /// One of them takes something again, or is gone.
    pub fn go(&self) {
        self.count.set(self.count.get() - 1);
    }

    /// So much may be held, in bytes.
    pub fn allow(&self, share: usize) {
        self.share.set(share);
    }

    /// So much less is held than before, and so much more.
    pub fn account(&self, gone: usize, come: usize) {
        self.held.set(self.held.get() - gone + come);
    }

    /// By how much too much is held, and a little more, so that it is not too much again at once; 0 if
    /// it is not, in bytes.
    pub fn excess(&self) -> usize {
        let (held, share) = (self.held.get(), self.share.get());
        if held <= share { 0 } else { held - share + share / 16 }
    }

    /// Whether less than half of what may be held is.
    pub fn holds_little(&self) -> bool {
        self.held.get() < self.share.get() / 2
    }

    /// The room that the next read may have, or what one client's answer may take up elsewhere, in
    /// bytes.
    pub fn room(&self) -> usize {
        let share = self.share.get();
        let left = share.saturating_sub(self.held.get()) / FOR_READS;
        (share / FOR_READS / (self.count.get() + 1)).min(left).max(LEAST_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_there_are_the_less_is_read() {
        let slow = SlowClients::default();
        slow.allow(24 * 1024 * 1024);
        let rooms = [0, 127, 511, 5000].map(|count| {
            slow.count.set(count);
            slow.room() / 1024
        });
        assert_eq!(rooms, [4096, 32, 8, 4]);
    }

    #[test]
    fn too_much_is_what_is_over_the_share() {
        let slow = SlowClients::default();
        slow.allow(1600);
        slow.account(0, 1000);
        slow.account(300, 900);
        assert_eq!((slow.excess(), slow.room()), (0, LEAST_BYTES));
        slow.account(0, 1);
        assert_eq!(slow.excess(), 1 + 100);
    }
}
