//! HTTP/1.0 on either side, and connections that are to be closed.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{Proxy, quiet_pool_of};

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";

#[tokio::test]
async fn an_old_client_gets_a_body_that_ends_with_the_connection() {
    let backend = Backend::start(|_| Reply::raw(CHUNKED)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: test\r\n\r\n").await;
    let response = client.response().await.unwrap();
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.text(), "hello");
}

/// RFC 9112 section 9.3 and appendix C.2.2.
#[tokio::test]
async fn an_old_client_that_asks_to_keep_its_connection_cannot_with_an_unknown_length() {
    let backend = Backend::start(|_| Reply::raw(CHUNKED)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let response = client.response().await.unwrap();
    assert_eq!(response.all("connection"), ["close"]);
    assert_eq!(response.text(), "hello");
}

#[tokio::test]
async fn an_old_client_is_closed_on_after_its_answer() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().text(), "one");
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn an_old_client_may_keep_its_connection() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n").await;
        let response = client.response().await.unwrap();
        assert_eq!(response.field("connection"), Some("keep-alive"));
        assert_eq!(response.text(), "one");
    }
}

#[tokio::test]
async fn an_old_client_need_not_name_a_host() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().text(), "one");
    assert_eq!(backend.requests()[0].start, "GET / HTTP/1.1");
    assert_eq!(backend.requests()[0].all("host").len(), 1, "HTTP/1.1 asks for one");
}

#[tokio::test]
async fn an_old_clients_upload_arrives() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.response().await.unwrap().text(), "one");
    assert_eq!(backend.requests()[0].text(), "hello");
}

#[tokio::test]
async fn a_response_that_breaks_off_does_not_look_whole_to_an_old_client() {
    let reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let backend = Backend::start(move |_| Reply::raw(reply).then(Step::Close)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let error = client.response().await.expect_err("nothing but a reset can tell");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_old_backend_may_end_its_body_with_the_connection() {
    let backend =
        Backend::start(|_| Reply::raw("HTTP/1.0 200 OK\r\n\r\nhello").then(Step::Close)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        let response = client.get("/").await;
        assert_eq!(response.start, "HTTP/1.1 200 OK");
        assert_eq!(response.text(), "hello");
    }
}

#[tokio::test]
async fn an_old_backends_connection_is_used_once() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello").then(Step::Swallow)
    })
    .await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "hello");
    }
    assert_eq!(proxy.metric("tidegate_backend_connection_reuses_total", &[]), 0.0);
    eventually("closed", async || backend.open_connections() == 0).await;
}

#[tokio::test]
async fn an_old_backend_may_keep_its_connection() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "hello");
    }
    assert_eq!(proxy.metric("tidegate_backend_connection_reuses_total", &[]), 2.0);
}

#[tokio::test]
async fn a_client_that_wants_to_close_is_closed_on() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
    let response = client.response().await.unwrap();
    assert_eq!(response.field("connection"), Some("close"));
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_client_that_closes_does_not_cost_the_connection_to_the_backend() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    for _ in 0..4 {
        let mut client = proxy.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await;
        client.rest().await;
    }
    // Two workers have one each.
    assert!(proxy.metric("tidegate_backend_connection_reuses_total", &[]) >= 2.0);
}

#[tokio::test]
async fn a_backend_that_wants_to_close_does_not_cost_the_clients_connection() {
    let reply = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    let backend = Backend::start(move |_| Reply::raw(reply).then(Step::Close)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    for _ in 0..5 {
        let response = client.get("/").await;
        assert_eq!(response.text(), "hello");
        assert_eq!(response.field("connection"), None);
    }
    assert_eq!(proxy.metric("tidegate_backend_connection_reuses_total", &[]), 0.0);
}
