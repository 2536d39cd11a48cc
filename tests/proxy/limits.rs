//! How much one client may ask for: of a head, of a body, of connections, of requests.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{HEALTH, Proxy, app, pool_of};
use crate::support::wire::Wire;

/// A proxy with these limits on its listener.
async fn with_limits(backend: &Backend, limits: &str) -> Proxy {
    Proxy::start(&format!("[listeners.http.limits]\n{limits}\n{}", pool_of(&[backend]))).await
}

/// A proxy whose route takes bodies up to 10 bytes.
async fn with_small_bodies(backend: &Backend) -> Proxy {
    let config = pool_of(&[backend]).replace("pool = \"app\"", "pool = \"app\"\nmax_body = \"10\"");
    Proxy::start(&config).await
}

/// RFC 9110 section 15.5.14.
#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_at_once() {
    let backend = Backend::named("one").await;
    let proxy = with_small_bodies(&backend).await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\n").await;
    let response = client.response().await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(response.field("connection"), Some("close"));
    assert_eq!(backend.requests().len(), 0);
}

/// RFC 9110 section 15.5.14.
#[tokio::test]
async fn a_chunked_body_is_refused_when_it_grows_too_large() {
    let backend = Backend::at_head(|_| Reply::default().then(Step::Swallow)).await;
    let proxy = with_small_bodies(&backend).await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("6\r\nabcdef\r\n6\r\nabcdef\r\n").await;
    let response = client.response().await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(client.rest().await, b"", "and the connection is closed");
}

#[tokio::test]
async fn a_body_of_just_the_limit_is_taken() {
    let backend = Backend::named("one").await;
    let proxy = with_small_bodies(&backend).await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123456789").await;
    assert_eq!(client.response().await.unwrap().status(), 200);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("a\r\n0123456789\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().status(), 200);
}

/// The status of the bare answer to these bytes; fails if the connection is not closed behind it.
async fn refusal(limits: &str, bytes: &str) -> u16 {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, limits).await;
    let mut client = proxy.connect().await;
    client.send(bytes).await;
    let response = client.response().await.unwrap();
    assert_eq!(response.field("connection"), Some("close"));
    assert_eq!(response.body, b"");
    assert_eq!(client.rest().await, b"");
    assert_eq!(backend.requests().len(), 0, "nothing of it reaches the backend");
    response.status()
}

/// RFC 9110 section 15.5.15.
#[tokio::test]
async fn a_request_line_over_the_limit_is_414() {
    let target = "x".repeat(10_000);
    let request = format!("GET /{target} HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(refusal("max_header_bytes = \"8KiB\"", &request).await, 414);
}

/// RFC 6585 section 5.
#[tokio::test]
async fn a_head_over_the_limit_is_431() {
    let padding = "x".repeat(10_000);
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\nX: {padding}\r\n\r\n");
    assert_eq!(refusal("max_header_bytes = \"8KiB\"", &request).await, 431);
}

#[tokio::test]
async fn a_head_of_the_largest_default_size_passes() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    let padding = "x".repeat(32 * 1024 - 200);
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX: {padding}\r\n\r\n")).await;
    assert_eq!(client.response().await.unwrap().status(), 200);
    assert_eq!(backend.requests()[0].field("x").unwrap().len(), padding.len());
}

#[tokio::test]
async fn a_head_beyond_hypers_own_buffer_passes_where_the_limit_allows_it() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "max_header_bytes = \"256KiB\"").await;
    let mut client = proxy.connect().await;
    let padding = "x".repeat(255 * 1024);
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX: {padding}\r\n\r\n")).await;
    assert_eq!(client.response().await.unwrap().status(), 200);
}

/// RFC 6585 section 5.
#[tokio::test]
async fn too_many_fields_are_431() {
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "A: b\r\n".repeat(10));
    assert_eq!(refusal("max_headers = 10", &request).await, 431);
}

/// RFC 9112 section 3.
#[tokio::test]
async fn what_is_no_request_is_400() {
    assert_eq!(refusal("", "hello there\r\n\r\n").await, 400);
}

/// RFC 9112 section 3.2.
#[tokio::test]
async fn a_request_without_a_host_is_400() {
    assert_eq!(refusal("", "GET / HTTP/1.1\r\n\r\n").await, 400);
}

/// RFC 9112 section 6.1.
#[tokio::test]
async fn two_framings_in_one_head_are_400() {
    let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(refusal("", request).await, 400);
}

