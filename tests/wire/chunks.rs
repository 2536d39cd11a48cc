//! Chunked bodies (RFC 9112 section 7.1).

use crate::kit::{Case, cut, passed, run, unfinished};

#[tokio::test]
async fn every_case() {
    run(CASES).await;
}

const CASES: &[Case] = &[
    passed("upper and lower case", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n"),
    passed("leading zeros", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000001\r\na\r\n000\r\n\r\n"),
    passed("next request", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    unfinished("no end", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
    unfinished("largest size", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na"),
    cut("17 digits", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\na\r\n0\r\n\r\n"),
    cut("no size", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n"),
    cut("no size but extension", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\n"),
    cut("prefix", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n"),
    cut("plus", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n"),
    cut("minus", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"),
    cut("space before", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\n"),
    cut("space after", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\n"),
    cut("tab after", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\t\r\n"),
    cut("space and no extension", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 a\r\n"),
    passed("space before extension", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 ;a\r\na\r\n0 \t; b\r\n\r\n"),
    cut("no hex", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\ng\r\n"),
    cut("underscore", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1_0\r\n"),
    cut("nul", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\0\r\n"),
    cut("high byte", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\xb2\r\n"),
    cut("bare lf after size", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n"),
    cut("bare cr after size", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\ra\r\n"),
    cut("cr cr lf after size", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\r\n"),
    cut("data too long", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"),
    cut("bare lf after data", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n"),
    cut("bare cr after data", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r0\r\n\r\n"),
    cut("two line ends after data", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n\r\n0\r\n\r\n"),
    passed("extension", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\na\r\n0; b=c;d=\"e\tf\"\r\n\r\n"),
    cut("extension without name", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\r\n"),
    cut("extension without name but value", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;=a\r\n"),
    passed("extensions of every form", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 ; a\t=\tb ;c;d=\"\";e=\"\\\";\\\"=\xe4\"\r\na\r\n0\r\n\r\n"),
    cut("extension with an empty name behind another", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a;;b\r\na\r\n0\r\n\r\n"),
    cut("extension with an empty value", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\r\na\r\n0\r\n\r\n"),
    cut("extension with two values", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b c\r\na\r\n0\r\n\r\n"),
    cut("extension with two names", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a b\r\na\r\n0\r\n\r\n"),
    cut("extension with high bytes", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\xe4\r\na\r\n0\r\n\r\n"),
    cut("extension with an open quote", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\r\na\r\n0\r\n\r\n"),
    cut("extension with a quoted end that is not one", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\\\"\r\na\r\n0\r\n\r\n"),
    cut("extension behind a quote", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\"c\r\na\r\n0\r\n\r\n"),
    cut("space behind an extension", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a \r\na\r\n0\r\n\r\n"),
    cut("extension with nul", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\0\r\n"),
    cut("extension with bare lf", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\n"),
    cut("extension with bare cr", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\rb\r\n"),
    cut("extension with quoted line end", "9112 7.1.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"\nb\"\r\n"),
    unfinished("no last chunk", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    unfinished("no end of trailers", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
    passed("a request as data", "9112 7.1", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1d\r\nGET /in HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n"),
];
