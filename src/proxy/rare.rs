//! What is large and rarely needed, out of the way.

use std::pin::Pin;

/// Makes a future on the heap, outside of the function that awaits it. There it would be made on the
/// stack first, and every poll, whether it comes that far or not, would have to have room for it.
#[inline(never)]
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}
