//! What one exchange leaves for the next: emptied heads and maps of fields, and room for reads and
//! writes.
//!
//! Every request brings a map and every answer needs one. The map of an answer is kept for the next
//! request, so that neither is allocated while requests follow one another.
//!
//! Most heads and answers are read, and written, within one turn of their task. So all connections of
//! a worker do that in the same room, one after another: what they last used is still in the
//! processor's cache, where a room of each connection's own would have left it. So it is with heads:
//! an allocator hands its places out in turn, and each has left the cache when it comes by again.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::BytesMut;
use http::HeaderMap;

use super::{ResponseHead, SlowClients};

/// More than a worker has requests between head and head of an answer, most of the time.
const MAX_MAPS: usize = 64;
/// Larger ones are rare, and would stay large.
const MAX_FIELDS: usize = 64;
/// The largest room for writes that is kept.
const MAX_OUT_BYTES: usize = 16 * 1024;

/// What the connections of one worker have to spare and to share.
#[derive(Debug, Default)]
pub struct Spare {
    maps: RefCell<Vec<HeaderMap>>,
    head: RefCell<Option<Box<ResponseHead>>>,
    room: RefCell<BytesMut>,
    out: RefCell<Vec<u8>>,
    /// Clients that take nothing.
    pub slow_clients: Rc<SlowClients>,
}

impl Spare {
    /// An empty map.
    pub fn take(&self) -> HeaderMap {
        self.maps.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a map that is of no further use to anybody. Most have never held anything, and stay where
    /// they are.
    pub fn keep(&self, map: &mut HeaderMap) {
        if !(1..=MAX_FIELDS).contains(&map.capacity()) {
            return;
        }
        let mut maps = self.maps.borrow_mut();
        if maps.len() < MAX_MAPS {
            map.clear();
            maps.push(std::mem::take(map));
        }
    }

    /// An empty head.
    pub fn take_head(&self) -> Box<ResponseHead> {
        self.head.take().unwrap_or_default()
    }

    /// Keeps a head that has been passed on, and the map in it.
    pub fn keep_head(&self, mut head: Box<ResponseHead>) {
        self.keep(&mut head.headers);
        *head = ResponseHead::default();
        self.head.replace(Some(head));
    }

    /// Room for reads, or what is left of it: nothing, if somebody else has it.
    pub fn take_room(&self) -> BytesMut {
        self.room.take()
    }

    /// Keeps room for reads in which nothing is left.
    pub fn keep_room(&self, room: BytesMut) {
        self.room.replace(room);
    }

    /// Empty room for writes.
    pub fn take_out(&self) -> Vec<u8> {
        self.out.take()
    }

    /// Keeps room for writes of which everything has been written.
    pub fn keep_out(&self, mut out: Vec<u8>) {
        if (1..=MAX_OUT_BYTES).contains(&out.capacity()) {
            out.clear();
            self.out.replace(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::ACCEPT;

    use super::*;

    #[test]
    fn a_kept_map_comes_back_empty() {
        let spare = Spare::default();
        let mut map = HeaderMap::with_capacity(20);
        map.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let room = map.capacity();
        spare.keep(&mut map);
        let map = spare.take();
        assert_eq!((map.len(), map.capacity()), (0, room));
    }

    #[test]
    fn a_kept_head_comes_back_empty() {
        let spare = Spare::default();
        let answer = http::Response::builder().status(404).header(ACCEPT, "*/*").body(()).unwrap();
        let (mut head, ()) = ResponseHead::of(answer);
        head.reason = Some(hyper::ext::ReasonPhrase::from_static(b"Gone"));
        spare.keep_head(head);
        let head = spare.take_head();
        assert_eq!((head.status.as_u16(), head.reason, head.headers.len()), (200, None, 0));
    }

    #[test]
    fn large_maps_are_not_kept() {
        let spare = Spare::default();
        spare.keep(&mut HeaderMap::with_capacity(MAX_FIELDS * 2));
        assert_eq!(spare.take().capacity(), 0);
    }

    #[test]
    fn room_for_writes_comes_back_empty_unless_it_is_large() {
        let spare = Spare::default();
        spare.keep_out(b"written".to_vec());
        spare.keep_out(Vec::with_capacity(2 * MAX_OUT_BYTES));
        let out = spare.take_out();
        assert_eq!((out.len(), out.capacity()), (0, 7));
    }

    #[test]
    fn few_are_kept() {
        let spare = Spare::default();
        (0..MAX_MAPS + 5).for_each(|_| spare.keep(&mut HeaderMap::with_capacity(4)));
        assert_eq!(spare.maps.borrow().len(), MAX_MAPS);
    }
}
