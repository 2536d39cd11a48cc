//! HTTP/1.1 from end to end.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::Proxy;

#[tokio::test]
async fn carries_a_request_and_its_answer() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/hello").await.text(), "one");
}

#[tokio::test]
async fn keeps_both_connections_for_the_next_request() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.get("/").await;
    let before = backend.connections();
    for _ in 0..20 {
        client.get("/").await;
    }
    // Probes connect too, so only an upper bound holds.
    let used = proxy.metric("tidegate_backend_connection_reuses_total", &[]);
    assert!(used >= 20.0, "{used} requests reused a connection, {before} before");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let backend = Backend::start(|_| Reply::ok("enough").then(Step::Close)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("POST /up HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(client.response().await.unwrap().text(), "enough");
}

/// RFC 9112 section 4: the reason is the backend's; where there is none, there is none.
#[tokio::test]
async fn the_reason_phrase_is_the_backends() {
    for (sent, got) in [
        ("HTTP/1.1 200 Fine Indeed", "HTTP/1.1 200 Fine Indeed"),
        ("HTTP/1.1 299 Why Not", "HTTP/1.1 299 Why Not"),
        ("HTTP/1.1 299 ", "HTTP/1.1 299 "),
        ("HTTP/1.1 404", "HTTP/1.1 404 Not Found"),
    ] {
        let reply = Reply::raw(format!("{sent}\r\nContent-Length: 0\r\n\r\n"));
        let backend = Backend::start(move |_| reply.clone()).await;
        let proxy = Proxy::before(&[&backend]).await;
        assert_eq!(proxy.connect().await.get("/").await.start, got);
    }
}
