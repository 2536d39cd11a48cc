//! Requests whose body is still on its way: `Expect`, early answers, back-pressure.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::{Proxy, pool_of, quiet_pool_of};
use crate::support::{eventually, every, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(EXPECTING).await;
    assert_eq!(client.head().await.unwrap().start, "HTTP/1.1 100 Continue");
    client.send("hello").await;
    assert_eq!(client.response().await.unwrap().text(), "one");
    assert_eq!(backend.requests()[0].text(), "hello");
    assert_eq!(backend.requests()[0].field("expect"), None);
}

#[tokio::test]
async fn a_client_that_asks_first_need_not_wait_for_the_answer() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(format!("{EXPECTING}hello")).await;
    let first = client.head().await.unwrap();
    if first.status() == 100 {
        assert_eq!(client.response().await.unwrap().text(), "one");
    } else {
        assert_eq!(client.bytes(3).await, b"one");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_early_costs_no_upload() {
    let backend = Backend::named("one").await;
    let limited =
        pool_of(&[&backend]).replace("pool = \"app\"", "pool = \"app\"\nmax_body = \"4\"");
    let proxy = Proxy::start(&limited).await;
    let mut client = proxy.connect().await;
    client.send(EXPECTING).await;
    assert_eq!(client.response().await.unwrap().status(), 413, "and no 100 before it");
    assert_eq!(client.rest().await, b"", "what may follow is not taken for a request");
}

#[tokio::test]
async fn a_request_that_nobody_can_take_costs_no_upload() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    backend.kill();
    let mut client = proxy.connect().await;
    client.send(EXPECTING).await;
    assert_eq!(client.response().await.unwrap().status(), 502, "and no 100 before it");
}

#[tokio::test]
async fn another_expectation_fails() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nExpect: wonders\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().status(), 417);
}

const UPLOAD: usize = 8 * 1024 * 1024;

/// A client that sends everything before it reads anything, to a backend that says no at once.
async fn early_answer(reply: Reply) -> (Vec<u8>, std::io::Result<()>) {
    let backend = Backend::at_head(move |_| reply.clone()).await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut client = proxy.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {UPLOAD}\r\n\r\n")).await;
    eventually("the backend has the head", async || backend.requests().len() == 1).await;
    let sent = client.try_send(vec![b'x'; UPLOAD]).await;
    let answer = client.rest().await;
    eventually("no slot is held", async || proxy.in_flight(&backend) == 0).await;
    eventually("the connection is closed", async || backend.open_connections() == 0).await;
    (answer, sent)
}

#[tokio::test]
async fn an_answer_in_the_middle_of_an_upload_arrives_whole() {
    let no = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let (answer, sent) = early_answer(Reply::raw(no).then(Step::Close)).await;
    sent.expect("the client can send it all, and then read");
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 403 ") && text.ends_with("\r\n\r\nno"), "{text}");
}

#[tokio::test]
async fn an_answer_from_a_backend_that_keeps_its_connection_open_arrives_too() {
    let no = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let (answer, sent) = early_answer(Reply::raw(no).then(Step::Swallow)).await;
    sent.expect("the client can send it all, and then read");
    assert!(answer.ends_with(b"\r\n\r\nno"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn an_answer_in_the_middle_of_an_upload_ends_the_connection() {
    let no = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let (answer, _) = early_answer(Reply::raw(no).then(Step::Swallow)).await;
    let text = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
}

#[tokio::test]
async fn a_backend_that_answers_and_resets_still_gets_its_answer_through() {
    let no = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let reply = Reply::raw(no).then(Step::Take(64 * 1024)).then(Step::Close);
    let (answer, _) = early_answer(reply).await;
    assert!(answer.ends_with(b"\r\n\r\nno"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn an_answer_may_stream_while_the_upload_goes_on() {
    let backend = Backend::at_head(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
            .then(Step::Take(6))
            .then(Step::Send(b"two".to_vec()))
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc").await;
    assert!(client.until("one").await.starts_with("HTTP/1.1 200 "));
    client.send("def").await;
    assert_eq!(client.bytes(3).await, b"two");
}

/// More than any socket buffers.
const MUCH: u64 = 256 * 1024 * 1024;
/// As much as may be underway where one side takes nothing: four socket buffers of the kernel's
/// choice, and our own.
const UNDERWAY: u64 = 64 * 1024 * 1024;

/// Waits until a count stands still.
async fn settled(count: impl Fn() -> u64) -> u64 {
    let (mut last, mut same) = (count(), 0);
    let mut looks = every(std::time::Duration::from_millis(10));
    while same < 20 {
        looks.tick().await;
        let now = count();
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
    }
    last
}

#[tokio::test]
async fn a_backend_that_does_not_read_holds_the_client_back() {
    let backend = Backend::at_head(|_| {
        Reply::default()
            .then(Step::Hold)
            .then(Step::Take(MUCH))
            .then(Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()))
    })
    .await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let (stream, _) = proxy.connect().await.into_stream();
    let (mut from, mut to) = tokio::io::split(stream);
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = std::sync::Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        let head = format!("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {MUCH}\r\n\r\n");
        to.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..MUCH / piece.len() as u64 {
            to.write_all(&piece).await.unwrap();
            count.fetch_add(piece.len() as u64, std::sync::atomic::Ordering::SeqCst);
        }
        to
    });
    let read = || sent.load(std::sync::atomic::Ordering::SeqCst);
    let underway = in_time("the client stops", settled(read)).await;
    assert!(underway < UNDERWAY, "{underway} bytes underway");
    backend.release();
    let _to = in_time("the rest of the upload", sending).await.unwrap();
    let mut head = [0; 12];
    in_time("the answer", from.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    assert_eq!(backend.taken(), MUCH);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_backend_back() {
    let backend = Backend::start(|_| {
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n"))
            .then(Step::Pour(MUCH))
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let underway = in_time("the backend stops", settled(|| backend.poured())).await;
    assert!(underway < UNDERWAY, "{underway} bytes underway");
    client.head().await.unwrap();
    let (mut stream, early) = client.into_stream();
    let mut left = MUCH - early.len() as u64;
    let mut piece = vec![0; 256 * 1024];
    while left > 0 {
        let read = in_time("the rest", stream.read(&mut piece)).await.unwrap();
        assert_ne!(read, 0, "{left} bytes are missing");
        left -= read as u64;
    }
}

#[tokio::test]
async fn events_arrive_one_by_one_as_the_backend_sends_them() {
    let event = |number: u32| {
        let text = format!("data: {number}\n\n");
        Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes())
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    let reply =
        (0..5).fold(Reply::raw(head), |reply, number| reply.then(Step::Hold).then(event(number)));
    let reply = reply.then(Step::Send(b"0\r\n\r\n".to_vec()));
    let backend = Backend::start(move |_| reply.clone()).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET /events HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().status(), 200, "before any event");
    for number in 0..5 {
        backend.release();
        client.until(&format!("data: {number}\n\n")).await;
    }
    client.until("0\r\n\r\n").await;
}
