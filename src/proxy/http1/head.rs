//! Heads on a client's HTTP/1.1 connection: bytes that the scanner has passed to requests, and
//! answers to bytes. Pure.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use hyper::ext::ReasonPhrase;

use crate::framing::fields::{field, line};
use crate::framing::plain::sift;
use crate::framing::{Span, Violation};
use crate::proxy::framing::Head;
use crate::proxy::headers::X_REQUEST_ID;
use crate::proxy::headers::sieve::RequestSieve;
use crate::proxy::received::Received;
use crate::upstream::ResponseHead;

/// What the client has asked, as far as its answer's form hangs on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Only for the head of the answer.
    pub(super) head_only: bool,
    pub(super) http10: bool,
    /// It takes trailers.
    pub(super) trailers: bool,
    /// It keeps the connection open.
    pub(super) keeps_open: bool,
}

/// How the end of an answer's body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// There is no body.
    None,
    /// It has so many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection: the client knows no chunks.
    UntilClose,
}

/// Room for a head of common size.
pub(super) const COMMON_BYTES: usize = 1024;

/// Reads a request head that the scanner has passed, with its parts where it found them. The fields
/// that somebody looks at go into an `empty` map, and all of it into what is empty too.
///
/// # Errors
/// A target that cannot be read: what is of no form, or longer than we can name.
pub(super) fn parse(
    bytes: Bytes,
    head: &Head,
    spans: &[Span],
    empty: impl FnOnce() -> HeaderMap,
    mut received: Box<Received>,
) -> Result<Box<Received>, Violation> {
    let (method_end, target_start) = (head.method_bytes as usize, head.method_bytes as usize + 1);
    let target = bytes.slice(target_start..target_start + head.target_bytes as usize);
    if target.len() > usize::from(u16::MAX) - 1 {
        return Err(Violation::RequestLineTooLong);
    }
    let parts = &mut received.parts;
    parts.method =
        Method::from_bytes(&bytes[..method_end]).map_err(|_| Violation::InvalidMethod)?;
    parts.uri = Uri::from_maybe_shared(target).map_err(|_| Violation::InvalidTarget)?;
    parts.version = if head.http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    let mut sieve = RequestSieve::default();
    let (known, plain) = sift(&bytes, spans, empty, |name, value| sieve.fate(name, value))
        .ok_or(Violation::InvalidName)?;
    if let Some(known) = known {
        parts.headers = known;
    }
    let host = sieve.host.map(|host| HeaderValue::from_maybe_shared(bytes.slice_ref(host)));
    let host = host.transpose().map_err(|_| Violation::InvalidHost)?;
    (received.survey, received.host) = (sieve.found, host);
    received.plain = plain.of(bytes);
    Ok(received)
}

/// Whether an answer with this status to such a request may have a body (RFC 9110 section 6.4.1).
pub(super) fn may_have_body(status: StatusCode, asked: Asked) -> bool {
    !asked.head_only && may_have_length(status)
}

/// Whether an answer with this status may tell a length (RFC 9110 section 8.6).
fn may_have_length(status: StatusCode) -> bool {
    !status.is_informational() && !matches!(status.as_u16(), 204 | 304)
}

