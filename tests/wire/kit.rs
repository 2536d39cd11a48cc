//! How a case is run: against a whole proxy, with a look at what both sides got.
//!
//! Behind the bytes of every case the same connection says [`AFTER`], so that a request behind a
//! refused one, or one that the proxy sees the end of elsewhere than the client does, shows. And
//! after every case another client says [`SENTINEL`] over the backend connection that the case has
//! used, so that bytes left over on that one show too.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::support::backend::{Backend, Reply};
use crate::support::proxy::{Proxy, pool_of};
use crate::support::wire::{Message, Wire, read_head, read_message};
use crate::support::{eventually, in_time};

/// What a client sends, which clause (RFC number and section) speaks about it, and what comes of it.
pub struct Case {
    name: &'static str,
    clause: &'static str,
    sent: &'static [u8],
    answer: Answer,
}

enum Answer {
    /// The bare status and a close; nothing reaches the backend.
    Refused(u16),
    /// Its body is refused on its way: the status and a close, and no whole request reaches the
    /// backend.
    Cut(u16),
    /// The client says no more in the middle of a request: no whole one reaches the backend.
    Unfinished,
    /// The proxy answers for itself; the connection goes on.
    Answered(u16),
    /// The backend gets what was sent.
    Passed,
    /// The backend gets this in its place.
    Normalised(&'static [u8]),
    /// The backend gets this; what stands behind it is refused.
    Behind(&'static [u8], u16),
}

pub const fn refused(
    name: &'static str,
    clause: &'static str,
    sent: &'static [u8],
    status: u16,
) -> Case {
    Case { name, clause, sent, answer: Answer::Refused(status) }
}

pub const fn cut(name: &'static str, clause: &'static str, sent: &'static [u8]) -> Case {
    cut_with(name, clause, sent, 400)
}

/// The same, with another status.
pub const fn cut_with(
    name: &'static str,
    clause: &'static str,
    sent: &'static [u8],
    status: u16,
) -> Case {
    Case { name, clause, sent, answer: Answer::Cut(status) }
}

pub const fn unfinished(name: &'static str, clause: &'static str, sent: &'static [u8]) -> Case {
    Case { name, clause, sent, answer: Answer::Unfinished }
}

pub const fn answered(
    name: &'static str,
    clause: &'static str,
    sent: &'static [u8],
    status: u16,
) -> Case {
    Case { name, clause, sent, answer: Answer::Answered(status) }
}

pub const fn passed(name: &'static str, clause: &'static str, sent: &'static [u8]) -> Case {
    Case { name, clause, sent, answer: Answer::Passed }
}

pub const fn normalised(
    name: &'static str,
    clause: &'static str,
    sent: &'static [u8],
    received: &'static [u8],
) -> Case {
    Case { name, clause, sent, answer: Answer::Normalised(received) }
}

pub const fn behind(
    name: &'static str,
    clause: &'static str,
    sent: &'static [u8],
    received: &'static [u8],
    status: u16,
) -> Case {
    Case { name, clause, sent, answer: Answer::Behind(received, status) }
}

const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const AFTER_AS_RECEIVED: &[u8] = b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n";
const SENTINEL: &[u8] = b"GET /sentinel HTTP/1.1\r\nHost: a\r\n\r\n";

/// One worker, so that all requests share the unused connections to the backend.
pub const PROXY: &str = r#"
[server]
workers = 1
[admin]
bind = "127.0.0.1:0"
[listeners.http]
bind = "127.0.0.1:0"
[listeners.http.limits]
max_header_bytes = "8KiB"
max_headers = 20
header_timeout = "3s"
keepalive_timeout = "3s"
"#;

/// Runs every case twice: with its bytes in one piece, and one by one.
pub async fn run(cases: &[Case]) {
    // It says what it was asked for, so that a mixed-up answer shows.
    let backend = Backend::start(|request| {
        let (method, target) = request.request_line();
        match method {
            "HEAD" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
            _ => Reply::ok(format!("{method} {target}")),
        }
    })
    .await;
    let proxy = Proxy::start_whole(&format!("{PROXY}{}", pool_of(&[&backend]))).await;
    let mut failed = Vec::new();
    for case in cases {
        for piece in [usize::MAX, 1] {
            let name = format!("{} (RFC {}), in pieces of {piece}", case.name, case.clause);
            println!("{name}");
            if !holds(run_one(case, piece, proxy.http(), &backend)).await {
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{} cases failed: {failed:#?}", failed.len());
}

/// Whether a case comes to its end without a panic, so that one which does not hides no other.
pub async fn holds(case: impl Future<Output = ()>) -> bool {
    let mut case = pin!(case);
    let outcome = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| case.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(false), |poll| poll.map(|()| true))
    });
    outcome.await
}

async fn run_one(case: &Case, piece: usize, proxy: SocketAddr, backend: &Backend) {
    let earlier = backend.requests().len();
    let mut client = Wire::connect(proxy).await;
    let unfinished = matches!(case.answer, Answer::Unfinished);
    let sent = if unfinished { case.sent.to_vec() } else { [case.sent, AFTER].concat() };
    for bytes in sent.chunks(piece.min(sent.len())) {
        if client.try_send(bytes).await.is_err() {
            break;
        }
    }
    if unfinished {
        client.finish().await;
    }
    let got = client.rest().await;
    let name = case.name;

    let wanted = check_answers(case, &got).await;
    let mut other = Wire::connect(proxy).await;
    other.send(SENTINEL).await;
    let answer = other.response().await.unwrap();
    assert_eq!(answer.text(), "GET /sentinel", "{name}: the backend connection is spoilt");
    let wanted: Vec<_> =
        wanted.iter().chain(&requests(SENTINEL).await).map(without_our_fields).collect();
    eventually("the backend has noted it all", async || {
        backend.requests().len() >= earlier + wanted.len()
    })
    .await;
    let received: Vec<_> = backend.requests()[earlier..].iter().map(without_our_fields).collect();
    assert_eq!(received, wanted, "{name}: what the backend got");
}

/// Checks what the client got; gives the requests that the backend must have got.
async fn check_answers(case: &Case, got: &[u8]) -> Vec<Message> {
    let name = case.name;
    let (mut received, status) = match case.answer {
        Answer::Unfinished => return Vec::new(),
        Answer::Refused(status) | Answer::Cut(status) | Answer::Answered(status) => {
            (Vec::new(), Some(status))
        }
        Answer::Passed => (requests(case.sent).await, None),
        Answer::Normalised(received) => (requests(received).await, None),
        Answer::Behind(received, status) => (requests(received).await, Some(status)),
    };
    let goes_on = match case.answer {
        Answer::Answered(_) => true,
        Answer::Passed | Answer::Normalised(_) => !ends(&requests(case.sent).await),
        _ => false,
    };
    let mut wanted: Vec<_> = received.iter().map(|request| (200, echo(request))).collect();
    wanted.extend(status.map(|status| (status, String::new())));
    if goes_on {
        received.extend(requests(AFTER_AS_RECEIVED).await);
        wanted.push((200, "GET /after".to_owned()));
    }
    let http10 = case.sent.windows(9).any(|nine| nine == b"HTTP/1.0\r");
    assert!(!http10 || !got.starts_with(b"HTTP/1.1 1"), "{name}: an interim answer to HTTP/1.0");
    let answers = responses(got, &received).await;
    let found = |answer: &Message| match answer.status() {
        200 => (200, answer.text()),
        status => (status, String::new()),
    };
    let found: Vec<_> = answers.iter().map(found).collect();
    assert_eq!(found, wanted, "{name}: what the client got");
    // Who speaks HTTP/1.0 knows without being told.
    if goes_on || status.is_some() {
        let last = answers.last().and_then(|answer| answer.field("connection"));
        assert_eq!(last, Some("close"), "{name}: what the client was told");
    }
    received
}

/// Whether one of these requests is the last of its connection (RFC 9112 section 9.3).
fn ends(requests: &[Message]) -> bool {
    requests.iter().any(|request| match request.field("connection") {
        Some(options) if options.contains("close") => true,
        options => request.start.ends_with("HTTP/1.0") && options != Some("keep-alive"),
    })
}

/// What the backend says to this request.
fn echo(request: &Message) -> String {
    match request.request_line() {
        ("HEAD", _) => String::new(),
        (method, target) => format!("{method} {target}"),
    }
}

/// The requests in these bytes, in the simplest reading.
async fn requests(mut bytes: &[u8]) -> Vec<Message> {
    let mut requests = Vec::new();
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    let mut read = Vec::new();
    while !bytes.is_empty() || !read.is_empty() {
        requests.push(read_message(&mut bytes, &mut read, true).await.unwrap());
        while read.starts_with(b"\r\n") {
            read.drain(..2);
        }
    }
    requests
}

/// The final responses in these bytes, to these requests as far as they matter: HEAD.
async fn responses(mut bytes: &[u8], requests: &[Message]) -> Vec<Message> {
    let mut responses: Vec<Message> = Vec::new();
    let mut read = Vec::new();
    while !bytes.is_empty() || !read.is_empty() {
        let head = requests.get(responses.len()).is_some_and(|r| r.request_line().0 == "HEAD");
        let response = if head {
            in_time("a head", read_head(&mut bytes, &mut read)).await
        } else {
            in_time("a response", read_message(&mut bytes, &mut read, false)).await
        };
        let response = response.unwrap();
        if response.status() >= 200 {
            responses.push(response);
        }
    }
    responses
}

/// A request but for what the proxy says about itself and the client's connection: first line,
/// fields in order of their names, body, trailers.
fn without_our_fields(request: &Message) -> String {
    let ours = |(name, value): &(String, String)| match name.as_str() {
        "x-forwarded-for" => value == "127.0.0.1",
        "x-forwarded-proto" => value == "http",
        "x-forwarded-port" | "x-forwarded-host" | "x-request-id" | "tidegate-hops" => true,
        _ => false,
    };
    let mut fields: Vec<_> = request.fields.iter().filter(|field| !ours(field)).collect();
    fields.sort();
    let body = String::from_utf8_lossy(&request.body);
    format!("{}\n{fields:?}\n{body}\n{:?}", request.start, request.trailers)
}
