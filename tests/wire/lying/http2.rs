//! The same over HTTP/2: answers frame by frame (clauses of RFC 9113, unless another is named).

use std::sync::{Arc, Mutex};

use super::Want::{self, Cut, Last, Passed, Refused};
use super::{Clients, Seen, is, is_refused, raw};
use crate::kit::holds;
use crate::support::h2_backend::Frames;
use crate::support::h2_wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PUSH_PROMISE, RST_STREAM,
    Text, WHOLE, WINDOW_UPDATE, block, frame,
};
use crate::support::proxy::pool_at;

/// Name, clause, method, the answer on a stream, what comes of it. What is `Last` ends the connection
/// to the backend although the answer was passed on.
type Case = (&'static str, &'static str, &'static str, fn(u32) -> Vec<u8>, Want);

/// What is said next.
type Script = Arc<Mutex<Option<fn(u32) -> Vec<u8>>>>;

async fn start() -> (Script, Clients) {
    let script = Script::default();
    let said = Arc::clone(&script);
    let address = raw(move |stream| {
        let script = Arc::clone(&said);
        async move {
            let Ok(mut frames) = Frames::greet(stream).await else { return };
            while let Ok(stream) = frames.request().await {
                let answer = script.lock().unwrap().take().unwrap_or(well);
                let _ = frames.send(&answer(stream)).await;
            }
        }
    })
    .await;
    let pool = pool_at(&[address]) + "[pools.app.upstream]\nprotocol = \"h2\"\n";
    (script, Clients::new(&pool).await)
}

async fn run(cases: &[Case]) {
    let (mut script, mut clients) = start().await;
    let mut failed = Vec::new();
    for &(name, clause, method, answer, want) in cases {
        for h2 in [false, true] {
            let play = async {
                let name = format!("{name} ({clause}), {}", if h2 { "h2" } else { "h1" });
                let malformed = clients.malformed();
                *script.lock().unwrap() = Some(answer);
                let seen = clients.ask(h2, method, "/").await;
                let (fits, counted) = match want {
                    Passed(status, body) | Last(status, body) => (is(&seen, status, body), false),
                    Refused => (is_refused(&seen), true),
                    _ => (seen == Seen::BrokenOff || is_refused(&seen), false),
                };
                assert!(fits, "{name}: {seen:?}");
                assert!(script.lock().unwrap().is_none(), "{name}: it was not asked");
                let well = Seen::Answer(200, "well".to_owned());
                assert_eq!(clients.ask(h2, "GET", "/").await, well, "{name}: after");
                let counts = clients.malformed() - malformed;
                assert_eq!(counts, f64::from(counted), "{name}: counted");
            };
            if !holds(play).await {
                failed.push((name, clause, if h2 { "h2" } else { "h1" }));
                (script, clients) = start().await;
            }
        }
    }
    assert!(failed.is_empty(), "{} cases failed: {failed:#?}", failed.len());
}

/// HEADERS with this status and these fields.
fn head(stream: u32, flags: u8, status: &[u8], fields: &[(Text<'_>, Text<'_>)]) -> Vec<u8> {
    let fields = [&[(&b":status"[..], status)], fields].concat();
    frame(HEADERS, flags, stream, block(&fields))
}

fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, bytes)
}

/// An answer of 200 with these fields and the body `abcd`.
fn with(stream: u32, fields: &[(Text<'_>, Text<'_>)]) -> Vec<u8> {
    [head(stream, END_HEADERS, b"200", fields), data(stream, b"abcd")].concat()
}

/// An answer of 200 that goes on with these bytes after `ab`.
fn begun(stream: u32, rest: &[u8]) -> Vec<u8> {
    [&head(stream, END_HEADERS, b"200", &[]), &frame(DATA, 0, stream, b"ab"), rest].concat()
}

fn trailers(stream: u32, flags: u8, fields: &[(Text<'_>, Text<'_>)]) -> Vec<u8> {
    begun(stream, &frame(HEADERS, flags, stream, block(fields)))
}

fn well(stream: u32) -> Vec<u8> {
    [head(stream, END_HEADERS, b"200", &[]), data(stream, b"well")].concat()
}

