//! Expect (RFC 9110 section 10.1.1): it ends here, since we answer it ourselves.

use crate::kit::{Case, normalised, refused, run};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    normalised("expect 100-continue", "9110 10.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    refused("expect other", "9110 10.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", 417),
    refused("expect list", "9110 10.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\n\r\n", 417),
    refused("expect nothing", "9110 10.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nExpect:\r\n\r\n", 417),
    normalised("expect under 1.0", "9110 10.1.1", b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", b"POST / HTTP/1.1\r\nHost:\r\nContent-Length: 3\r\n\r\nabc"),
    normalised("expect without a body", "9110 10.1.1", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("expect twice", "9110 10.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"),
    refused("expect other under 1.0", "9110 10.1.1", b"POST / HTTP/1.0\r\nExpect: x\r\n\r\n", 417),
];
