//! Who is woken for something that happens later.

use std::task::Waker;

/// Notes a waker, if it is another than before: mostly it is not, and a copy has its price.
pub fn note(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(noted) => noted.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}