#[tokio::test]
async fn every_length() {
    run(&[
        ("length", "8.1.1", "GET", |s| with(s, &[(b"content-length", b"4")]), Passed(200, "abcd")),
        ("no length", "8.1", "GET", |s| with(s, &[]), Passed(200, "abcd")),
        ("too short", "8.1.1", "GET", |s| with(s, &[(b"content-length", b"5")]), Cut),
        ("too long", "8.1.1", "GET", |s| with(s, &[(b"content-length", b"3")]), Cut),
        ("a sign", "9110 8.6", "GET", |s| with(s, &[(b"content-length", b"+4")]), Refused),
        ("a list", "9110 8.6", "GET", |s| with(s, &[(b"content-length", b"4, 4")]), Refused),
        (
            "two equal lengths",
            "9110 8.6",
            "GET",
            |s| with(s, &[(b"content-length", b"4"), (b"content-length", b"4")]),
            Refused,
        ),
        (
            "two lengths",
            "8.1.1",
            "GET",
            |s| with(s, &[(b"content-length", b"4"), (b"content-length", b"5")]),
            Refused,
        ),
        (
            "no body at all",
            "8.1.1",
            "GET",
            |s| head(s, WHOLE, b"200", &[(b"content-length", b"4")]),
            Refused,
        ),
        (
            "the length of a HEAD",
            "8.1.1",
            "HEAD",
            |s| head(s, WHOLE, b"200", &[(b"content-length", b"4")]),
            Passed(200, ""),
        ),
        (
            "the length of a 304",
            "8.1.1",
            "GET",
            |s| head(s, WHOLE, b"304", &[(b"content-length", b"4")]),
            Passed(304, ""),
        ),
        (
            "a 204 whose end comes by itself",
            "8.1",
            "GET",
            |s| [head(s, END_HEADERS, b"204", &[]), data(s, b"")].concat(),
            Passed(204, ""),
        ),
    ])
    .await;
}

/// RFC 9113 section 8.1: only END_STREAM ends an answer.
#[tokio::test]
async fn every_cut() {
    run(&[
        ("NO_ERROR", "8.1", "GET", |s| begun(s, &frame(RST_STREAM, 0, s, [0, 0, 0, 0])), Cut),
        ("INTERNAL_ERROR", "8.1", "GET", |s| begun(s, &frame(RST_STREAM, 0, s, [0, 0, 0, 2])), Cut),
        ("CANCEL", "8.1", "GET", |s| begun(s, &frame(RST_STREAM, 0, s, [0, 0, 0, 8])), Cut),
        ("GOAWAY", "6.8", "GET", |s| begun(s, &frame(GOAWAY, 0, 0, [0; 8])), Cut),
        (
            "trailers without an end",
            "8.1",
            "GET",
            |s| trailers(s, END_HEADERS, &[(b"x", b"y")]),
            Cut,
        ),
        (
            "a connection field in trailers",
            "8.2.2",
            "GET",
            |s| trailers(s, WHOLE, &[(b"connection", b"close")]),
            Cut,
        ),
        ("too much padding", "6.1", "GET", |s| begun(s, &frame(DATA, PADDED, s, [9, 0])), Cut),
        ("a window of 0", "6.9", "GET", |s| begun(s, &frame(WINDOW_UPDATE, 0, s, [0; 4])), Cut),
    ])
    .await;
}

