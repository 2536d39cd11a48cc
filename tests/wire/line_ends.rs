//! Line ends (RFC 9112 section 2.2): CRLF and nothing else. A lone LF may be accepted, but a proxy
//! that does so must trust everybody behind it to do the same.

use crate::kit::{Case, passed, refused, run};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    refused("bare lf after request line", "9112 2.2", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    refused("bare lf after field", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    refused("bare lf at the end", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    refused("bare lf in name", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\nX\n: y\r\n\r\n", 400),
    refused("bare lf in method", "9112 2.2", b"GE\nT / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("bare lf in target", "9112 2.2", b"GET /\n HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("bare cr in value", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    refused("cr cr lf", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n", 400),
    refused("bare cr in request line", "9112 2.2", b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    refused("bare cr in target", "9112 2.2", b"GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("bare cr in method", "9112 2.2", b"GE\rT / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("bare cr in name", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\nX\ry: z\r\n\r\n", 400),
    refused("bare cr before the end", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\n\rX\n\r\n", 400),
    passed("one empty line before", "9112 2.2", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("two empty lines before", "9112 2.2", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("three empty lines before", "9112 2.2", b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    refused("empty lf before", "9112 2.2", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    passed("empty line after a body", "9112 2.2", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
];
