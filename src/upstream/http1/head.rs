//! Heads on an HTTP/1.1 connection: requests to bytes, and bytes that the scanner has passed to
//! responses. Pure.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;
use memchr::memchr;
use smallvec::SmallVec;

use crate::framing::bytes::trim;
use crate::upstream::request::{Framing, RequestHead};

/// What a status line says, and the fields behind it.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    /// The backend's own words for it, where they are not the common ones.
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) headers: HeaderMap,
    /// Whether the backend keeps the connection open (RFC 9112 section 9.3).
    pub(super) keeps_open: bool,
}

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

/// Reads a response head that the scanner has passed, up to the empty line behind it. `None` if it
/// is none after all. Its fields go into a map that is `empty`.
pub(super) fn parse(head: Bytes, empty: HeaderMap) -> Option<ResponseHead> {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', status @ ..] = &head[..] else {
        return None;
    };
    let http10 = *minor == b'0';
    let status = StatusCode::from_bytes(status.get(..3)?).ok()?;
    let first_field = memchr(b'\n', &head)? + 1;
    let reason = reason(status, &head, first_field);
    let headers = fields(&head.slice(first_field..), empty)?;
    let options = |wanted: &[u8]| {
        let lines = headers.get_all(CONNECTION).iter();
        let mut options = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
        options.any(|option| trim(option).eq_ignore_ascii_case(wanted))
    };
    let keeps_open = if http10 { options(b"keep-alive") } else { !options(b"close") };
    Some(ResponseHead { status, reason, headers, keeps_open })
}

/// What stands behind the status, if it is not what we would say ourselves (RFC 9112 section 4).
fn reason(status: StatusCode, head: &Bytes, line_end: usize) -> Option<ReasonPhrase> {
    const BEFORE: usize = b"HTTP/1.1 200".len();
    let text = trim(head.get(BEFORE..line_end - 2)?);
    let common = status.canonical_reason();
    if common.is_some_and(|common| text.is_empty() || text == common.as_bytes()) {
        return None;
    }
    // A copy, since a slice would hold the whole head.
    ReasonPhrase::try_from(text.to_vec()).ok()
}

/// Reads field lines that the scanner has passed, up to the empty line behind them, into a map.
pub(super) fn fields(lines: &Bytes, mut headers: HeaderMap) -> Option<HeaderMap> {
    let mut at = 0;
    while lines.get(at).is_some_and(|&byte| byte != b'\r') {
        let colon = at + memchr(b':', &lines[at..])?;
        let end = colon + memchr(b'\n', &lines[colon..])?;
        let name = HeaderName::from_bytes(&lines[at..colon]).ok()?;
        // The line ends in CRLF.
        let value = trim(&lines[colon + 1..end - 1]);
        let value = HeaderValue::from_maybe_shared(lines.slice_ref(value)).ok()?;
        headers.append(name, value);
        at = end + 1;
    }
    Some(headers)
}