#[tokio::test]
#[rustfmt::skip]
async fn every_malformed_head() {
    run(&[
        ("no :status", "8.3.2", "GET", |s| frame(HEADERS, WHOLE, s, block(&[(b"x", b"y")])), Refused),
        ("two :status", "8.3", "GET", |s| with(s, &[(b":status", b"200")]), Refused),
        ("a :status of letters", "8.3.2", "GET", |s| head(s, WHOLE, b"abc", &[]), Refused),
        ("a :status of two digits", "8.3.2", "GET", |s| head(s, WHOLE, b"20", &[]), Refused),
        ("a :status over 599", "9110 15", "GET", |s| head(s, WHOLE, b"600", &[]), Refused),
        ("a :status under 100", "9110 15", "GET", |s| head(s, WHOLE, b"099", &[]), Refused),
        ("101 and data", "8.6", "GET", |s| [head(s, END_HEADERS, b"101", &[]), data(s, b"abcd")].concat(), Refused),
        ("nothing but an interim answer", "8.1", "GET", |s| head(s, WHOLE, b"103", &[]), Refused),
        ("an upper-case name", "8.2.1", "GET", |s| with(s, &[(b"X", b"y")]), Refused),
        ("NUL in a value", "8.2.1", "GET", |s| with(s, &[(b"x", b"a\0b")]), Refused),
        ("CRLF in a value", "8.2.1", "GET", |s| with(s, &[(b"x", b"a\r\nset-cookie: b")]), Refused),
        ("a control byte in a value", "9110 5.5", "GET", |s| with(s, &[(b"x", b"\x1b[2J")]), Refused),
        ("space before a value", "8.2.1", "GET", |s| with(s, &[(b"x", b" y")]), Refused),
        ("a tab behind a value", "8.2.1", "GET", |s| with(s, &[(b"x", b"y\t")]), Refused),
        ("connection", "8.2.2", "GET", |s| with(s, &[(b"connection", b"close")]), Refused),
        ("transfer-encoding", "8.2.2", "GET", |s| with(s, &[(b"transfer-encoding", b"chunked")]), Refused),
        ("upgrade", "8.2.2", "GET", |s| with(s, &[(b"upgrade", b"h2c")]), Refused),
        ("keep-alive", "8.2.2", "GET", |s| with(s, &[(b"keep-alive", b"timeout=5")]), Refused),
        ("DATA first", "8.1", "GET", |s| data(s, b"abcd"), Refused),
        ("a push", "8.4", "GET", |s| frame(PUSH_PROMISE, END_HEADERS, s, [0, 0, 0, 2, 0x82]), Refused),
        ("another stream", "5.1.1", "GET", |s| frame(HEADERS, WHOLE, s + 2, [0x88]), Refused),
        ("index 0", "4.3", "GET", |s| frame(HEADERS, WHOLE, s, [0x80]), Refused),
        ("CONTINUATION from nowhere", "6.10", "GET", |s| frame(CONTINUATION, END_HEADERS, s, [0x88]), Refused),
        ("HTTP/1.1", "4.1", "GET", |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Refused),
    ])
    .await;
}

fn interim(stream: u32, count: usize) -> Vec<u8> {
    head(stream, END_HEADERS, b"103", &[(b"link", b"</a.css>; rel=preload")]).repeat(count)
}

/// RFC 9110 section 15.2.
#[tokio::test]
async fn every_number_of_interim_answers() {
    run(&[
        ("three", "8.1", "GET", |s| [interim(s, 3), well(s)].concat(), Passed(200, "well")),
        ("100", "8.1", "GET", |s| [interim(s, 100), well(s)].concat(), Passed(200, "well")),
        ("thousands", "8.1", "GET", |s| interim(s, 10_000), Refused),
    ])
    .await;
}

/// RFC 9110 sections 15.3.5 and 15.4.5: the status says that nothing follows. A client of HTTP/1.1 is
/// told no more than the head.
#[tokio::test]
async fn content_where_none_can_be_is_not_passed_on() {
    for status in ["204", "304"] {
        let (script, mut clients) = start().await;
        for h2 in [false, true] {
            *script.lock().unwrap() = Some(match status {
                "204" => |s| [head(s, END_HEADERS, b"204", &[]), data(s, b"abcd")].concat(),
                _ => |s| [head(s, END_HEADERS, b"304", &[]), data(s, b"abcd")].concat(),
            });
            let seen = clients.ask(h2, "GET", "/").await;
            let without = Seen::Answer(status.parse().unwrap(), String::new());
            assert_eq!(seen, if h2 { Seen::BrokenOff } else { without }, "{status}");
            let well = Seen::Answer(200, "well".to_owned());
            assert_eq!(clients.ask(h2, "GET", "/").await, well, "{status}: after");
        }
    }
}
