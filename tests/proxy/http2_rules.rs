//! The rules of RFC 9113 for what a client sends, case by case, by raw frames: what the client is
//! answered, and what the backend got.
//!
//! A malformed request is a stream error (section 8.1.1), and an endpoint may take any stream error
//! for a connection error (section 5.4.2, by section 5.4.1). We do so only where the RFC does.

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::backend::{Backend, Reply};
use crate::support::h2_wire::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Wire, HEADERS, Outcome, PADDED,
    PING, PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, Text, WHOLE, WINDOW_UPDATE,
    WITH_PRIORITY, ask, block, frame, get, request,
};
use crate::support::proxy::{HTTPS, Proxy, pool_at, pool_of};
use crate::support::{eventually, in_time};

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// What stream 1 comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The connection ends with this code.
    Connection(u32),
    /// The stream is reset with this code; the connection goes on.
    Stream(u32),
    /// The stream is answered with this status by us; the connection goes on.
    Refused(u16),
    /// The backend gets the request, once, and answers it.
    Passed,
}

use Answer::{Connection, Passed, Refused, Stream};

/// Name, clause of RFC 9113 (or another), what is sent, the answer.
type Case = (&'static str, &'static str, Vec<u8>, Answer);

/// Runs a table, each case on a connection of its own. Gives what the backend received of those
/// that passed.
async fn run(cases: Vec<Case>) -> Vec<(&'static str, crate::support::wire::Message)> {
    let backend = Backend::start(|request| Reply::ok(&request.body)).await;
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_of(&[&backend]))).await;
    let (mut wrong, mut passed) = (Vec::new(), Vec::new());
    for (name, clause, bytes, expected) in cases {
        let before = backend.requests().len();
        let mut client = H2Wire::connect(proxy.address("https")).await;
        let _ = client.try_send(bytes).await;
        let answer = match client.outcome(1).await {
            Outcome::Status(200) => Passed,
            Outcome::Status(status) => Refused(status),
            Outcome::Reset(code) => Stream(code),
            Outcome::GoAway(code) => Connection(code),
            Outcome::Closed => Connection(NO_ERROR),
        };
        let received = backend.requests().split_off(before);
        let arrived = received.len();
        passed.extend(received.into_iter().map(|message| (name, message)));
        if answer != expected || arrived != usize::from(expected == Passed) {
            wrong.push(format!("{name} ({clause}): {answer:?}, {arrived} passed"));
        }
        // What ends a stream does not end the connection.
        if !matches!(answer, Connection(_)) {
            client.send(ask(101, "/after")).await;
            let after = client.outcome(101).await;
            if after != Outcome::Status(200) {
                wrong.push(format!("{name} ({clause}): then {after:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (name, message) in &passed {
        whole(name, &message.raw_head);
    }
    passed
}

/// A head is lines that end in CRLF, the first one a request line, and an empty one at the end.
fn whole(name: &str, head: &[u8]) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("an end");
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for (place, line) in lines.iter().enumerate() {
        let line = if place + 1 == lines.len() { line } else { &line[..line.len() - 1] };
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | 0)), "{name}: {line:?}");
        let is_request = line.windows(5).any(|word| word == b"HTTP/");
        assert_eq!(is_request, place == 0, "{name}: {line:?}");
    }
}

fn headers(flags: u8, fields: &[(Text<'_>, Text<'_>)]) -> Vec<u8> {
    frame(HEADERS, flags, 1, block(fields))
}

/// A whole block as it is.
fn headers_of(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, block)
}

/// A whole GET with these fields.
fn with(fields: &[(Text<'_>, Text<'_>)]) -> Vec<u8> {
    headers(WHOLE, &[&get("/")[..], fields].concat())
}

/// A POST with these fields, without its end.
fn post(fields: &[(Text<'_>, Text<'_>)]) -> Vec<u8> {
    headers(END_HEADERS, &[&request(b"POST", b"/")[..], fields].concat())
}

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

