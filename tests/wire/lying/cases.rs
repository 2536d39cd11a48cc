//! The table.

use super::Want::{Cut, Last, Passed, Refused, Surplus};
use super::{Case, run};

#[tokio::test]
async fn every_answer_that_is_well() {
    run(WELL).await;
}

#[tokio::test]
async fn every_answer_of_the_wrong_length() {
    run(LENGTH).await;
}

#[tokio::test]
async fn every_answer_whose_length_is_in_doubt() {
    run(FRAMING).await;
}

#[tokio::test]
async fn every_malformed_head() {
    run(HEAD).await;
}

#[rustfmt::skip]
const WELL: &[Case] = &[
    Case::new("content length", "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Passed(200, "abc")),
    Case::new("chunked", "9112 7.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Passed(200, "abc")),
    Case::new("trailers in one piece", "9112 7.1.2", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", Passed(200, "abc")),
    Case::new("announced trailers in one piece", "9110 6.6.2", b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", Passed(200, "abc")),
    Case::new("chunk extensions", "9112 7.1.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b;c\" ;d\r\nabc\r\n0;e\r\n\r\n", Passed(200, "abc")),
    Case::new("no reason", "9112 4", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Passed(200, "")),
    Case::new("until close", "9112 6.3", b"HTTP/1.1 200 OK\r\n\r\nabc", Last(200, "abc")).closing(),
    Case::new("until close without a body", "9112 6.3", b"HTTP/1.1 200 OK\r\n\r\n", Last(200, "")).closing(),
    Case::new("http 1.0 until close", "9112 6.3", b"HTTP/1.0 200 OK\r\n\r\nabc", Last(200, "abc")).closing(),
    Case::new("http 1.0 with a length", "9112 9.3", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", Last(200, "abc")).closing(),
    Case::new("http 1.0 kept alive", "9112 9.3", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", Passed(200, "abc")),
    Case::new("closing by its word", "9112 9.6", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", Last(200, "abc")),
    Case::new("100 first", "9110 15.2", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Passed(200, "abc")),
    Case::new("102 and 103 first", "9110 15.2", b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Passed(200, "abc")),
    Case::new("head", "9110 9.3.2", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Passed(200, "")).for_head(),
    Case::new("head of a chunked answer", "9112 6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Passed(200, "")).for_head(),
    Case::new("204", "9112 6.3", b"HTTP/1.1 204 No Content\r\n\r\n", Passed(204, "")),
    Case::new("204 with length zero", "9110 8.6", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Passed(204, "")),
    Case::new("205 with a length of zero", "9110 15.3.6", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", Passed(205, "")),
    // The backend's mistake, but its framing is clear.
    Case::new("205 with a body", "9112 6.3", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 3\r\n\r\nabc", Passed(205, "abc")),
    Case::new("304 with a length", "9110 8.6", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", Passed(304, "")),
    Case::new("status 599", "9110 15", b"HTTP/1.1 599 Odd\r\nContent-Length: 3\r\n\r\nabc", Passed(599, "abc")),
];

#[rustfmt::skip]
const LENGTH: &[Case] = &[
    Case::new("doubled", "9112 9.2", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", Surplus(200, "a")),
    Case::new("too long", "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", Surplus(200, "abc")),
    Case::new("a line too long", "9112 9.2", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\r\n", Surplus(200, "abc")),
    Case::new("more behind the last chunk", "9112 9.2", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nx", Surplus(200, "abc")),
    Case::new("head with a body", "9110 9.3.2", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Surplus(200, "")).for_head(),
    Case::new("304 with a body", "9112 6.3", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc", Surplus(304, "")),
    Case::new("204 with a body", "9110 8.6", b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", Surplus(204, "")),
    Case::new("204 that only claims one", "9110 8.6", b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", Last(204, "")),
    Case::new("too short", "9112 8", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", Cut).closing(),
    Case::new("no body at all", "9112 8", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Cut).closing(),
    Case::new("cut in a chunk", "9112 8", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", Cut).closing(),
    Case::new("cut between chunks", "9112 8", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Cut).closing(),
    Case::new("cut behind the last chunk", "9112 8", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", Cut).closing(),
    Case::new("cut in the trailers", "9112 8", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n", Cut).closing(),
    Case::new("cut in the head", "9112 8", b"HTTP/1.1 200 OK\r\nContent-Le", Cut).closing(),
    Case::new("nothing but an interim answer", "9110 15.2", b"HTTP/1.1 100 Continue\r\n\r\n", Cut).closing(),
    Case::new("a chunk without a size", "9112 7.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Refused),
    Case::new("a chunk of 17 digits", "9112 7.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000003\r\nabc\r\n", Refused),
    Case::new("a chunk longer than its size", "9112 7.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", Refused),
    Case::new("a chunk with a bare LF", "9112 2.2", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", Refused),
    Case::new("a chunk extension with a bare CR", "9112 7.1.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n", Refused),
    Case::new("a chunk extension with an open quote", "9112 7.1.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b\r\nabc\r\n0\r\n\r\n", Refused),
    Case::new("a trailer with a bare LF", "9112 2.2", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\n\r\n", Refused),
];

#[rustfmt::skip]
const FRAMING: &[Case] = &[
    Case::new("length and coding", "9112 6.1", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    Case::new("coding and length", "9112 6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", Refused),
    Case::new("two lengths", "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", Refused),
    Case::new("two equal lengths", "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Refused),
    Case::new("a list of lengths", "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", Refused),
    Case::new("a plus", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", Refused),
    Case::new("a minus", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", Refused),
    Case::new("hexadecimal", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc", Refused),
    Case::new("empty", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", Refused),
    Case::new("overflow of 64 bits", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551619\r\n\r\nabc", Refused),
    Case::new("overflow of 63 bits", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nabc", Refused),
    Case::new("an unknown coding", "9112 6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nabc", Refused),
    Case::new("gzip", "9112 6.3", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", Refused),
    Case::new("gzip, chunked", "9112 6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Refused),
    Case::new("chunked, chunked", "9112 6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Refused),
    Case::new("two codings", "9112 6.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    Case::new("chunked under 1.0", "9112 6.1", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    Case::new("204 with a coding", "9112 6.1", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    Case::new("interim with a length", "9110 8.6", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("a bad length of a head", "9110 8.6", b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", Refused).for_head(),
    Case::new("101 unasked", "9110 15.2.2", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00", Refused),
];

#[rustfmt::skip]
const HEAD: &[Case] = &[
    Case::new("status 99", "9110 15", b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("status 600", "9110 15", b"HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("status 999", "9110 15", b"HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("two digits", "9112 4", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("four digits", "9112 4", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("no number", "9112 4", b"HTTP/1.1 OK 200\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("http 2 in words", "9112 2.3", b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("http 1.2", "9112 2.3", b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("a bare body, as in http 0.9", "9112 2.3", b"<html>hello</html>\n", Refused),
    Case::new("a bare body without a line, closed", "9112 2.3", b"hello", Refused).closing(),
    Case::new("a banner", "9112 4", b"220 mail ESMTP\r\n", Refused),
    Case::new("a TLS alert", "9112 4", b"\x15\x03\x01\x00\x02\x02\x0a\n", Refused),
    Case::new("a request", "9112 4", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused),
    Case::new("an empty line first", "9112 2.2", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("nul in the reason", "9112 4", b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("cr in the reason", "9112 2.2", b"HTTP/1.1 200 OK\rX: y\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("nul in a value", "9110 5.5", b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("a control byte in a value", "9110 5.5", b"HTTP/1.1 200 OK\r\nX: \x1b[2J\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("cr in a value", "9112 2.2", b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("a control byte in a name", "9110 5.1", b"HTTP/1.1 200 OK\r\nX\x01: a\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("a high byte in a name", "9110 5.1", b"HTTP/1.1 200 OK\r\nX\xff: a\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("space before the colon", "9112 5.1", b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", Refused),
    Case::new("a folded value", "9112 5.2", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("no name", "9110 5.1", b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("no colon", "9112 5", b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("bare LF behind the status line", "9112 2.2", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", Refused),
    Case::new("bare LF behind a field", "9112 2.2", b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", Refused),
    Case::new("bare LF for the empty line", "9112 2.2", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n", Refused),
];
