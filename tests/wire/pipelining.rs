//! Several requests in one piece (RFC 9112 section 9.3.2): good ones before a bad one are served,
//! nothing behind it is.

use crate::kit::{Case, behind, normalised, passed, refused, run};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    passed("three good ones", "9112 9.3.2", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("with bodies of either framing", "9112 9.3.2", b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("bad, then good", "9112 9.3.2", b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    behind("good, then bad", "9112 9.3.2", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    behind("two good, bad, good", "9112 9.3.2", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/3.0\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", 505),
    behind("body longer than its length", "9112 6.3", b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nab: c\r\n", b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na", 400),
    behind("chunks behind the last chunk", "9112 7.1", b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n1\r\na\r\n0\r\n\r\n", b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    passed("a request as a body", "9112 6.3", b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 31\r\n\r\nGET /in HTTP/1.1\r\nHost: a\r\n\r\n.."),
    normalised("behind a request that asks to close", "9112 9.6", b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("behind one of 1.0", "9112 9.3", b"GET /1 HTTP/1.0\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("behind one of 1.0 that asks to keep alive", "9112 9.3", b"GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"),
];