/// Writes an answer's head to the end of some bytes. `form` is that of the body that it has, or would
/// have if it were not only for its head; `id` is the request's name, and `last` is whether the
/// connection ends behind it.
pub(super) fn encode(
    (head, id): (&ResponseHead, Option<&HeaderValue>),
    form: Form,
    asked: Asked,
    last: bool,
    date: &[u8],
    out: &mut Vec<u8>,
) {
    status_line(head, asked.http10, out);
    let body = may_have_body(head.status, asked);
    let (mut told_length, mut told_connection, mut told_upgrade) = (false, false, false);
    let mut told_date = head.plain.has_date();
    // First: what we add to a list of theirs comes behind it.
    head.plain.write(out);
    for (name, value) in &head.headers {
        match *name {
            // Where there is a body we know its length better.
            CONTENT_LENGTH if form == Form::None && asked.head_only => told_length = true,
            CONTENT_LENGTH if matches!(form, Form::Length(_)) && !told_length => told_length = true,
            CONTENT_LENGTH | TRANSFER_ENCODING => continue,
            TRAILER if asked.http10 || !body => continue,
            // RFC 9110 section 7.8: HTTP/1.0 knows no other protocols.
            UPGRADE if asked.http10 => continue,
            UPGRADE => told_upgrade = head.status != StatusCode::SWITCHING_PROTOCOLS,
            CONNECTION => told_connection = true,
            DATE => told_date = true,
            _ => {}
        }
        field(out, name, value);
    }
    if let Some(id) = id {
        field(out, &X_REQUEST_ID, id);
    }
    match form {
        _ if told_length => {}
        Form::Length(length) if may_have_length(head.status) => {
            let mut digits = itoa::Buffer::new();
            line(out, &[b"content-length: ", digits.format(length).as_bytes()]);
        }
        Form::None if body => line(out, &[b"content-length: 0"]),
        Form::Chunked if body => line(out, &[b"transfer-encoding: chunked"]),
        _ => {}
    }
    if !told_date {
        line(out, &[b"date: ", date]);
    }
    if told_upgrade {
        // With an answer that does not switch, this is about that field, and not about the connection.
        line(out, &[b"connection: upgrade"]);
    }
    match (told_connection, last, asked.http10) {
        (false, true, false) => line(out, &[b"connection: close"]),
        // RFC 9112 appendix C.2.2.
        (false, false, true) => line(out, &[b"connection: keep-alive"]),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line(head: &ResponseHead, http10: bool, out: &mut Vec<u8>) {
    let reason = head.reason.as_ref();
    if head.status == StatusCode::OK && !http10 && reason.is_none() {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(if http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    let common = head.status.canonical_reason().unwrap_or_default().as_bytes();
    let reason = reason.map_or(common, ReasonPhrase::as_bytes);
    // The space belongs there also where no reason follows (RFC 9112 section 4).
    line(out, &[head.status.as_str().as_bytes(), b" ", reason]);
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Response};

    use super::*;
    use crate::framing::Limits;
    use crate::proxy::framing::{Part, Scanner};

    const PLAIN: Asked =
        Asked { head_only: false, http10: false, trailers: false, keeps_open: true };

    fn parsed(text: &'static str) -> Result<Box<Received>, Violation> {
        let mut scanner = Scanner::new(Limits { max_header_bytes: 100_000, max_headers: 20 });
        let mut at = 0;
        loop {
            let (passed, part) = scanner.next(&text.as_bytes()[at..]);
            at += passed;
            if part? == Part::HeadEnd {
                break;
            }
        }
        let bytes = Bytes::from_static(text.as_bytes());
        parse(bytes, scanner.head(), scanner.spans(), HeaderMap::new, Box::default())
    }

    #[test]
    fn a_request_is_read_where_the_scanner_found_its_parts() {
        let request = parsed("BREW /a?b=c HTTP/1.1\r\nHost: a\r\nX-One:  1 \r\nx-one: 2\r\n\r\n");
        let received = request.unwrap();
        let request = &received.parts;
        assert_eq!(request.method.as_str(), "BREW");
        assert_eq!(request.uri, "/a?b=c");
        assert_eq!(request.version, Version::HTTP_11);
        assert_eq!(received.host.as_ref().unwrap(), "a");
        let name = HeaderName::from_static("x-one");
        assert_eq!(received.values(&name).collect::<Vec<_>>(), [b"1", b"2"]);
        let old = parsed("GET http://a:80/b HTTP/1.0\r\n\r\n").unwrap().parts;
        assert_eq!((old.version, old.uri.path()), (Version::HTTP_10, "/b"));
    }

    #[test]
    fn a_target_that_no_uri_can_be_is_refused() {
        assert_eq!(parsed("GET /` HTTP/1.0\r\n\r\n").unwrap_err(), Violation::InvalidTarget);
        let long = format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(70_000));
        assert_eq!(parsed(long.leak()).unwrap_err(), Violation::RequestLineTooLong);
    }

    fn encoded(
        status: u16,
        fields: &[(&'static str, &'static str)],
        form: Form,
        asked: Asked,
        last: bool,
    ) -> String {
        let (mut head, ()) = ResponseHead::of(Response::new(()));
        head.status = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            let name = HeaderName::from_static(name);
            head.headers.append(name, HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        encode((&head, None), form, asked, last, b"now", &mut out);
        String::from_utf8(out).unwrap().replace("\r\n", "|")
    }

    #[test]
    fn an_answer_tells_how_its_body_ends() {
        let head = Asked { head_only: true, ..PLAIN };
        let length = ("content-length", "3");
        let table: [(u16, &[_], Form, Asked, &str); 12] = [
            (200, &[], Form::Length(3), PLAIN, "content-length: 3|"),
            (200, &[length], Form::Length(3), PLAIN, "content-length: 3|"),
            (200, &[], Form::None, PLAIN, "content-length: 0|"),
            (200, &[length], Form::None, PLAIN, "content-length: 0|"),
            (200, &[length], Form::Chunked, PLAIN, "transfer-encoding: chunked|"),
            (200, &[], Form::Chunked, PLAIN, "transfer-encoding: chunked|"),
            (200, &[("trailer", "x")], Form::Length(1), head, "content-length: 1|"),
            (200, &[length], Form::None, head, "content-length: 3|"),
            (200, &[], Form::None, head, ""),
            (204, &[], Form::None, PLAIN, ""),
            (304, &[length], Form::None, PLAIN, ""),
            (304, &[], Form::Length(3), PLAIN, ""),
        ];
        for (status, fields, form, asked, wanted) in table {
            let text = encoded(status, fields, form, asked, false);
            let (start, rest) = text.split_once('|').unwrap();
            assert!(start.starts_with(&format!("HTTP/1.1 {status} ")));
            assert_eq!(rest, format!("{wanted}date: now||"), "{status} {fields:?} {form:?}");
        }
    }

    #[test]
    fn an_answer_that_names_other_protocols_says_so_of_the_connection() {
        let (upgrade, close) = (("upgrade", "a"), ("connection", "close"));
        let old = Asked { http10: true, ..PLAIN };
        let table: [(&[_], Asked, bool, &str); 4] = [
            (&[upgrade], PLAIN, false, "upgrade: a|date: now|connection: upgrade||"),
            (
                &[upgrade],
                PLAIN,
                true,
                "upgrade: a|date: now|connection: upgrade|connection: close||",
            ),
            (
                &[upgrade, close],
                PLAIN,
                true,
                "upgrade: a|connection: close|date: now|connection: upgrade||",
            ),
            (&[upgrade], old, true, "date: now||"),
        ];
        for (fields, asked, last, wanted) in table {
            let text = encoded(426, fields, Form::Length(0), asked, last);
            let (_, rest) = text.split_once('|').unwrap();
            assert_eq!(rest.replace("content-length: 0|", ""), wanted);
        }
        let switch = [("connection", "upgrade"), upgrade];
        let text = encoded(101, &switch, Form::None, PLAIN, false);
        assert!(text.ends_with("|connection: upgrade|upgrade: a|date: now||"), "{text}");
    }

    #[test]
    fn an_answer_tells_whether_the_connection_goes_on() {
        let old = Asked { http10: true, ..PLAIN };
        let close = ("connection", "close");
        let table: [(&[_], Asked, bool, &str); 6] = [
            (&[], PLAIN, false, "HTTP/1.1 204 No Content|date: now||"),
            (&[], PLAIN, true, "HTTP/1.1 204 No Content|date: now|connection: close||"),
            (&[close], PLAIN, true, "HTTP/1.1 204 No Content|connection: close|date: now||"),
            (&[], old, false, "HTTP/1.0 204 No Content|date: now|connection: keep-alive||"),
            (&[], old, true, "HTTP/1.0 204 No Content|date: now||"),
            (&[("date", "then")], PLAIN, false, "HTTP/1.1 204 No Content|date: then||"),
        ];
        for (fields, asked, last, wanted) in table {
            assert_eq!(encoded(204, fields, Form::None, asked, last), wanted);
        }
    }
}