/// RFC 3986 section 3.3.
#[tokio::test]
async fn a_path_with_dot_segments_is_400() {
    assert_eq!(refusal("", "GET /a/../b HTTP/1.1\r\nHost: test\r\n\r\n").await, 400);
}

/// RFC 9112 section 9.3.2.
#[tokio::test]
async fn a_malformed_request_behind_a_good_one_does_not_spoil_its_answer() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\nnonsense\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().text(), "one");
    assert_eq!(client.response().await.unwrap().status(), 400);
    assert_eq!(client.rest().await, b"");
}

/// RFC 9112 section 7.1.
#[tokio::test]
async fn a_broken_chunk_is_an_answer_of_400_and_a_close() {
    let backend = Backend::at_head(|_| Reply::default().then(Step::Swallow)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("3\r\nabc\r\nzz\r\n").await;
    assert_eq!(client.response().await.unwrap().status(), 400);
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn refusals_are_counted() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("nonsense\r\n\r\n").await;
    client.response().await.unwrap();
    assert_eq!(proxy.metric("tidegate_listener_requests_total", &["code=\"400\""]), 1.0);
}

#[tokio::test]
async fn a_connection_over_the_listeners_limit_is_closed() {
    let backend = Backend::start(|_| Reply::ok("done").after(Step::Hold)).await;
    let proxy = with_limits(&backend, "max_connections = 1").await;
    let mut first = proxy.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the first is there", async || backend.requests().len() == 1).await;
    assert_eq!(proxy.connect().await.rest().await, b"");
    backend.release();
    assert_eq!(first.response().await.unwrap().status(), 200, "the one that is in stays");
}

#[tokio::test]
async fn a_place_that_is_left_can_be_taken() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "max_connections = 1").await;
    drop(proxy.connect().await);
    eventually("the place is free", async || {
        let mut client = proxy.connect().await;
        let asked = client.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        asked.is_ok() && client.response().await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn one_address_may_not_take_all_connections() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "max_connections_per_address = 1").await;
    let mut first = proxy.connect().await;
    assert_eq!(first.get("/").await.status(), 200);
    assert_eq!(proxy.connect().await.rest().await, b"");

    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut elsewhere = Wire::over(socket.connect(proxy.http()).await.unwrap());
    assert_eq!(elsewhere.get("/").await.status(), 200, "another address has its own");
}

/// RFC 9110 section 15.6.4.
#[tokio::test]
async fn a_request_over_the_processs_limit_is_unavailable_for_now() {
    let backend = Backend::start(|_| Reply::ok("done").after(Step::Hold)).await;
    let proxy = Proxy::start_with("max_requests = 1", &pool_of(&[&backend])).await;
    let mut first = proxy.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the first is there", async || backend.requests().len() == 1).await;

    let mut second = proxy.connect().await;
    let refused = second.get("/").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.field("retry-after").is_some());
    assert_eq!(proxy.metric("tidegate_requests_refused_total", &[]), 1.0);
    assert_eq!(proxy.metric("tidegate_requests_limit", &[]), 1.0);
    let notes = proxy.running().handle().status().notes;
    assert!(matches!(&notes[..], [note] if note.contains("server.max_requests")), "{notes:?}");

    backend.release();
    assert_eq!(first.response().await.unwrap().text(), "done");
    backend.release();
    assert_eq!(second.get("/").await.text(), "done", "and there is room again");
}

#[tokio::test]
async fn at_the_processs_limit_accepted_work_and_checks_go_on() {
    let backend = Backend::at_head(|request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => Reply::ok("done").after(Step::Hold),
    })
    .await;
    let config = app(&[&backend], "", HEALTH);
    let proxy = Proxy::start_with("max_requests = 2", &config).await;
    proxy.all_serve(&[&backend]).await;
    let mut accepted = Vec::new();
    for count in 1..=2 {
        let mut client = proxy.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        eventually("it is there", async || backend.requests().len() == count).await;
        accepted.push(client);
    }
    // Refused ones do not keep others out, however many there are, nor for how long.
    let mut refused = Vec::new();
    for _ in 0..20 {
        let mut client = proxy.connect().await;
        assert_eq!(client.get("/").await.status(), 503);
        refused.push(client);
    }
    let checks = || proxy.metric("tidegate_backend_health_checks_total", &["result=\"pass\""]);
    let before = checks();
    eventually("checks go on", async || checks() > before).await;
    for client in &mut accepted {
        backend.release();
        assert_eq!(client.response().await.unwrap().text(), "done");
    }
    backend.release();
    assert_eq!(refused[0].get("/").await.text(), "done");
}
