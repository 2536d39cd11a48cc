//! What was read from a connection and is not passed on yet.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memrchr;

use super::read_size::ReadSize;

/// By so much, at least, grows what has come of something that goes on, in bytes.
const GROWTH_BYTES: usize = 1024;

/// The bytes of one connection between the socket and whoever gets them. The first of them may have
/// been judged already: they belong to a head, or to trailers, that go on.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: BytesMut,
    judged: usize,
    read_size: ReadSize,
    /// The buffer is somebody else's, who gets it back.
    lent: bool,
}

impl Inbox {
    /// With what was read by somebody else already.
    pub(crate) fn new(held: &[u8], read_size: ReadSize) -> Self {
        Inbox { buffer: BytesMut::from(held), judged: 0, read_size, lent: false }
    }

    /// All that is there.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// What nobody has judged yet.
    pub(crate) fn fresh(&self) -> &[u8] {
        &self.buffer[self.judged..]
    }

    /// The lines among them that have an end. Most often one ends all.
    pub(crate) fn whole_lines(&self) -> &[u8] {
        let fresh = self.fresh();
        match fresh.last() {
            Some(b'\n') => fresh,
            _ => &fresh[..memrchr(b'\n', fresh).map_or(0, |last| last + 1)],
        }
    }

    /// So many fresh bytes have been judged, and are in order.
    pub(crate) fn judge(&mut self, bytes: usize) {
        self.judged += bytes;
    }

    /// Takes out what has been judged, without a copy.
    pub(crate) fn take(&mut self) -> Bytes {
        self.buffer.split_to(std::mem::take(&mut self.judged)).freeze()
    }

    /// Leaves out what has been judged.
    pub(crate) fn skip(&mut self) {
        self.buffer.advance(std::mem::take(&mut self.judged));
    }

    /// Takes in what was read into room of somebody else's.
    pub(crate) fn extend(&mut self, read: &[u8]) {
        if self.room() < read.len() {
            self.buffer.reserve(read.len().next_multiple_of(GROWTH_BYTES));
        }
        self.buffer.extend_from_slice(read);
    }

    /// Whether a read needs a buffer that is not there: worth waiting until there is something to be
    /// read, so that who is silent holds none.
    pub(crate) fn is_without_buffer(&self) -> bool {
        self.buffer.is_empty() && self.room() < self.wanted()
    }

    /// The buffer for the next read, to be followed by [`Self::note_read`].
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        if self.room() < self.wanted() {
            self.buffer.reserve(self.read_size.bytes());
            self.lent &= self.read_size.is_common();
        }
        &mut self.buffer
    }

    /// Lends it a buffer, in place of one that has no room left. Who reads more than most, or may not
    /// even read that, is to have one of its own, and is lent none.
    pub(crate) fn lend(&mut self, buffer: impl FnOnce() -> BytesMut) -> bool {
        let lends = self.read_size.is_common();
        if lends {
            self.buffer = buffer();
            self.lent = true;
        }
        lends
    }

    /// Gives back what it was lent, if nothing is left in it.
    pub(crate) fn give_back(&mut self) -> Option<BytesMut> {
        let whole = self.buffer.is_empty() && std::mem::take(&mut self.lent);
        whole.then(|| std::mem::take(&mut self.buffer))
    }

    /// So many bytes have come into the buffer: the next read may be larger or smaller.
    pub(crate) fn note_read(&mut self, bytes: usize) {
        self.read_size.note(bytes, bytes + self.room());
    }

    /// Whoever gets the bytes does not keep up, or is another one than before.
    pub(crate) fn hold_back(&mut self) {
        self.read_size.hold_back();
    }

    /// The next read may have no more room than this, in bytes.
    pub(crate) fn hold_to(&mut self, most: usize) {
        self.read_size.hold_to(most);
    }

    /// Gives back the room for reads.
    pub(crate) fn shrink(&mut self) {
        self.buffer = BytesMut::from(&self.buffer[..]);
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.buffer = BytesMut::new();
        self.judged = 0;
    }

    /// A read is made into what is left of a buffer as long as that is not too little.
    fn wanted(&self) -> usize {
        self.read_size.bytes() / 2
    }

    fn room(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(bytes: &[u8]) -> Inbox {
        Inbox::new(bytes, ReadSize::new())
    }

    #[test]
    fn what_was_judged_is_taken_and_the_rest_stays_fresh() {
        let mut inbox = holding(b"head body");
        inbox.judge(2);
        inbox.judge(3);
        assert_eq!(inbox.fresh(), b"body");
        assert_eq!(inbox.take(), b"head "[..]);
        assert_eq!((inbox.bytes(), inbox.fresh()), (&b"body"[..], &b"body"[..]));
    }

    #[test]
    fn what_was_judged_can_be_left_out() {
        let mut inbox = holding(b"\r\nGET");
        inbox.judge(2);
        inbox.skip();
        assert_eq!(inbox.fresh(), b"GET");
    }

    #[test]
    fn shrinking_keeps_what_is_there_and_how_far_it_was_judged() {
        let mut inbox = holding(b"GET / HTTP/1.1\r\nHo");
        inbox.buffer();
        inbox.judge(16);
        inbox.shrink();
        assert_eq!((inbox.fresh(), inbox.room()), (&b"Ho"[..], 0));
    }

    #[test]
    fn little_that_drips_in_takes_little_room() {
        let mut inbox = holding(b"");
        inbox.extend(b"G");
        assert!(inbox.buffer.capacity() <= GROWTH_BYTES, "{}", inbox.buffer.capacity());
    }

    #[test]
    fn a_buffer_is_wanted_only_while_there_is_none() {
        let mut inbox = holding(b"");
        assert!(inbox.is_without_buffer());
        inbox.buffer().extend_from_slice(b"x");
        assert!(!inbox.is_without_buffer());
    }

    #[test]
    fn a_lent_buffer_is_given_back_unless_it_had_to_grow() {
        let mut inbox = holding(b"");
        let lend = |inbox: &mut Inbox| inbox.lend(|| BytesMut::with_capacity(8 * 1024));
        lend(&mut inbox);
        inbox.buffer().extend_from_slice(b"head");
        assert!(inbox.give_back().is_none(), "something is left in it");
        lend(&mut inbox);
        assert!(inbox.give_back().is_some());
        lend(&mut inbox);
        let room = inbox.buffer().capacity();
        inbox.buffer().resize(room, 0);
        inbox.note_read(room);
        inbox.judge(room);
        drop(inbox.take());
        inbox.buffer();
        assert!(inbox.give_back().is_none());
    }

    #[test]
    fn filled_reads_make_the_next_one_larger() {
        let mut inbox = holding(b"");
        let mut filled = || {
            let buffer = inbox.buffer();
            let room = buffer.capacity() - buffer.len();
            buffer.resize(buffer.capacity(), 0);
            inbox.note_read(room);
            inbox.judge(room);
            drop(inbox.take());
            room
        };
        let (first, second) = (filled(), filled());
        assert!(second >= 2 * first, "{first}, then {second}");
    }
}
