//! The rules of RFC 9113 for what a client sends, case by case, by raw frames: what the client is
//! answered, and what the backend got.
//!
//! A malformed request is a stream error (section 8.1.1), and an endpoint may take any stream error
//! for a connection error (section 5.4.2, by section 5.4.1). We do so only where the RFC does.

mod content;
mod fields;
mod frames;

use crate::support::backend::{Backend, Reply};
use crate::support::h2_wire::{
    END_HEADERS, H2Wire, HEADERS, Outcome, Text, WHOLE, ask, block, frame, get, request,
};
use crate::support::proxy::{HTTPS, Proxy, pool_of};

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
