//! HTTP/2 towards backends.

pub mod by_tls;
mod given_up;
mod lasting;
mod streams;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Method};

use crate::support::backend::{Backend, Reply};
use crate::support::h2_backend::H2Backend;
use crate::support::h2_client::{H2Client, answer, get, read, read_some, request};
use crate::support::proxy::{HTTPS, Proxy, pool_at};
use crate::support::{eventually, in_time};

/// Towards backends that speak HTTP/2 in plain text.
const H2: &str = "[pools.app.upstream]\nprotocol = \"h2\"\n";
/// Towards backends that speak whatever ALPN settles on.
const AUTO: &str = "[pools.app.upstream]\nprotocol = \"auto\"\n\
                    tls = { ca = \"ca.pem\", server_name = \"backend.test\" }\n";

async fn proxy_before(backend: &H2Backend) -> Proxy {
    proxy_at(&[backend.address], H2).await
}

async fn proxy_at(backends: &[std::net::SocketAddr], upstream: &str) -> Proxy {
    Proxy::start(&format!("{HTTPS}{}{upstream}", pool_at(backends))).await
}

async fn client_of(proxy: &Proxy) -> H2Client {
    H2Client::connect(proxy.address("https")).await
}

#[tokio::test]
async fn a_client_of_http_1_reaches_a_backend_of_http_2() {
    let backend = H2Backend::saying("two").await;
    let proxy = proxy_before(&backend).await;
    let fields = [("Cookie", "a=b"), ("X-Public", "open")];
    assert_eq!(proxy.connect().await.ask("GET", "/a?b", &fields, "").await.text(), "two");
    let request = &backend.requests()[0];
    assert_eq!(request.uri().to_string(), "http://test/a?b");
    assert_eq!(request.headers()["cookie"], "a=b");
    assert_eq!(request.headers()["x-public"], "open");
    assert_eq!(request.headers().get("host"), None);
    assert_eq!(request.headers().get("connection"), None);
}

#[tokio::test]
async fn a_client_of_http_2_reaches_a_backend_of_http_2() {
    let backend = H2Backend::saying("two").await;
    let proxy = proxy_before(&backend).await;
    assert_eq!(client_of(&proxy).await.get("/").await.text(), "two");
    assert_eq!(backend.requests()[0].uri().to_string(), "http://localhost/");
}

#[tokio::test]
async fn a_chunked_upload_over_http_1_becomes_a_stream() {
    let backend = H2Backend::start(|mut exchange| async move {
        let (body, _) = exchange.read().await;
        exchange.ok(body);
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.response().await.unwrap().text(), "abc");
    assert_eq!(backend.requests()[0].headers().get("transfer-encoding"), None);
}

#[tokio::test]
async fn a_backend_that_dies_within_a_body_is_seen_as_a_reset() {
    let backend = H2Backend::start(|mut exchange| async move {
        let mut body = exchange.head(200, &[]);
        body.send_data("abc".into(), false).unwrap();
        exchange.hold().await;
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let response = client_of(&proxy).await.start(get("/"), true).await.0;
    let mut body = in_time("a head", response).await.unwrap().into_body();
    read_some(&mut body, 3).await;
    backend.kill();
    let error = read(&mut body).await.unwrap_err();
    assert!(error.is_reset(), "{error}");
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
    eventually("one record", async || proxy.recorded("https") == 1.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_at_the_backend_only() {
    let backend = H2Backend::start(|mut exchange| async move {
        if exchange.request.uri().path() == "/left" {
            let mut body = exchange.head(200, &[]);
            body.send_data("abc".into(), false).unwrap();
            let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
            assert_eq!(reset.unwrap(), Reason::CANCEL);
        } else {
            exchange.hold().await;
            exchange.ok("stayed");
        }
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy).await;
    let stayed = client.start(get("/stayed"), true).await.0;
    let (left, mut stream) = client.start(get("/left"), true).await;
    let mut body = in_time("a head", left).await.unwrap().into_body();
    read_some(&mut body, 3).await;
    assert_eq!(backend.streams(), 2);
    stream.send_reset(Reason::CANCEL);
    eventually("only one left", async || backend.streams() == 1).await;
    backend.release();
    assert_eq!(answer(stayed).await.unwrap().text(), "stayed");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_within_its_upload_resets_the_stream_at_the_backend() {
    let backend = H2Backend::start(|mut exchange| async move {
        let body = exchange.request.body_mut();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let (response, mut stream) =
        client_of(&proxy).await.start(request(Method::POST, "/"), false).await;
    stream.send_data("abc".into(), false).unwrap();
    eventually("taken", async || backend.streams() == 1).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    eventually("reset", async || backend.streams() == 0).await;
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
}

#[tokio::test]
async fn an_early_answer_ends_an_upload_that_never_ends() {
    let backend = H2Backend::start(|mut exchange| async move {
        exchange.head(413, &[]).send_data("big".into(), true).unwrap();
        // Without the courtesy of a reset: it waits for the proxy's.
        let body = exchange.request.body_mut();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let (response, mut stream) =
        client_of(&proxy).await.start(request(Method::POST, "/"), false).await;
    stream.send_data("abc".into(), false).unwrap();
    let answer = answer(response).await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.text()), (413, "big"));
    let reset = in_time("a reset", std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
    assert_eq!(reset.unwrap(), Reason::NO_ERROR);
    eventually("reset at the backend", async || backend.streams() == 0).await;
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let backend = H2Backend::start(|mut exchange| async move {
        let (body, trailers) = exchange.read().await;
        let mut stream = exchange.head(200, &[]);
        stream.send_data(body.into(), false).unwrap();
        stream.send_trailers(trailers.unwrap()).unwrap();
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let (response, mut stream) =
        client_of(&proxy).await.start(request(Method::POST, "/"), false).await;
    stream.send_data("abc".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "6".parse().unwrap());
    stream.send_trailers(trailers.clone()).unwrap();
    assert_eq!(answer(response).await.unwrap().trailers, Some(trailers));
}

#[tokio::test]
async fn a_stalled_reader_stalls_no_other_stream_of_the_same_backend_connection() {
    const LARGE: usize = 16 * 1024 * 1024;
    let backend = H2Backend::start(|mut exchange| async move {
        if exchange.request.uri().path() != "/large" {
            return exchange.ok("small");
        }
        let mut body = exchange.head(200, &[]);
        let mut left = Bytes::from(vec![7; LARGE]);
        while !left.is_empty() {
            body.reserve_capacity(left.len());
            let Some(Ok(room)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else {
                return;
            };
            let piece = left.split_to(room.min(left.len()));
            body.send_data(piece, left.is_empty()).unwrap();
        }
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(256 * 1024).initial_connection_window_size(1024 * 1024);
    let mut client = H2Client::connect_with(proxy.address("https"), &mut builder).await;
    let response = client.start(get("/large"), true).await.0;
    let mut stalled = in_time("a head", response).await.unwrap().into_body();
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "small");
    }
    assert_eq!(backend.connections(), 1);
    let taken = proxy.metric("tidegate_backend_bytes_total", &[]);
    assert!(taken < 4_000_000.0, "{taken} bytes taken from the backend");
    assert_eq!(read(&mut stalled).await.unwrap().0.len(), LARGE);
}

#[tokio::test]
async fn a_backend_of_http_1_in_an_http_2_pool_is_a_502() {
    let backend = Backend::start(|_| Reply::ok("one")).await;
    let proxy = proxy_at(&[backend.address], H2).await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 502);
}
