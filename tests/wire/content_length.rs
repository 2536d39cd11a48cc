//! Content-Length: one plain number (RFC 9112 section 6.3).

use crate::kit::{Case, normalised, passed, refused, run, unfinished};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    passed("zero", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    passed("white space around", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t0 \r\n\r\n"),
    normalised("leading zeros", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0003\r\n\r\nabc", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    refused("two", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:  1\r\ncontent-length: 2\r\n\r\n", 400),
    refused("two equal", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
    refused("list", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400),
    refused("list without space", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,1\r\n\r\n", 400),
    refused("empty", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
    refused("blank", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", 400),
    refused("plus", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
    refused("minus", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    refused("hex", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400),
    refused("hex digits", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: a\r\n\r\n", 400),
    refused("inner space", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\n", 400),
    refused("point", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1.0\r\n\r\n", 400),
    refused("quoted", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"1\"\r\n\r\n", 400),
    refused("exponent", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\n", 400),
    refused("2^63", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", 400),
    refused("2^64", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", 400),
    refused("many digits", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000000000000000000000000000000000\r\n\r\n", 400),
    refused("semicolon", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1;\r\n\r\n", 400),
    refused("high byte", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\xb2\r\n\r\n", 400),
    refused("vertical tab", "9110 5.5", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \x0b1\r\n\r\n", 400),
    unfinished("2^63 - 1", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n"),
    refused("length with underscore", "9110 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\n", 400),
    unfinished("body shorter than its length", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"),
    refused("two, with a list", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\nContent-Length: 1\r\n\r\n", 400),
    refused("folded", "9112 5.2", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 5\r\n\r\n", 400),
    refused("in a get", "9112 6.3", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    refused("under 1.0", "9112 6.3", b"POST / HTTP/1.0\r\nContent-Length: +3\r\n\r\nabc", 400),
];
