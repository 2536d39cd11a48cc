//! The request line: spaces, versions, other protocols (RFC 9112 section 3).

use crate::kit::{Case, refused, run};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    refused("two spaces before target", "9112 3", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("two spaces before version", "9112 3", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("space after version", "9112 3", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    refused("space before method", "9112 3", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("tab for space", "9112 3", b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("tab before version", "9112 3", b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("vertical tab for space", "9112 3", b"GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("method with colon", "9110 9.1", b"GET: / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("method with nul", "9110 9.1", b"GE\0T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("method with high byte", "9110 9.1", b"G\xc3\xa4T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("space in target", "9112 3.2", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("http 0.9", "9112 3", b"GET /\r\n", 400),
    refused("http 0.9 with space", "9112 3", b"GET / \r\n", 400),
    refused("method alone", "9112 3", b"GET\r\n\r\n", 400),
    refused("version 1.2", "9110 15.6.6", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    refused("version 2.0", "9110 15.6.6", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    refused("version 0.9", "9110 15.6.6", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    refused("version 3", "9112 2.3", b"GET / HTTP/3\r\nHost: a\r\n\r\n", 400),
    refused("version in lower case", "9112 2.3", b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    refused("version with many digits", "9112 2.3", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    refused("version with leading zero", "9112 2.3", b"GET / HTTP/01.1\r\nHost: a\r\n\r\n", 400),
    refused("version with spaces", "9112 2.3", b"GET / HTTP /1.1\r\nHost: a\r\n\r\n", 400),
    refused("other protocol", "9112 2.3", b"GET / HTPP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("http 2 preface", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refused("tls hello", "9112 3", b"\x16\x03\x01\x02\0\x01\0\n", 400),
];
