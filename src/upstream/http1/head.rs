//! Heads on an HTTP/1.1 connection: requests to bytes, and bytes that the scanner has passed to
//! responses. Pure.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING};
use hyper::ext::ReasonPhrase;

use crate::framing::Span;
use crate::framing::bytes::trim;
use crate::framing::fields::{self, field, line};
use crate::framing::plain::{PlainLines, Sieve, sift};
use crate::upstream::ResponseHead;
use crate::upstream::request::{Framing, RequestHead};
use crate::upstream::spare::Spare;

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
    // First: what we add to a list of theirs comes behind it.
    head.plain.write(out);
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
    out.extend_from_slice(head.of_connection.lines());
    for (name, value) in &head.added {
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

/// Reads a response head that the scanner has passed, with its fields where it found them; they go
/// into a map, as far as the `sieve` does not leave them as they are. `None` if it is no head after
/// all.
pub(super) fn parse(
    head: Bytes,
    spans: &[Span],
    spare: &Spare,
    sieve: Option<Sieve>,
    length_is_known: bool,
) -> Option<Box<ResponseHead>> {
    let status = StatusCode::from_bytes(head.get(9..AT_REASON)?).ok()?;
    let first_field = spans.first().map_or(head.len() - 2, |span| span.start as usize);
    let reason = reason(status, head.get(AT_REASON..first_field - 2)?);
    let empty = || spare.take();
    let (headers, plain) = match sieve {
        Some(sieve) => {
            sift(&head, spans, empty, |name, value| sieve(name, value, length_is_known))?
        }
        None => (Some(fields::read(&head, spans, empty())?), PlainLines::default()),
    };
    let mut read = spare.take_head();
    (read.status, read.reason, read.plain) = (status, reason, plain.of(head));
    if let Some(headers) = headers {
        read.headers = headers;
    }
    Some(read)
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use http::HeaderMap;
    use http::uri::PathAndQuery;
    use http::{HeaderName, HeaderValue, Method};
    use smallvec::SmallVec;

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
            plain: PlainLines::default(),
            of_connection: Rc::default(),
            added: SmallVec::new(),
            sieve: None,
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

    fn parsed(head: &'static str) -> Box<ResponseHead> {
        let mut scanner = Scanner::new(Limits { max_header_bytes: 1024, max_headers: 20 });
        scanner.ask(Asked::Plain);
        let mut at = 0;
        while at < head.len() {
            let (passed, part) = scanner.next(&head.as_bytes()[at..]);
            assert!(matches!(part, Ok(Part::Head | Part::HeadEnd)), "{part:?}");
            at += passed;
        }
        let (head, spans) = (Bytes::from_static(head.as_bytes()), scanner.take_spans());
        parse(head, &spans, &Spare::default(), None, false).unwrap()
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