#[tokio::test]
async fn pseudo_header_fields() {
    let without = |name: &[u8]| {
        let fields: Vec<_> = get("/").into_iter().filter(|(field, _)| *field != name).collect();
        headers(WHOLE, &fields)
    };
    let replaced = |name: &'static [u8], value: &'static [u8]| {
        let fields: Vec<_> = get("/")
            .into_iter()
            .map(|(field, old)| (field, if field == name { value } else { old }))
            .collect();
        headers(WHOLE, &fields)
    };
    let mut late = get("/");
    late.insert(0, (b"x", b"y"));
    let cases = vec![
        ("one after a field", "8.3", headers(WHOLE, &late), Stream(PROTOCOL_ERROR)),
        ("no :method", "8.3.1", without(b":method"), Stream(PROTOCOL_ERROR)),
        ("no :scheme", "8.3.1", without(b":scheme"), Stream(PROTOCOL_ERROR)),
        ("no :path", "8.3.1", without(b":path"), Stream(PROTOCOL_ERROR)),
        ("neither :authority nor Host", "8.3.1", without(b":authority"), Refused(400)),
        ("two :method", "8.3", with(&[(b":method", b"GET")]), Stream(PROTOCOL_ERROR)),
        ("two :path", "8.3", with(&[(b":path", b"/")]), Stream(PROTOCOL_ERROR)),
        ("two :authority", "8.3", with(&[(b":authority", b"a")]), Stream(PROTOCOL_ERROR)),
        ("two :scheme", "8.3", with(&[(b":scheme", b"https")]), Stream(PROTOCOL_ERROR)),
        ("an unknown one", "8.3", with(&[(b":x", b"y")]), Stream(PROTOCOL_ERROR)),
        ("one of responses", "8.3", with(&[(b":status", b"200")]), Stream(PROTOCOL_ERROR)),
        ("an upper-case one", "8.3", with(&[(b":Path", b"/")]), Stream(PROTOCOL_ERROR)),
        ("an empty :path", "8.3.1", replaced(b":path", b""), Stream(PROTOCOL_ERROR)),
        ("an empty :method", "8.3.1", replaced(b":method", b""), Stream(PROTOCOL_ERROR)),
        ("an empty :scheme", "8.3.1", replaced(b":scheme", b""), Refused(400)),
        ("an empty :authority", "8.3.1", replaced(b":authority", b""), Stream(PROTOCOL_ERROR)),
        ("a :path without a slash", "8.3.1", replaced(b":path", b"a"), Stream(PROTOCOL_ERROR)),
        ("an asterisk for a GET", "8.3.1", replaced(b":path", b"*"), Refused(400)),
        ("an asterisk for OPTIONS", "8.3.1", headers(WHOLE, &request(b"OPTIONS", b"*")), Passed),
        ("an absolute :path", "8.3.1", replaced(b":path", b"http://b/"), Stream(PROTOCOL_ERROR)),
        ("a :scheme that is not ours", "8.3.1", replaced(b":scheme", b"ftp"), Refused(400)),
        ("the scheme of plain text", "8.3.1", replaced(b":scheme", b"http"), Passed),
        (":protocol without CONNECT", "4 of RFC 8441", with(&[(b":protocol", b"websocket")]), {
            Stream(PROTOCOL_ERROR)
        }),
        (
            "CONNECT with :path",
            "8.5",
            headers(WHOLE, &request(b"CONNECT", b"/")),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "CONNECT",
            "8.5",
            headers(WHOLE, &[(b":method", b"CONNECT"), (b":authority", b"localhost:80")]),
            Refused(405),
        ),
    ];
    run(cases).await;
}

