//! Idle connections: they give their buffers back, and nobody notices.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::{HTTPS, Proxy, pool_of};
use crate::support::wire::Wire;
use crate::support::{eventually, in_time};

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

/// A proxy that parks soon, with these limits on both of its listeners.
async fn with_limits(backend: &Backend, limits: &str) -> Proxy {
    parking_after(SOON, backend, limits).await
}

async fn parking_after(park_after: Duration, backend: &Backend, limits: &str) -> Proxy {
    let pool = pool_of(&[backend]);
    let config = format!(
        "[listeners.http.limits]\n{limits}\n{HTTPS}[listeners.https.limits]\n{limits}\n{pool}"
    );
    Proxy::parking(park_after, &config).await
}

async fn before(backend: &Backend) -> Proxy {
    with_limits(backend, "").await
}

async fn secure(proxy: &Proxy) -> Wire {
    let config = proxy.client_tls(&[b"http/1.1"]);
    Wire::connect_tls(proxy.address("https"), config, "localhost").await.unwrap()
}

/// Waits until so many connections are parked. A new one is, until its first request.
async fn parked(proxy: &Proxy, count: usize) {
    let now = || proxy.metric("tidegate_worker_parked_connections", &[]);
    eventually("so many are parked", async || now() == count as f64).await;
}

/// A connection that has been parked after an answer.
async fn parked_client(proxy: &Proxy) -> Wire {
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/").await.status(), 200);
    parked(proxy, 1).await;
    client
}

fn connections(proxy: &Proxy) -> f64 {
    proxy.metric("tidegate_listener_connections", &[])
}

#[tokio::test]
async fn a_parked_connection_answers_its_next_request() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let mut client = proxy.connect().await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.text(), "one");
        parked(&proxy, 1).await;
    }
}

#[tokio::test]
async fn so_does_one_with_tls() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let mut client = secure(&proxy).await;
    for _ in 0..5 {
        let answer = client.ask("GET", "/", &[("Host", "localhost")], "").await;
        assert_eq!(answer.text(), "one");
        parked(&proxy, 1).await;
    }
}

#[tokio::test]
async fn a_body_that_comes_with_the_head_or_behind_it_arrives_in_full() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let mut client = parked_client(&proxy).await;
    let body = "0123456789".repeat(20_000);
    client.ask("POST", "/", &[], &body).await;
    parked(&proxy, 1).await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123").await;
    client.send("456789").await;
    assert_eq!(client.response().await.unwrap().status(), 200);
    let bodies: Vec<_> = backend.requests().into_iter().map(|request| request.body.len()).collect();
    assert_eq!(bodies, [0, body.len(), 10]);
}

#[tokio::test]
async fn requests_that_come_together_are_all_answered() {
    let backend = Backend::start(|request| Reply::ok(request.request_line().1)).await;
    let proxy = before(&backend).await;
    let mut client = parked_client(&proxy).await;
    client
        .send("GET /a HTTP/1.1\r\nHost: test\r\n\r\nGET /b HTTP/1.1\r\nHost: test\r\n\r\nGE")
        .await;
    assert_eq!(client.response().await.unwrap().text(), "/a");
    assert_eq!(client.response().await.unwrap().text(), "/b");
    parked(&proxy, 1).await;
    client.send("T /c HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().text(), "/c");
}

#[tokio::test]
async fn a_head_that_is_parked_in_its_middle_loses_nothing() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let mut client = proxy.connect().await;
    let one = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    client.send(format!("{one}GET /next HTTP/1.1\r\nHost: test\r\nX-One: 1\r\nX-T")).await;
    assert_eq!(client.response().await.unwrap().status(), 200);
    parked(&proxy, 1).await;
    client.send("wo: 2\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().status(), 200);
    let asked = &backend.requests()[1];
    assert_eq!(asked.start, "GET /next HTTP/1.1");
    assert_eq!([asked.field("x-one"), asked.field("x-two")], [Some("1"), Some("2")]);
}

#[tokio::test]
async fn empty_lines_behind_a_request_are_no_part_of_the_next() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n\r\n").await;
        assert_eq!(client.response().await.unwrap().text(), "one");
        parked(&proxy, 1).await;
    }
}

#[tokio::test]
async fn half_a_head_is_kept() {
    let backend = Backend::start(|request| Reply::ok(request.request_line().1)).await;
    let proxy = before(&backend).await;
    let mut client = proxy.connect().await;
    client.send("GET /one HTTP/1.1\r\nHost: test\r\n\r\nGET /two HT").await;
    assert_eq!(client.response().await.unwrap().text(), "/one");
    parked(&proxy, 1).await;
    client.send("TP/1.1\r\nHo").await;
    client.send("st: test\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().text(), "/two");
}

#[tokio::test]
async fn half_a_head_gets_no_new_time() {
    let (park_after, header_timeout) = (Duration::from_secs(1), Duration::from_secs(2));
    let backend = Backend::named("one").await;
    let proxy = parking_after(park_after, &backend, "header_timeout = \"2s\"").await;
    let mut client = proxy.connect().await;
    client.get("/").await;
    let began = Instant::now();
    client.send("GET / HT").await;
    parked(&proxy, 1).await;
    assert_eq!(client.response().await.unwrap().status(), 408);
    let took = began.elapsed();
    assert!(took >= header_timeout && took < park_after + header_timeout, "{took:?}");
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_forbidden_head_is_refused() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let mut client = parked_client(&proxy).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().status(), 400);
    assert_eq!(client.rest().await, b"");
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn who_waits_for_an_answer_is_not_parked() {
    let backend = Backend::start(|request| match request.request_line().1 {
        "/late" => Reply::ok("late").after(Step::Hold),
        _ => Reply::ok("one"),
    })
    .await;
    let proxy = before(&backend).await;
    let mut waiting = proxy.connect().await;
    waiting.send("GET /late HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || backend.requests().len() == 1).await;
    let mut idle = parked_client(&proxy).await;
    // Both were idle for as long; one of them is parked.
    assert_eq!(connections(&proxy), 2.0);
    backend.release();
    assert_eq!(waiting.response().await.unwrap().text(), "late");
    assert_eq!(idle.get("/").await.text(), "one");
}

#[tokio::test]
async fn keepalive_timeout_ends_it_without_a_word() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "keepalive_timeout = \"500ms\"").await;
    let began = Instant::now();
    let mut client = parked_client(&proxy).await;
    assert_eq!(client.rest().await, b"");
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn under_tls_it_ends_with_the_proper_goodbye() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "keepalive_timeout = \"500ms\"").await;
    let mut client = secure(&proxy).await;
    client.ask("GET", "/", &[("Host", "localhost")], "").await;
    parked(&proxy, 1).await;
    let (mut stream, _) = client.into_stream();
    let read = in_time("the end", stream.read_to_end(&mut Vec::new())).await;
    assert_eq!(read.unwrap(), 0, "an error without close_notify");
}

