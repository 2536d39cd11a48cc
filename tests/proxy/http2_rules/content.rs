//! Where a request ends: lengths, resets, trailers.

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::Answer::{Passed, Refused, Stream};
use super::{NO_ERROR, PROTOCOL_ERROR, STREAM_CLOSED, post, run, with};
use crate::support::backend::Backend;
use crate::support::h2_wire::{
    DATA, END_HEADERS, END_STREAM, H2Wire, HEADERS, Outcome, RST_STREAM, Text, WHOLE, ask, block,
    frame, get,
};
use crate::support::in_time;
use crate::support::proxy::{HTTPS, Proxy, pool_at, pool_of};

#[tokio::test]
async fn lengths_that_disagree() {
    let sized = |length: &'static [u8], body: &[u8]| {
        [post(&[(b"content-length", length)]), frame(DATA, END_STREAM, 1, body)].concat()
    };
    let passed = run(vec![
        ("the same", "8.1.1", sized(b"3", b"abc"), Passed),
        (
            "in two frames",
            "8.1.1",
            {
                let begin = [post(&[(b"content-length", b"3")]), frame(DATA, 0, 1, b"a")].concat();
                [begin, frame(DATA, END_STREAM, 1, b"bc")].concat()
            },
            Passed,
        ),
        (
            "none, and a body",
            "8.1.1",
            [post(&[]), frame(DATA, END_STREAM, 1, b"abc")].concat(),
            Passed,
        ),
        (
            "twice the same",
            "8.6 of RFC 9110",
            {
                let twice = post(&[(b"content-length", b"3"), (b"content-length", b"3")]);
                [twice, frame(DATA, END_STREAM, 1, b"abc")].concat()
            },
            Refused(400),
        ),
        ("none in it", "8.6 of RFC 9110", sized(b"", b""), Refused(400)),
        (
            "twice different",
            "8.1.1",
            { post(&[(b"content-length", b"3"), (b"content-length", b"4")]) },
            Stream(PROTOCOL_ERROR),
        ),
        ("a list", "8.1.1", sized(b"3, 3", b"abc"), Stream(PROTOCOL_ERROR)),
        ("a sign", "8.1.1", sized(b"+3", b"abc"), Stream(PROTOCOL_ERROR)),
        ("hexadecimal", "8.1.1", sized(b"0x3", b"abc"), Stream(PROTOCOL_ERROR)),
        ("too large a number", "8.1.1", sized(b"99999999999999999999", b""), {
            Stream(PROTOCOL_ERROR)
        }),
        ("more than 0, and no body", "8.1.1", with(&[(b"content-length", b"3")]), {
            Stream(PROTOCOL_ERROR)
        }),
        ("0, and no body", "8.1.1", with(&[(b"content-length", b"0")]), Passed),
    ])
    .await;
    let bodies: Vec<String> = passed.into_iter().map(|(_, message)| message.text()).collect();
    assert_eq!(bodies, ["abc", "abc", "abc", ""]);
}

/// Too many or too few bytes show only while the body is on its way, so the backend may have the
/// head by then: it must not get a whole request.
#[tokio::test]
async fn a_body_of_another_length_is_no_whole_request() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_of(&[&backend]))).await;
    for (name, data) in [
        ("too long", frame(DATA, END_STREAM, 1, b"abcd")),
        ("too long, in two", [frame(DATA, 0, 1, b"abc"), frame(DATA, 0, 1, b"d")].concat()),
        ("too short", frame(DATA, END_STREAM, 1, b"ab")),
        (
            "too short, with trailers",
            [frame(DATA, 0, 1, b"ab"), frame(HEADERS, WHOLE, 1, block(&[(b"x", b"y")]))].concat(),
        ),
    ] {
        let mut client = H2Wire::connect(proxy.address("https")).await;
        client.send([post(&[(b"content-length", b"3")]), data].concat()).await;
        assert_eq!(client.outcome(1).await, Outcome::Reset(PROTOCOL_ERROR), "{name}");
        client.send(ask(3, "/after")).await;
        assert_eq!(client.outcome(3).await, Outcome::Status(200), "{name}");
    }
    assert!(backend.requests().iter().all(|request| request.request_line().1 == "/after"));
}

