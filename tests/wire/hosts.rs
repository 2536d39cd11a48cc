//! Host: exactly one, of one shape, and no other than the target names (RFC 9112 section 3.2).

use crate::kit::{Case, passed, refused, run};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    refused("no host", "9112 3.2", b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400),
    refused("two hosts", "9112 3.2", b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    refused("two equal hosts", "9112 3.2", b"POST / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
    refused(
        "two hosts under 1.0",
        "9112 3.2",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        400,
    ),
    passed("host with port", "9110 7.2", b"GET / HTTP/1.1\r\nHost: a.b-c:8080\r\n\r\n"),
    passed("host with white space around", "9110 5.5", b"GET / HTTP/1.1\r\nHost:\t a \t\r\n\r\n"),
    passed("host without space", "9112 5", b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"),
    passed("ipv6 host", "3986 3.2.2", b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
    refused("empty host", "9110 4.2.1", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    refused("blank host", "9110 4.2.1", b"GET / HTTP/1.1\r\nHost: \r\n\r\n", 400),
    refused("host with user", "9110 4.2.4", b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    refused("host with path", "9110 7.2", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    refused("host with scheme", "9110 7.2", b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", 400),
    refused("host with space", "9110 7.2", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    refused("host list", "9110 7.2", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    refused("host with high bytes", "9110 7.2", b"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", 400),
    refused("host with bad port", "9110 7.2", b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
    refused("host with signed port", "9110 7.2", b"GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n", 400),
    refused("host with empty port", "9110 7.2", b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", 400),
    refused("host with open bracket", "3986 3.2.2", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    refused("host with vertical tab", "9110 5.5", b"GET / HTTP/1.1\r\nHost: a\x0b\r\n\r\n", 400),
];
