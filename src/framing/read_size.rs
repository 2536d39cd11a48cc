//! How much room a read gets. Large reads are cheap for each byte, and what was read is held until
//! the other side takes it: so reads grow while they are filled and the other side keeps up.

/// At first, and for whoever says little.
const LEAST_BYTES: usize = 8 * 1024;
/// Up to here reads grow as soon as one is filled...
const COMMON_BYTES: usize = 32 * 1024;
/// ... and from there when so many were, one after another: a client that takes nothing shows it
/// before the reads are large.
const FILLED: u8 = 4;
const MOST_BYTES: usize = 128 * 1024;

/// The room for the next read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadSize {
    bytes: usize,
    most: usize,
    filled: u8,
}

impl ReadSize {
    pub(crate) fn new() -> Self {
        Self::up_to(MOST_BYTES)
    }

    /// One that grows no further than this, in bytes.
    pub(crate) fn up_to(most: usize) -> Self {
        ReadSize { bytes: LEAST_BYTES, most, filled: 0 }
    }

    /// The room for the next read, in bytes.
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }

    /// Whether it is what most reads need.
    pub(crate) fn is_common(self) -> bool {
        self.bytes == LEAST_BYTES
    }

    /// Another answer begins, or its client did not keep up.
    pub(crate) fn hold_back(&mut self) {
        self.bytes = self.bytes.min(COMMON_BYTES);
        self.filled = 0;
    }

    /// The next read has no more room than this, in bytes.
    pub(crate) fn hold_to(&mut self, most: usize) {
        self.bytes = self.bytes.min(most);
    }

    /// So much came into so much room.
    pub(crate) fn note(&mut self, read: usize, room: usize) {
        if read < room {
            self.filled = 0;
            if read < self.bytes / 4 {
                self.bytes = (self.bytes / 2).max(LEAST_BYTES);
            }
            return;
        }
        self.filled += 1;
        if self.bytes < COMMON_BYTES || self.filled == FILLED {
            self.bytes = (self.bytes * 2).min(self.most);
            self.filled = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_full_reads(mut size: ReadSize, reads: usize) -> usize {
        (0..reads).for_each(|_| size.note(size.bytes(), size.bytes()));
        size.bytes() / 1024
    }

    #[test]
    fn full_reads_make_it_grow_up_to_a_bound() {
        let grown = [0, 1, 2, 5, 6, 9, 10, 14, 100].map(|n| after_full_reads(ReadSize::new(), n));
        assert_eq!(grown, [8, 16, 32, 32, 64, 64, 128, 128, 128]);
    }

    #[test]
    fn the_bound_may_be_lower() {
        assert_eq!(after_full_reads(ReadSize::up_to(32 * 1024), 100), 32);
    }

    #[test]
    fn a_client_that_does_not_keep_up_makes_it_small_again() {
        let mut size = ReadSize { bytes: MOST_BYTES, most: MOST_BYTES, filled: 3 };
        size.hold_back();
        assert_eq!(after_full_reads(size, 3), 32);
    }

    #[test]
    fn small_answers_make_it_shrink() {
        let mut size = ReadSize { bytes: COMMON_BYTES, most: MOST_BYTES, filled: 0 };
        for wanted in [16, 8, 8] {
            size.note(1000, COMMON_BYTES);
            assert_eq!(size.bytes() / 1024, wanted);
        }
    }
}