/// RFC 9113 section 8.1: only END_STREAM ends a request, and a reset does not, whatever its code.
#[tokio::test]
async fn a_reset_is_no_end_of_a_request() {
    const CANCEL: u32 = 8;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = listener.local_addr().unwrap();
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_at(&[backend]))).await;
    for code in [NO_ERROR, CANCEL, STREAM_CLOSED] {
        let mut client = H2Wire::connect(proxy.address("https")).await;
        client.send([post(&[]), frame(DATA, 0, 1, b"abc")].concat()).await;
        let mut received = Vec::new();
        let mut stream = loop {
            // Health checks connect too, and say nothing.
            let mut stream = in_time("a connection", listener.accept()).await.unwrap().0;
            while in_time("what was sent", stream.read_buf(&mut received)).await.unwrap_or(0) > 0
                && !received.ends_with(b"3\r\nabc\r\n")
            {}
            if !received.is_empty() {
                break stream;
            }
        };
        client.send(frame(RST_STREAM, 0, 1, code.to_be_bytes())).await;
        let _ = in_time("an end", stream.read_to_end(&mut received)).await;
        let received = String::from_utf8_lossy(&received);
        assert!(received.ends_with("3\r\nabc\r\n"), "{code}: {received}");
    }
}

#[tokio::test]
async fn trailers() {
    let trailers = |flags: u8, fields: &[(Text<'_>, Text<'_>)]| {
        [
            post(&[(b"trailer", b"x-sum, host, content-length, x-forwarded-for")]),
            frame(DATA, 0, 1, b"abc"),
            frame(HEADERS, flags, 1, block(fields)),
        ]
        .concat()
    };
    // `:authority`, remembered.
    let begun = {
        let fields = [&block(&get("/")[..2])[..], b"\x41\x09localhost\x04\x01/"].concat();
        [frame(HEADERS, END_HEADERS, 1, fields), frame(DATA, 0, 1, b"abc")].concat()
    };
    // A field of 4,000 bytes, remembered, and eight times the same.
    let mut large = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    large.extend([b'6'; 4000]);
    large.extend([0xbe; 8]);
    let passed = run(vec![
        ("announced", "8.1", trailers(WHOLE, &[(b"x-sum", b"6")]), Passed),
        ("a pseudo-header field", "8.1", trailers(WHOLE, &[(b":path", b"/b")]), {
            Stream(PROTOCOL_ERROR)
        }),
        ("one of responses", "8.1", trailers(WHOLE, &[(b":status", b"200")]), {
            Stream(PROTOCOL_ERROR)
        }),
        ("one from the tables", "8.1", [&begun[..], &frame(HEADERS, WHOLE, 1, [0xbe])].concat(), {
            Stream(PROTOCOL_ERROR)
        }),
        ("a connection field", "8.2.2", trailers(WHOLE, &[(b"connection", b"close")]), {
            Stream(PROTOCOL_ERROR)
        }),
        ("no end", "8.1", trailers(END_HEADERS, &[(b"x-sum", b"6")]), Stream(PROTOCOL_ERROR)),
        ("Host", "6.5.1 of RFC 9110", trailers(WHOLE, &[(b"host", b"b")]), Refused(400)),
        (
            "Content-Length",
            "6.5.1 of RFC 9110",
            trailers(WHOLE, &[(b"content-length", b"9")]),
            Refused(400),
        ),
        (
            "X-Forwarded-For",
            "6.5.1 of RFC 9110",
            trailers(WHOLE, &[(b"x-forwarded-for", b"127.0.0.1")]),
            Refused(400),
        ),
        ("101 fields", "5 of RFC 6585", trailers(WHOLE, &[(&b"x-sum"[..], &b"6"[..]); 101]), {
            Refused(431)
        }),
        ("36 KiB", "5 of RFC 6585", [&begun[..], &frame(HEADERS, WHOLE, 1, large)].concat(), {
            Refused(431)
        }),
    ])
    .await;
    let sums: Vec<_> = passed.iter().map(|(_, message)| message.trailers.len()).collect();
    assert_eq!(sums, [1]);
}
