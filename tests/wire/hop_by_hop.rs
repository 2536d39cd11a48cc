//! Fields that end at the proxy (RFC 9110 section 7.6.1), and those that cannot be listed away.

use crate::kit::{Case, normalised, passed, run};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    normalised("listed", "9110 7.6.1", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One, x-TWO\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX-Three: 3\r\n\r\n"),
    normalised("listed over two lines", "9110 7.6.1", b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nConnection: X-One\r\nConnection: X-Two\r\nX-Two: 2\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("a standard field listed", "9110 7.6.1", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: cookie\r\nCookie: a=b\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("host listed", "9110 7.6.1", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("content-length listed", "9110 7.6.1", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    normalised("transfer-encoding listed", "9110 7.6.1", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
    normalised("our own fields listed", "9110 7.6.1", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-forwarded-for, x-forwarded-proto, x-forwarded-host, x-forwarded-port, x-request-id, tidegate-hops\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("nothing that is a name listed", "9110 7.6.1", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: ,, @, (a)\r\nX: y\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"),
    normalised("keep-alive", "9110 7.6.1", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("keep-alive not listed", "9110 7.6.1", b"GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=5\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("proxy-connection", "9112 C.2.2", b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("proxy-authorization", "9110 11.7.2", b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic eA==\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("te", "9110 10.1.4", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers, gzip\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("te not listed", "9110 10.1.4", b"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("authorization is for the backend", "9110 11.6.2", b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic eA==\r\n\r\n"),
    passed("trailer announces", "9110 6.6.2", b"GET / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\n\r\n"),
];