#[tokio::test]
async fn an_old_one_ends_with_its_next_answer() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "keepalive_max_age = \"10ms\"").await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let first = client.response().await.unwrap();
    if first.field("connection").is_none() {
        parked(&proxy, 1).await;
        assert_eq!(client.get("/").await.field("connection"), Some("close"));
    }
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_stop_ends_them_at_once() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let mut plain = parked_client(&proxy).await;
    let mut secured = secure(&proxy).await;
    secured.ask("GET", "/", &[("Host", "localhost")], "").await;
    parked(&proxy, 2).await;
    proxy.running().drain(LONG);
    assert_eq!(plain.rest().await, b"");
    assert_eq!(secured.rest().await, b"");
    eventually("all workers have ended", async || proxy.running().has_drained()).await;
}

#[tokio::test]
async fn a_stop_waits_for_a_head_that_has_begun() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\nGET / HTTP").await;
    client.response().await.unwrap();
    parked(&proxy, 1).await;
    proxy.running().drain(LONG);
    client.send("/1.1\r\nHost: test\r\n\r\n").await;
    let last = client.response().await.unwrap();
    assert_eq!((last.status(), last.field("connection")), (200, Some("close")));
    assert_eq!(client.rest().await, b"");
    eventually("all workers have ended", async || proxy.running().has_drained()).await;
}

#[tokio::test]
async fn the_next_request_sees_a_new_configuration() {
    let (old, new) = (Backend::named("old").await, Backend::named("new").await);
    let proxy = before(&old).await;
    let mut client = parked_client(&proxy).await;
    proxy.reload(&format!("{HTTPS}{}", pool_of(&[&new]))).await.unwrap();
    assert_eq!(client.get("/").await.text(), "new");
}

#[tokio::test]
async fn a_shorter_time_holds_for_those_that_are_idle_already() {
    let backend = Backend::named("one").await;
    let limits = |time| {
        format!("{}[listeners.http.limits]\nkeepalive_timeout = \"{time}\"\n", pool_of(&[&backend]))
    };
    let proxy = Proxy::start(&limits("1h")).await;
    let mut client = parked_client(&proxy).await;
    proxy.reload(&limits("100ms")).await.unwrap();
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_shorter_time_holds_for_those_that_become_idle_later() {
    let backend = Backend::start(|_| Reply::ok("held").after(Step::Hold)).await;
    let limits = |time| {
        format!("{}[listeners.http.limits]\nkeepalive_timeout = \"{time}\"\n", pool_of(&[&backend]))
    };
    let proxy = Proxy::start(&limits("1h")).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("asked", async || backend.requests().len() == 1).await;
    proxy.reload(&limits("100ms")).await.unwrap();
    backend.release();
    assert_eq!(client.response().await.unwrap().text(), "held");
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn they_end_with_their_listener() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let mut client = secure(&proxy).await;
    client.ask("GET", "/", &[("Host", "localhost")], "").await;
    parked(&proxy, 1).await;
    proxy.reload(&pool_of(&[&backend])).await.unwrap();
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn they_count_as_connections() {
    let backend = Backend::named("one").await;
    let proxy = before(&backend).await;
    let client = parked_client(&proxy).await;
    assert_eq!(connections(&proxy), 1.0);
    drop(client);
    eventually("a client that leaves is noticed", async || connections(&proxy) == 0.0).await;
    parked(&proxy, 0).await;
}

#[tokio::test]
async fn one_may_become_a_tunnel() {
    let backend = Backend::start(|request| match request.field("upgrade") {
        None => Reply::ok("one"),
        Some("declined") => Reply::ok("declined"),
        Some(_) => Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\nhello",
        )
        .then(Step::Echo),
    })
    .await;
    let proxy = before(&backend).await;
    let mut client = parked_client(&proxy).await;
    let ask = |protocol| {
        format!(
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        )
    };
    client.send(ask("declined")).await;
    assert_eq!(client.response().await.unwrap().text(), "declined");
    parked(&proxy, 1).await;
    client.send(ask("echo") + "early").await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    assert_eq!(client.bytes(10).await, b"helloearly");
    parked(&proxy, 0).await;
    client.send("later").await;
    assert_eq!(client.bytes(5).await, b"later");
}
