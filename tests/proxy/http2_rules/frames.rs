//! Frames: where they may stand, how long they may be, what they may hold.

use super::Answer::{Connection, Passed, Stream};
use super::{
    COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED,
    headers, headers_of, post, run, with,
};
use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::h2_wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Wire, HEADERS, Outcome, PADDED,
    PING, PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE,
    WITH_PRIORITY, ask, block, frame, get,
};
use crate::support::proxy::{HTTPS, Proxy, pool_of};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn frames_in_the_wrong_place() {
    let goaway = [0; 8];
    run(vec![
        ("DATA on stream 0", "6.1", frame(DATA, 0, 0, b"x"), Connection(PROTOCOL_ERROR)),
        ("DATA on an idle stream", "5.1", frame(DATA, 0, 1, b"x"), Connection(PROTOCOL_ERROR)),
        (
            "DATA after the end",
            "5.1",
            [post(&[]), frame(DATA, END_STREAM, 1, b"x"), frame(DATA, 0, 1, b"y")].concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "DATA after a reset",
            "5.1",
            [post(&[]), frame(RST_STREAM, 0, 1, [0, 0, 0, 8]), frame(DATA, 0, 1, b"y")].concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "HEADERS on stream 0",
            "6.2",
            frame(HEADERS, WHOLE, 0, block(&get("/"))),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "HEADERS on an even stream",
            "5.1.1",
            frame(HEADERS, WHOLE, 2, block(&get("/"))),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "HEADERS on a lower stream",
            "5.1.1",
            [frame(HEADERS, END_HEADERS, 3, block(&get("/"))), with(&[])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "HEADERS after the end",
            "5.1",
            [post(&[]), frame(DATA, END_STREAM, 1, b"x"), with(&[])].concat(),
            Connection(STREAM_CLOSED),
        ),
        (
            "HEADERS twice without an end",
            "8.1",
            [post(&[]), post(&[])].concat(),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "RST_STREAM on stream 0",
            "6.4",
            frame(RST_STREAM, 0, 0, [0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "RST_STREAM on an idle stream",
            "6.4",
            frame(RST_STREAM, 0, 1, [0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        ("SETTINGS on a stream", "6.5", frame(SETTINGS, 0, 1, []), Connection(PROTOCOL_ERROR)),
        ("PING on a stream", "6.7", frame(PING, 0, 1, [0; 8]), Connection(PROTOCOL_ERROR)),
        ("GOAWAY on a stream", "6.8", frame(GOAWAY, 0, 1, goaway), Connection(PROTOCOL_ERROR)),
        (
            "WINDOW_UPDATE on an idle stream",
            "5.1",
            frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]),
            Connection(PROTOCOL_ERROR),
        ),
        ("PRIORITY on stream 0", "6.3", frame(PRIORITY, 0, 0, [0; 5]), Connection(PROTOCOL_ERROR)),
        (
            "PUSH_PROMISE from a client",
            "8.4",
            [post(&[]), frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2, 0x82])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "CONTINUATION from nowhere",
            "6.10",
            frame(CONTINUATION, END_HEADERS, 1, block(&get("/"))),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "CONTINUATION of another stream",
            "6.10",
            [headers(0, &get("/")), frame(CONTINUATION, END_HEADERS, 3, [])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "a frame within a header block",
            "6.10",
            [headers(0, &get("/")), frame(PING, 0, 0, [0; 8])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "an unknown frame within a header block",
            "6.10",
            [headers(0, &get("/")), frame(0x42, 0, 1, [])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        ("an unknown frame", "5.5", [frame(0x42, 0xff, 7, b"x"), with(&[])].concat(), Passed),
        ("a reserved bit", "4.1", frame(HEADERS, WHOLE, 0x8000_0001, block(&get("/"))), Passed),
        (
            "PRIORITY on an idle stream",
            "5.1",
            [frame(PRIORITY, 0, 1, [0, 0, 0, 0, 7]), with(&[])].concat(),
            Passed,
        ),
        (
            "a block in two frames",
            "4.3",
            [
                frame(HEADERS, END_STREAM, 1, &block(&get("/"))[..20]),
                frame(CONTINUATION, END_HEADERS, 1, &block(&get("/"))[20..]),
            ]
            .concat(),
            Passed,
        ),
    ])
    .await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn frames_of_the_wrong_size_or_content() {
    let padded = |kind, payload: &[u8]| [post(&[]), frame(kind, PADDED, 1, payload)].concat();
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, by.to_be_bytes());
    let setting =
        |id: u8, value: u32| frame(SETTINGS, 0, 0, [&[0, id][..], &value.to_be_bytes()].concat());
    run(vec![
        (
            "DATA over the size",
            "4.2",
            [post(&[]), frame(DATA, 0, 1, vec![0; 16 * 1024 + 1])].concat(),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "HEADERS over the size",
            "4.2",
            frame(HEADERS, WHOLE, 1, vec![0; 16 * 1024 + 1]),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("DATA with too much padding", "6.1", padded(DATA, &[2, 0]), Connection(PROTOCOL_ERROR)),
        ("padded DATA without a length", "6.1", padded(DATA, &[]), Connection(PROTOCOL_ERROR)),
        (
            "HEADERS with too much padding",
            "6.2",
            frame(HEADERS, WHOLE | PADDED, 1, [200, 0x82]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "HEADERS too short for a priority",
            "6.2",
            frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "HEADERS that depend on themselves",
            "5.3.1 of RFC 7540",
            frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [0, 0, 0, 1, 7]),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "RST_STREAM of 3 bytes",
            "6.4",
            [post(&[]), frame(RST_STREAM, 0, 1, [0; 3])].concat(),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("PING of 7 bytes", "6.7", frame(PING, 0, 0, [0; 7]), Connection(FRAME_SIZE_ERROR)),
        ("SETTINGS of 5 bytes", "6.5", frame(SETTINGS, 0, 0, [0; 5]), Connection(FRAME_SIZE_ERROR)),
        (
            "SETTINGS that acknowledge with content",
            "6.5",
            frame(SETTINGS, ACK, 0, [0; 6]),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("ENABLE_PUSH of 2", "6.5.2", setting(2, 2), Connection(PROTOCOL_ERROR)),
        (
            "INITIAL_WINDOW_SIZE over 2^31",
            "6.5.2",
            setting(4, 1 << 31),
            Connection(FLOW_CONTROL_ERROR),
        ),
        ("MAX_FRAME_SIZE of 1", "6.5.2", setting(5, 1), Connection(PROTOCOL_ERROR)),
        ("an unknown setting", "6.5.2", [setting(0x99, 7), with(&[])].concat(), Passed),
        ("WINDOW_UPDATE by 0", "6.9", window(0, 0), Connection(PROTOCOL_ERROR)),
        (
            "WINDOW_UPDATE by 0 on a stream",
            "6.9",
            [post(&[]), window(1, 0)].concat(),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "WINDOW_UPDATE of 3 bytes",
            "6.9",
            frame(WINDOW_UPDATE, 0, 0, [0; 3]),
            Connection(FRAME_SIZE_ERROR),
        ),
        ("a window over 2^31", "6.9.1", window(0, i32::MAX as u32), Connection(FLOW_CONTROL_ERROR)),
        (
            "a stream's window over 2^31",
            "6.9.1",
            [post(&[]), window(1, i32::MAX as u32)].concat(),
            Stream(FLOW_CONTROL_ERROR),
        ),
        (
            "PRIORITY of 4 bytes",
            "6.3",
            [post(&[]), frame(PRIORITY, 0, 1, [0; 4])].concat(),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "PRIORITY on itself",
            "5.3.1 of RFC 7540",
            [post(&[]), frame(PRIORITY, 0, 1, [0, 0, 0, 1, 0])].concat(),
            Stream(PROTOCOL_ERROR),
        ),
        ("HPACK index 0", "4.3", frame(HEADERS, WHOLE, 1, [0x80]), Connection(COMPRESSION_ERROR)),
        (
            "HPACK index beyond the table",
            "4.3",
            frame(HEADERS, WHOLE, 1, [0xff, 0x7f]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "HPACK table larger than allowed",
            "4.3",
            frame(HEADERS, WHOLE, 1, [0x3f, 0xff, 0xff, 0x7f, 0x82]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "a block that stops within a field",
            "4.3",
            frame(HEADERS, WHOLE, 1, [0x00, 0x05, b'a']),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "HPACK name beyond the table",
            "4.3",
            headers_of(&[&block(&get("/"))[..], &[0x7e, 1, b'x']].concat()),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "HPACK table changed behind a field",
            "4.3",
            headers_of(&[&block(&get("/"))[..], &[0x20]].concat()),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "HPACK string with too much padding",
            "4.3",
            headers_of(&[&block(&get("/"))[..], b"\x00\x01x\x82\xff\xff"].concat()),
            Connection(COMPRESSION_ERROR),
        ),
    ])
    .await;
}

/// RFC 9113 section 3.4.
#[tokio::test]
async fn a_preface_without_settings() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_of(&[&backend]))).await;
    for first in [ask(1, "/"), frame(PING, 0, 0, [0; 8]), frame(SETTINGS, ACK, 0, [])] {
        let mut client = H2Wire::silent(proxy.address("https")).await;
        client.send([PREFACE, &first].concat()).await;
        assert_eq!(client.end().await, Some(PROTOCOL_ERROR), "{first:?}");
    }
    assert_eq!(backend.requests().len(), 0);
    let told = async || proxy.metric("tidegate_listener_h2_abuse_total", &["protocol"]) == 3.0;
    eventually("counted", told).await;
    assert_eq!(proxy.metric("tidegate_listener_malformed_requests_total", &["https"]), 3.0);
}

#[tokio::test]
async fn a_wrong_preface() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_of(&[&backend]))).await;
    let mut client = H2Wire::silent(proxy.address("https")).await;
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(client.outcome(1).await, Outcome::Closed);
    assert!(backend.requests().is_empty());
}

/// What ends a stream is counted, and what ends the connection.
#[tokio::test]
async fn what_is_malformed_is_counted() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_of(&[&backend]))).await;
    let malformed = || proxy.metric("tidegate_listener_malformed_requests_total", &["https"]);
    let mut client = H2Wire::connect(proxy.address("https")).await;
    client.send(with(&[(b"connection", b"close")])).await;
    assert_eq!(client.outcome(1).await, Outcome::Reset(PROTOCOL_ERROR));
    eventually("the stream", async || malformed() == 1.0).await;
    client.send(frame(HEADERS, WHOLE, 3, [0x80])).await;
    assert_eq!(client.outcome(3).await, Outcome::GoAway(COMPRESSION_ERROR));
    eventually("the connection", async || malformed() == 2.0).await;
}
