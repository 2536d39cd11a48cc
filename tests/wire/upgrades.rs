//! Upgrade (RFC 9110 section 7.8) that the backend does not grant: what follows is the next request.

use crate::kit::{Case, normalised, passed, run};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    passed("upgrade", "9110 7.8", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    normalised("upgrade in a list", "9110 7.8", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive , UPGRADE\r\nUpgrade: h2c, websocket\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    normalised("upgrade to h2c", "9113 3.1", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("upgrade to tls", "2817 3", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("upgrade to http", "9110 7.8", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: HTTP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("upgrade without connection", "9110 7.8", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("upgrade under 1.0", "9110 7.8", b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("upgrade with a body", "9110 7.8", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\na", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"),
    normalised("h2c settings alone", "9113 3.1", b"GET / HTTP/1.1\r\nHost: a\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("an empty upgrade", "9110 7.8", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
];
