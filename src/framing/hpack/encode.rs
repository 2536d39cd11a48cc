//! Writing header blocks.
//!
//! Nothing is put into the dynamic table, so that none is kept for any connection, and nothing is
//! compressed: names and statuses that the static table has are one byte, and the rest is copied.

use http::{HeaderName, HeaderValue, StatusCode};

use super::table::static_index;

/// Tells that the dynamic table is not used, however large it may be (RFC 7541 section 6.3): with
/// this at the start of the first block, no later change of the peer's limit has to be told.
pub(crate) fn no_table(out: &mut Vec<u8>) {
    out.push(0x20);
}

/// Writes `:status`.
pub(crate) fn status(out: &mut Vec<u8>, status: StatusCode) {
    let index = match status.as_u16() {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            integer(out, 0, 0x0f, 8);
            return string(out, status.as_str().as_bytes());
        }
    };
    out.push(0x80 | index);
}

/// Writes a field.
pub(crate) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    // What is secret, no proxy behind us is to put into a table either (RFC 7541 section 7.1.3).
    let kind = if value.is_sensitive() { 0x10 } else { 0 };
    match static_index(name.as_str()) {
        Some(index) => integer(out, kind, 0x0f, index),
        None => {
            out.push(kind);
            string(out, name.as_str().as_bytes());
        }
    }
    string(out, value.as_bytes());
}

/// Writes a field of which the name is at this index of the static table.
pub(crate) fn indexed_name(out: &mut Vec<u8>, index: usize, value: &[u8]) {
    integer(out, 0, 0x0f, index);
    string(out, value);
}

/// `date` and `content-length` in the static table.
pub(crate) const DATE: usize = 33;
pub(crate) const CONTENT_LENGTH: usize = 28;

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    integer(out, 0, 0x7f, bytes.len());
    out.extend_from_slice(bytes);
}

/// RFC 7541 section 5.1.
fn integer(out: &mut Vec<u8>, kind: u8, mask: u8, value: usize) {
    let Some(mut rest) = value.checked_sub(usize::from(mask)) else {
        return out.push(kind | value as u8);
    };
    out.push(kind | mask);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
