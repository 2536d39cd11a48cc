//! Methods (RFC 9110 section 9): any token passes, but for CONNECT, which makes tunnels for forward
//! proxies, and TRACE, which would show a page the cookies and credentials that it may not see.

use crate::kit::{Case, answered, normalised, passed, refused, run};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    passed("origin form", "9112 3.2.1", b"GET /a/b?c=d&e HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("any method", "9110 9.1", b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n"),
    answered("trace", "9110 9.3.8", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    normalised("http 1.0 without host", "9112 3.2", b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    passed("content length", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    normalised("content length under 1.0", "9112 6.3", b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", b"POST / HTTP/1.1\r\nHost:\r\nContent-Length: 3\r\n\r\nabc"),
    passed("chunked", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    passed("pipelined", "9112 9.3.2", b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("a head in a body is no head", "9112 6.3", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    passed("head", "9110 9.3.2", b"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("head with a length", "9110 9.3.2", b"HEAD /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
    passed("get with a body", "9110 9.3.1", b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    passed("delete with a chunked body", "9110 9.3.5", b"DELETE /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
    passed("options", "9110 9.3.7", b"OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("methods are case-sensitive", "9110 9.1", b"get /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("patch", "5789 2", b"PATCH /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
    passed("a method of WebDAV", "4918 9.1", b"PROPFIND /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("all marks of a token", "9110 5.6.2", b"!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n"),
    answered("trace with a body", "9110 9.3.8", b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
    refused("connect", "9110 9.3.6", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    normalised("options with hops left", "9110 7.6.2", b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 2\r\n\r\n", b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n"),
    answered("options with no hops left", "9110 7.6.2", b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 200),
    passed("hops are for options and trace", "9110 7.6.2", b"GET /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"),
];
