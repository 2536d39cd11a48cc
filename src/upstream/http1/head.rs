//! Heads on an HTTP/1.1 connection: requests to bytes, and bytes that the scanner has passed to
//! responses. Pure.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;
use smallvec::SmallVec;

use crate::framing::bytes::trim;
use crate::upstream::framing::Span;
use crate::upstream::request::{Framing, RequestHead};

/// What a status line says, and the fields behind it.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    /// The backend's own words for it, where they are not the common ones.
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) headers: HeaderMap,
}

/// Behind `HTTP/1.1 200`.
const AT_REASON: usize = 12;

/// Room for a head of common size.
const COMMON_BYTES: usize = 1024;

/// Writes a request's head to the end of some bytes.
pub(super) fn encode(head: &RequestHead, framing: Framing, out: &mut Vec<u8>) {
    out.reserve(COMMON_BYTES);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    if head.target.as_str().starts_with('?') {
        // RFC 9112 section 3.2.1: an empty path is sent as a slash.
        out.push(b'/');
    }
    out.extend_from_slice(head.target.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    line(out, &[head.host.as_bytes()]);
    for (name, value) in &head.headers {
        // Without a body, what the client announced can only be a zero.
        let ours = match *name {
            HOST | TRANSFER_ENCODING => true,
            CONTENT_LENGTH => framing != Framing::None,
            // Here it would need a Connection option, and trailers come unasked.
            TE => true,
            _ => false,
        };
        if !ours {
            field(out, name, value);
        }
    }
    for (name, value) in head.added() {
        field(out, name, value);
    }
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            let mut digits = itoa::Buffer::new();
            line(out, &[b"content-length: ", digits.format(length).as_bytes()]);
        }
        Framing::Chunked => line(out, &[b"transfer-encoding: chunked"]),
    }
    out.extend_from_slice(b"\r\n");
}

/// The line in front of a chunk of so many bytes.
pub(super) fn chunk_size(out: &mut Vec<u8>, bytes: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(bytes >> (digit * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The trailers that a head announces (RFC 9110 section 6.6.2).
pub(super) fn announced(headers: &HeaderMap) -> SmallVec<[HeaderName; 1]> {
    let lines = headers.get_all(TRAILER).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(trim(name)).ok()).collect()
}

/// The last chunk, with those of the trailers that were announced: others surprise backends.
pub(super) fn last_chunk(
    out: &mut Vec<u8>,
    trailers: Option<&HeaderMap>,
    announced: &[HeaderName],
) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if announced.contains(name) {
            field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    line(out, &[name.as_str().as_bytes(), b": ", value.as_bytes()]);
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// Reads a response head that the scanner has passed, with its fields where it found them; they go
/// into a map that is `empty`. `None` if it is no head after all.
pub(super) fn parse(head: &Bytes, spans: &[Span], empty: HeaderMap) -> Option<ResponseHead> {
    let status = StatusCode::from_bytes(head.get(9..AT_REASON)?).ok()?;
    let first_field = spans.first().map_or(head.len() - 2, |span| span.start as usize);
    let reason = reason(status, head.get(AT_REASON..first_field - 2)?);
    Some(ResponseHead { status, reason, headers: fields(head, spans, empty)? })
}

/// What stands behind the status, if it is not what we would say ourselves (RFC 9112 section 4).
fn reason(status: StatusCode, text: &[u8]) -> Option<ReasonPhrase> {
    let text = trim(text);
    let common = status.canonical_reason();
    if common.is_some_and(|common| text.is_empty() || text == common.as_bytes()) {
        return None;
    }
    // A copy, since a slice would hold the whole head.
    ReasonPhrase::try_from(text.to_vec()).ok()
}

/// Reads the fields that the scanner has found in a head, or in trailers, into a map.
pub(super) fn fields(lines: &Bytes, spans: &[Span], mut headers: HeaderMap) -> Option<HeaderMap> {
    headers.reserve(spans.len());
    for span in spans {
        let [start, colon, end] = [span.start, span.colon, span.end].map(|at| at as usize);
        let name = HeaderName::from_bytes(lines.get(start..colon)?).ok()?;
        let value = trim(lines.get(colon + 1..end)?);
        headers.append(name, HeaderValue::from_maybe_shared(lines.slice_ref(value)).ok()?);
    }
    Some(headers)
}
