//! Field lines: names, values, folds (RFC 9112 section 5), and names that look like others.

use crate::kit::{Case, normalised, passed, refused, run};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    passed("empty value", "9110 5.5", b"POST / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n"),
    passed("tab and high bytes in value", "9110 5.5", b"POST / HTTP/1.1\r\nHost: a\r\nX: a\tb \xff\x80\r\n\r\n"),
    passed("all marks of a token in a name", "9110 5.6.2", b"POST / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~: y\r\n\r\n"),
    passed("underscore in name", "9110 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nX_Y: z\r\n\r\n"),
    refused("obs-fold", "9112 5.2", b"POST / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    refused("obs-fold by tab", "9112 5.2", b"POST / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n", 400),
    refused("space before the first field", "9112 2.2", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    refused("empty line of spaces", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a\r\n  \r\n\r\n", 400),
    refused("space before colon", "9112 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
    refused("tab before colon", "9112 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nX\t: y\r\n\r\n", 400),
    refused("space in name", "9112 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", 400),
    refused("framing field with space before colon", "9112 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n", 400),
    refused("empty name", "9110 5.1", b"POST / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", 400),
    refused("no colon", "9112 5", b"POST / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
    refused("nul in name", "9110 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nX\0: y\r\n\r\n", 400),
    refused("control byte in name", "9110 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nX\x01Y: z\r\n\r\n", 400),
    refused("high byte in name", "9110 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nX\xe4: y\r\n\r\n", 400),
    refused("bracket in name", "9110 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nX(: y\r\n\r\n", 400),
    refused("slash in name", "9110 5.1", b"POST / HTTP/1.1\r\nHost: a\r\nX/Y: z\r\n\r\n", 400),
    refused("nul in value", "9110 5.5", b"POST / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    refused("control byte in value", "9110 5.5", b"POST / HTTP/1.1\r\nHost: a\r\nX: a\x08\r\n\r\n", 400),
    refused("escape in long value", "9110 5.5", b"POST / HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaa\x1b[0m\r\n\r\n", 400),
    refused("del in value", "9110 5.5", b"POST / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400),
    normalised("forwarding field with underscores", "9110 5.1", b"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.1.1.1\r\nX-Forwarded_Proto: https\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    normalised("forged forwarding fields", "9110 5.1", b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    passed("a repeated field", "9110 5.2", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\nX: b\r\nX: a\r\n\r\n"),
    passed("field names in any case", "9110 5.1", b"GET / HTTP/1.1\r\nHost: a\r\nx-ONE: a\r\nACCEPT: b\r\n\r\n"),
    passed("a quoted line end", "9110 5.6.4", b"GET / HTTP/1.1\r\nHost: a\r\nX: \"\\r\\n\"\r\n\r\n"),
];