#[tokio::test]
async fn the_host() {
    let host = |authority: Option<&'static [u8]>, hosts: &[&'static [u8]]| {
        let mut fields: Vec<(Text<'_>, Text<'_>)> =
            vec![(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")];
        fields.extend(authority.map(|authority| (&b":authority"[..], authority)));
        fields.extend(hosts.iter().map(|host| (&b"host"[..], *host)));
        headers(WHOLE, &fields)
    };
    let local = Some(&b"localhost"[..]);
    let passed = run(vec![
        ("Host alone", "8.3.1", host(None, &[b"localhost"]), Passed),
        ("the same in both", "8.3.1", host(local, &[b"localhost"]), Passed),
        ("the same but for the port", "8.3.1", host(local, &[b"LOCALHOST:443"]), Passed),
        ("another in Host", "8.3.1", host(local, &[b"other"]), Refused(400)),
        ("another port in Host", "8.3.1", host(local, &[b"localhost:80"]), Refused(400)),
        ("two Hosts", "8.3.1", host(None, &[b"localhost", b"localhost"]), Refused(400)),
        ("an empty Host", "8.3.1", host(None, &[b""]), Refused(400)),
        ("user info", "8.3.1", host(Some(b"a@localhost"), &[]), Refused(400)),
        ("user info and password", "8.3.1", host(Some(b"a:b@localhost"), &[]), Refused(400)),
        ("user info in Host", "8.3.1", host(None, &[b"a@localhost"]), Refused(400)),
        ("a path in Host", "8.3.1", host(None, &[b"localhost/a"]), Refused(400)),
        ("a space in Host", "8.3.1", host(None, &[b"local host"]), Refused(400)),
        ("high bytes in Host", "8.3.1", host(None, &[b"localhost\xff"]), Refused(400)),
        ("a bad port", "8.3.1", host(None, &[b"localhost:x"]), Refused(400)),
        ("a path in :authority", "8.3.1", host(Some(b"localhost/a"), &[]), Stream(PROTOCOL_ERROR)),
        ("a space in :authority", "8.3.1", host(Some(b"local host"), &[]), Stream(PROTOCOL_ERROR)),
        ("CRLF in :authority", "8.3.1", host(Some(b"localhost\r\nx: y"), &[]), {
            Stream(PROTOCOL_ERROR)
        }),
        ("NUL in :authority", "8.3.1", host(Some(b"localhost\0"), &[]), Stream(PROTOCOL_ERROR)),
        ("a fragment in :authority", "8.3.1", host(Some(b"localhost#a"), &[]), {
            Stream(PROTOCOL_ERROR)
        }),
        ("high bytes in :authority", "8.3.1", host(Some("h\u{f6}st".as_bytes()), &[]), {
            Stream(PROTOCOL_ERROR)
        }),
    ])
    .await;
    for (name, message) in passed {
        assert_eq!(message.all("host").len(), 1, "{name}");
    }
}

#[tokio::test]
async fn fields() {
    let malformed = [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
    ];
    let mut cases: Vec<Case> = malformed
        .iter()
        .map(|(name, value)| {
            let bytes = with(&[(name.as_bytes(), value.as_bytes())]);
            (*name, "8.2.2", bytes, Stream(PROTOCOL_ERROR))
        })
        .collect();
    let long = [b'a'; 300];
    cases.extend([
        ("te: trailers", "8.2.2", with(&[(b"te", b"trailers")]), Passed),
        ("upper case", "8.2.1", with(&[(b"X-A", b"1")]), Stream(PROTOCOL_ERROR)),
        ("an empty name", "8.2.1", with(&[(b"", b"1")]), Stream(PROTOCOL_ERROR)),
        ("a space in a name", "8.2.1", with(&[(b"x a", b"1")]), Stream(PROTOCOL_ERROR)),
        ("a colon in a name", "8.2.1", with(&[(b"x:a", b"1")]), Stream(PROTOCOL_ERROR)),
        ("CRLF in a name", "8.2.1", with(&[(b"x\r\na", b"1")]), Stream(PROTOCOL_ERROR)),
        ("NUL in a name", "8.2.1", with(&[(b"x\0", b"1")]), Stream(PROTOCOL_ERROR)),
        ("high bytes in a name", "8.2.1", with(&[(b"x\xff", b"1")]), Stream(PROTOCOL_ERROR)),
        ("CR in a value", "8.2.1", with(&[(b"x", b"1\r2")]), Stream(PROTOCOL_ERROR)),
        ("LF in a value", "8.2.1", with(&[(b"x", b"1\n2")]), Stream(PROTOCOL_ERROR)),
        (
            "a request in a value",
            "8.2.1",
            with(&[(b"x", b"1\r\n\r\nGET /b HTTP/1.1\r\nhost: b\r\n\r\n")]),
            Stream(PROTOCOL_ERROR),
        ),
        ("NUL in a value", "8.2.1", with(&[(b"x", b"1\x002")]), Stream(PROTOCOL_ERROR)),
        ("space before a value", "8.2.1", with(&[(b"x", b" 1")]), Refused(400)),
        ("a tab behind a value", "8.2.1", with(&[(b"x", b"1\t")]), Refused(400)),
        ("a value of space", "8.2.1", with(&[(b"x", b" ")]), Refused(400)),
        ("an empty value", "8.2.1", with(&[(b"x", b"")]), Passed),
        ("high bytes in a value", "5.5 of RFC 9110", with(&[(b"x", b"\xe4\xff")]), Passed),
        ("a long value", "8.2.1", with(&[(b"x", &long)]), Passed),
        ("content_length", "5.1 of RFC 9110", with(&[(b"content_length", b"5")]), Refused(400)),
        (
            "transfer_encoding",
            "5.1 of RFC 9110",
            with(&[(b"transfer_encoding", b"chunked")]),
            Refused(400),
        ),
        ("an odd expectation", "10.1.1 of RFC 9110", with(&[(b"expect", b"magic")]), Refused(417)),
        ("an HTTP/2 upgrade", "3.2", with(&[(b"http2-settings", b"AAMAAABk")]), Passed),
    ]);
    for (name, message) in run(cases).await {
        for gone in ["te", "connection", "http2-settings", "transfer-encoding", "upgrade"] {
            assert_eq!(message.field(gone), None, "{name}");
        }
    }
}

#[tokio::test]
async fn more_fields_than_allowed() {
    let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    let many: Vec<(Text<'_>, Text<'_>)> = names.iter().map(|n| (n.as_bytes(), &b"1"[..])).collect();
    let crumbs = [(&b"cookie"[..], &b"a=b"[..]); 150];
    let large = vec![b'a'; 12 * 1024];
    let large: Vec<(Text<'_>, Text<'_>)> =
        [&b"a"[..], b"b", b"c"].map(|name| (name, &large[..])).to_vec();
    let fields = block(&[&get("/")[..], &large].concat());
    let large = [
        frame(HEADERS, END_STREAM, 1, &fields[..16 * 1024]),
        frame(CONTINUATION, 0, 1, &fields[16 * 1024..32 * 1024]),
        frame(CONTINUATION, END_HEADERS, 1, &fields[32 * 1024..]),
    ]
    .concat();
    run(vec![
        ("100 fields", "10.5.1", with(&many[..100]), Passed),
        ("101 fields", "10.5.1", with(&many), Refused(431)),
        ("one cookie in many fields", "8.2.3", with(&crumbs), Passed),
        ("a head of 36 KiB", "10.5.1", large, Refused(431)),
    ])
    .await;
}

#[tokio::test]
async fn what_could_become_another_request() {
    let path = |path: &'static [u8]| headers(WHOLE, &request(b"GET", path));
    let method = |method: &'static [u8]| headers(WHOLE, &request(method, b"/"));
    let passed = run(vec![
        ("a space in :path", "8.3.1", path(b"/ HTTP/1.1"), Stream(PROTOCOL_ERROR)),
        (
            "a request in :path",
            "8.3.1",
            path(b"/ HTTP/1.1\r\nhost: a\r\n\r\nGET /b"),
            Stream(PROTOCOL_ERROR),
        ),
        ("CR in :path", "8.3.1", path(b"/\r"), Stream(PROTOCOL_ERROR)),
        ("LF in :path", "8.3.1", path(b"/\n"), Stream(PROTOCOL_ERROR)),
        ("LF in the query", "8.3.1", path(b"/?\n"), Stream(PROTOCOL_ERROR)),
        ("a tab in :path", "8.3.1", path(b"/\t"), Stream(PROTOCOL_ERROR)),
        ("NUL in :path", "8.3.1", path(b"/\0"), Stream(PROTOCOL_ERROR)),
        ("DEL in :path", "8.3.1", path(b"/\x7f"), Stream(PROTOCOL_ERROR)),
        ("UTF-8 in :path", "8.3.1", path("/\u{e4}".as_bytes()), Refused(400)),
        ("UTF-8 in the query", "8.3.1", path("/?\u{e4}".as_bytes()), Refused(400)),
        ("other high bytes in :path", "8.3.1", path(b"/\xff"), Stream(PROTOCOL_ERROR)),
        ("quotes in :path", "8.3.1", path(b"/\""), Refused(400)),
        ("a backslash in :path", "8.3.1", path(b"/a\\b"), Refused(400)),
        ("dot segments", "8.3.1", path(b"/a/../b"), Refused(400)),
        // It is for the client alone.
        ("a fragment in :path", "8.3.1", path(b"/a#b"), Refused(400)),
        ("a colon in :path", "8.3.1", path(b"/a:b"), Passed),
        ("user info in :path", "8.3.1", path(b"/a@b"), Passed),
        ("two slashes", "8.3.1", path(b"//a/b"), Passed),
        ("an unknown :method", "8.3.1", method(b"BREW"), Passed),
        ("a space in :method", "8.3.1", method(b"GET /b HTTP/1.1"), Stream(PROTOCOL_ERROR)),
        ("CRLF in :method", "8.3.1", method(b"GET\r\n"), Stream(PROTOCOL_ERROR)),
        ("NUL in :method", "8.3.1", method(b"GET\0"), Stream(PROTOCOL_ERROR)),
        ("a colon in :method", "8.3.1", method(b"GET:"), Stream(PROTOCOL_ERROR)),
        ("high bytes in :method", "8.3.1", method(b"GET\xff"), Stream(PROTOCOL_ERROR)),
        (
            "a request in :scheme",
            "8.3.1",
            headers(
                WHOLE,
                &[
                    (b":method", b"GET"),
                    (b":scheme", b"http://a/b HTTP/1.1\r\n\r\n"),
                    (b":authority", b"localhost"),
                    (b":path", b"/"),
                ],
            ),
            Stream(PROTOCOL_ERROR),
        ),
    ])
    .await;
    let targets: Vec<String> = passed.into_iter().map(|(_, message)| message.start).collect();
    assert_eq!(
        targets,
        ["GET /a:b HTTP/1.1", "GET /a@b HTTP/1.1", "GET //a/b HTTP/1.1", "BREW / HTTP/1.1",]
    );
}

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

#[tokio::test]
async fn a_wrong_preface() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_of(&[&backend]))).await;
    let mut client = H2Wire::silent(proxy.address("https")).await;
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(client.outcome(1).await, Outcome::Closed);
    assert!(backend.requests().is_empty());
}
