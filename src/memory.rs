//! What the allocator is asked for beside memory.

/// An allocation that the allocator makes a page of its own for.
const OWN_PAGE_BYTES: usize = 1024 * 1024;

/// Makes the allocator look for memory that the system can have back. mimalloc does that when it
/// takes or frees a page of its own and at no other time, so an idle process would keep what its
/// busiest moment needed. This takes one and frees it, without touching it.
///
/// What was freed, by whatever thread, is given back a second later, and by whoever looks first after
/// that: a hundred megabytes take milliseconds.
pub fn give_back() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(OWN_PAGE_BYTES)));
}
