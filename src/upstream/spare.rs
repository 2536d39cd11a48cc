//! Emptied maps of fields, kept for the next answer.
//!
//! Every request brings a map and every answer needs one. The map of an answer is kept for the next
//! request, so that neither is allocated while requests follow one another.

use std::cell::RefCell;
use std::rc::Rc;

use http::HeaderMap;

use super::SlowClients;

/// More than a worker has requests between head and head of an answer, most of the time.
const MAX_MAPS: usize = 64;
/// Larger ones are rare, and would stay large.
const MAX_FIELDS: usize = 64;

/// The spare maps of one worker, and what else its connections have to share.
#[derive(Debug, Default)]
pub struct SpareMaps {
    maps: RefCell<Vec<HeaderMap>>,
    /// Clients that take nothing.
    pub slow_clients: Rc<SlowClients>,
}

impl SpareMaps {
    /// An empty map.
    pub fn take(&self) -> HeaderMap {
        self.maps.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a map that is of no further use to anybody.
    pub fn keep(&self, mut map: HeaderMap) {
        let mut maps = self.maps.borrow_mut();
        if maps.len() < MAX_MAPS && (1..=MAX_FIELDS).contains(&map.capacity()) {
            map.clear();
            maps.push(map);
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
        let spare = SpareMaps::default();
        let mut map = HeaderMap::with_capacity(20);
        map.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let room = map.capacity();
        spare.keep(map);
        let map = spare.take();
        assert_eq!((map.len(), map.capacity()), (0, room));
    }

    #[test]
    fn large_maps_are_not_kept() {
        let spare = SpareMaps::default();
        spare.keep(HeaderMap::with_capacity(MAX_FIELDS * 2));
        assert_eq!(spare.take().capacity(), 0);
    }

    #[test]
    fn few_are_kept() {
        let spare = SpareMaps::default();
        (0..MAX_MAPS + 5).for_each(|_| spare.keep(HeaderMap::with_capacity(4)));
        assert_eq!(spare.maps.borrow().len(), MAX_MAPS);
    }
}
