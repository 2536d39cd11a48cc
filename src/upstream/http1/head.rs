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

#[cfg(test)]
mod tests {
    use http::Method;
    use http::uri::PathAndQuery;

    use super::*;
    use crate::framing::Limits;
    use crate::upstream::framing::{Asked, Part, Scanner};

    fn request(method: Method, target: &'static str, fields: &[(&str, &str)]) -> RequestHead {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        RequestHead {
            method,
            target: PathAndQuery::from_static(target),
            host: HeaderValue::from_static("a.example"),
            headers,
            of_connection: [].into(),
            added: SmallVec::new(),
        }
    }

    fn encoded(head: &RequestHead, framing: Framing) -> String {
        let mut out = Vec::new();
        encode(head, framing, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_without_a_body() {
        let mut head = request(Method::GET, "/a?b", &[("accept", "*/*"), ("host", "other")]);
        head.added.push((HeaderName::from_static("x-id"), HeaderValue::from_static("7")));
        assert_eq!(
            encoded(&head, Framing::None),
            "GET /a?b HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\nx-id: 7\r\n\r\n"
        );
    }

    #[test]
    fn an_empty_path_is_a_slash() {
        let head = request(Method::GET, "?b", &[]);
        assert!(encoded(&head, Framing::None).starts_with("GET /?b HTTP/1.1\r\n"));
    }

    #[test]
    fn bodies_are_framed_anew() {
        let head = request(Method::POST, "/", &[("content-length", "9"), ("te", "trailers")]);
        let table = [
            (Framing::None, "content-length: 9\r\n\r\n"),
            (Framing::Length(5), "content-length: 5\r\n\r\n"),
            (Framing::Chunked, "transfer-encoding: chunked\r\n\r\n"),
        ];
        for (framing, end) in table {
            let start = "POST / HTTP/1.1\r\nhost: a.example\r\n";
            assert_eq!(encoded(&head, framing), format!("{start}{end}"), "{framing:?}");
        }
    }

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for (bytes, line) in [(1, "1\r\n"), (16, "10\r\n"), (0xab_cdef, "abcdef\r\n")] {
            let mut out = Vec::new();
            chunk_size(&mut out, bytes);
            assert_eq!(out, line.as_bytes());
        }
    }

    #[test]
    fn only_announced_trailers_go_out() {
        let head = request(Method::POST, "/", &[("trailer", "X-Sum, x-other")]);
        let sent = request(Method::POST, "/", &[("x-sum", "1"), ("x-secret", "2")]).headers;
        let mut out = Vec::new();
        last_chunk(&mut out, Some(&sent), &announced(&head.headers));
        assert_eq!(out, b"0\r\nx-sum: 1\r\n\r\n");
    }

    fn parsed(head: &'static str) -> ResponseHead {
        let mut scanner = Scanner::new(Limits { max_header_bytes: 1024, max_headers: 20 });
        scanner.ask(Asked::Plain);
        let mut at = 0;
        while at < head.len() {
            let (passed, part) = scanner.next(&head.as_bytes()[at..]);
            assert!(matches!(part, Ok(Part::Head | Part::HeadEnd)), "{part:?}");
            at += passed;
        }
        parse(&Bytes::from_static(head.as_bytes()), &scanner.take_spans(), HeaderMap::new())
            .unwrap()
    }

    #[test]
    fn fields_are_read_where_the_scanner_found_them() {
        let head = parsed("HTTP/1.1 404 Not Found\r\nX-One:  1 \r\nx-two:\r\nX-ONE: 3\r\n\r\n");
        assert_eq!(head.status, 404);
        let values = |name| -> Vec<_> { head.headers.get_all(name).iter().collect() };
        assert_eq!(values("x-one"), ["1", "3"]);
        assert_eq!(values("x-two"), [""]);
    }

    #[test]
    fn a_reason_is_kept_if_it_is_not_the_common_one() {
        for (head, reason) in [
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("HTTP/1.1 200\r\nx: y\r\n\r\n", None),
            ("HTTP/1.1 200 Fine\r\nx: y\r\n\r\n", Some(&b"Fine"[..])),
            ("HTTP/1.0 299 \r\n\r\n", Some(&b""[..])),
        ] {
            let found = parsed(head).reason;
            assert_eq!(found.as_ref().map(ReasonPhrase::as_bytes), reason, "{head}");
        }
    }
}
