//! What messages have in common on the wire, whichever way they go.
//!
//! Over HTTP/1.1, requests and responses differ in their first line and in what decides where they
//! end; lines, fields, lengths and chunks are the same (RFC 9112 sections 2, 5, 6 and 7.1). Both sides
//! judge every byte, `proxy::framing` those of clients and `upstream::framing` those of backends, and
//! one grammar for both is what keeps them from disagreeing. Of HTTP/2 both sides follow the frames.

pub(crate) mod bytes;
pub(crate) mod chunked;
pub(crate) mod field;
pub(crate) mod fields;
pub(crate) mod frames;
pub(crate) mod hpack;
pub(crate) mod inbox;
pub(crate) mod known;
pub(crate) mod length;
pub(crate) mod line;
#[cfg(test)]
pub(crate) mod mutations;
pub(crate) mod plain;
pub(crate) mod read_size;
pub(crate) mod section;
mod violation;

pub use self::fields::Span;
pub use self::violation::Violation;

/// How much a peer may send in one head, or in one set of trailers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first line's first byte to the empty line's LF.
    pub max_header_bytes: u32,
    /// Field lines.
    pub max_headers: u16,
}
