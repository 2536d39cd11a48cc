//! What is nearly a request, through the whole proxy: nothing panics, and whatever reaches the backend
//! is a request by the strictest reading (RFC 9110 sections 5.5 and 5.6.2, RFC 9112 section 3), and is
//! answered as one.

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::kit::PROXY;
use crate::mutations::mutated;
use crate::support::backend::{Backend, Reply};
use crate::support::proxy::{Proxy, pool_of};
use crate::support::wire::{Message, Wire};
use crate::support::{eventually, in_time};

const ROUNDS: usize = 400;

const REQUESTS: [&[u8]; 6] = [
    b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a:80\r\nContent-Length: 10\r\n\r\n0123456789",
    b"PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"GET http://a/b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\n",
    b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nPOST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /old HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nCookie: a=b; c=\"d\"\r\n\r\n",
];

#[tokio::test]
async fn what_reaches_the_backend_is_a_request_and_is_answered_as_one() {
    let backend = Backend::start(|_| Reply::ok("done")).await;
    let proxy = Proxy::start_whole(&format!("{PROXY}{}", pool_of(&[&backend]))).await;
    let mut rng = Rng::with_seed(19);
    let mut reached = 0;
    for round in 0..ROUNDS {
        let sent = mutated(REQUESTS[round % REQUESTS.len()], &mut rng);
        let shown = String::from_utf8_lossy(&sent);
        let got = say(&proxy, &sent).await;
        let answers = got.windows(4).filter(|four| *four == b"done").count();
        eventually(&format!("{answers} of {shown:?} reached the backend"), async || {
            backend.requests().len() == reached + answers
        })
        .await;
        for request in &backend.requests()[reached..] {
            assert!(is_strict(request), "{shown:?} became {request:?}");
        }
        reached += answers;
    }
    assert!(reached > ROUNDS / 10, "only {reached} were passed");
    assert_eq!(proxy.metric("tidegate_worker_panics_total", &[]), 0.0);
}

/// Sends it and nothing more, and gives all that comes back.
async fn say(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let mut client = Wire::connect(proxy.http()).await;
    let _ = client.try_send(bytes).await;
    let (mut stream, mut got) = client.into_stream();
    // It may have been closed already.
    let _ = stream.shutdown().await;
    let _ = in_time("the end", stream.read_to_end(&mut got)).await;
    got
}

fn is_strict(request: &Message) -> bool {
    let head = &request.raw_head[..request.raw_head.len() - 4];
    let mut lines =
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let words: Vec<&[u8]> = lines.next().unwrap_or_default().split(|byte| *byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = words[..] else { return false };
    let lone = |name| request.all(name).len() <= 1;
    is_token(method)
        && matches!(target.first(), Some(b'/' | b'*'))
        && !target.iter().any(u8::is_ascii_control)
        && lines.all(is_field)
        && request.all("host").len() == 1
        && lone("content-length")
        && lone("transfer-encoding")
        && request.all("content-length").len() + request.all("transfer-encoding").len() <= 1
}

fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = line.split_at(colon);
    is_token(name) && !value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
}

fn is_token(bytes: &[u8]) -> bool {
    let is_one = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_one)
}
