//! HTTP/2 without TLS, by prior knowledge (RFC 9113 section 3.3).

use crate::support::backend::Backend;
use crate::support::h2_wire::{self, H2Wire, NO_TABLE, Outcome, PREFACE, SETTINGS, frame};
use crate::support::proxy::{BASE, Proxy, pool_of};
use crate::support::wire::Wire;

async fn proxy_before(backend: &Backend) -> Proxy {
    Proxy::start_whole(&format!("{BASE}h2c = true\n{}", pool_of(&[backend]))).await
}

#[tokio::test]
async fn plain_http_2_is_served_where_it_is_allowed() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    let mut client = H2Wire::plain(proxy.http()).await;
    client.greet(&NO_TABLE).await;
    client.send(h2_wire::ask(1, "/hello")).await;
    assert_eq!(client.outcome(1).await, Outcome::Status(200));
    let request = &backend.requests()[0];
    assert_eq!(request.start, "GET /hello HTTP/1.1");
    assert_eq!(request.all("x-forwarded-proto"), ["http"]);
}

#[tokio::test]
async fn the_preface_may_come_byte_by_byte() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    let mut client = H2Wire::plain(proxy.http()).await;
    let settings = frame(SETTINGS, 0, 0, NO_TABLE);
    for byte in [PREFACE, &settings, &h2_wire::ask(1, "/")].concat() {
        client.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.outcome(1).await, Outcome::Status(200));
}

#[tokio::test]
async fn http_1_loses_no_byte_beside_it() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    let mut client = Wire::connect(proxy.http()).await;
    assert_eq!(client.get("/first").await.text(), "one");
    assert_eq!(client.ask("POST", "/second", &[], "abc").await.text(), "one");
    // A head that begins as the preface does, in pieces.
    let mut client = Wire::connect(proxy.http()).await;
    for piece in ["P", "R", "OPFIND / HTTP/1.1\r\nHo", "st: test\r\n\r\n"] {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.response().await.unwrap().text(), "one");
    let starts: Vec<String> = backend.requests().into_iter().map(|r| r.start).collect();
    assert_eq!(starts, ["GET /first HTTP/1.1", "POST /second HTTP/1.1", "PROPFIND / HTTP/1.1"]);
}

#[tokio::test]
async fn plain_http_2_is_refused_where_it_is_not_allowed() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = Wire::connect(proxy.http()).await;
    client.send(PREFACE).await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn a_silent_connection_does_not_outlast_a_first_head() {
    let backend = Backend::named("one").await;
    let limits = "[listeners.http.limits]\nheader_timeout = \"200ms\"\n";
    let config = format!("{BASE}h2c = true\n{limits}{}", pool_of(&[&backend]));
    let proxy = Proxy::start_whole(&config).await;
    for start in ["", "PRI * HTTP"] {
        let mut client = Wire::connect(proxy.http()).await;
        client.send(start).await;
        assert_eq!(client.rest().await, b"", "{start}");
    }
}
