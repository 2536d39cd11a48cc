//! Backends that speak HTTP/2 only, over which we ask for no other protocol. Whoever does says nothing
//! against them.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::TcpListener;
use tokio_rustls::LazyConfigAcceptor;

use super::over_http2::{extended_connect, h2_client};
use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::h2_backend::H2Backend;
use crate::support::h2_client::answer;
use crate::support::proxy::{HTTPS, Proxy, app_at};
use crate::support::tls;

const SHOUT: &str =
    "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: shout, echo/1\r\n\r\n";
const WEBSOCKET: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A backend that does not speak HTTP/1.1, and how its pool is told to speak to it.
struct Case {
    name: &'static str,
    protocol: &'static str,
    tls: Option<Arc<ServerConfig>>,
}

fn cases() -> [Case; 4] {
    let tls = |alpn: &[&[u8]]| Some(tls::server(&["backend.test"], alpn));
    [
        Case { name: "plain", protocol: "h2", tls: None },
        Case { name: "by ALPN", protocol: "h2", tls: tls(&[b"h2"]) },
        Case { name: "without ALPN", protocol: "h2", tls: tls(&[]) },
        Case { name: "auto", protocol: "auto", tls: tls(&[b"h2"]) },
    ]
}

impl Case {
    async fn start(&self) -> (H2Backend, Proxy) {
        let builder = h2::server::Builder::new();
        let backend = H2Backend::start_with(builder, self.tls.clone(), |mut exchange| async move {
            exchange.ok("a page");
        })
        .await;
        let proxy = before(backend.address, self.protocol, self.tls.is_some()).await;
        (backend, proxy)
    }
}

/// A proxy whose circuit breaker opens with a single failure.
async fn before(backend: SocketAddr, protocol: &str, secure: bool) -> Proxy {
    let tls = "tls = { ca = \"ca.pem\", server_name = \"backend.test\" }\n";
    speaking(backend, &format!("protocol = \"{protocol}\"\n{}", if secure { tls } else { "" }))
        .await
}

/// The same, that is told so to speak to its backend.
async fn speaking(backend: SocketAddr, upstream: &str) -> Proxy {
    let sections = format!("[pools.app.health]\ntype = \"tcp\"\n[pools.app.upstream]\n{upstream}");
    let app = app_at(&[backend], "circuit_breaker = { failures = 1 }", &sections);
    Proxy::start(&format!("{HTTPS}{app}")).await
}

/// Nobody was blamed, and nobody asked twice.
fn is_unharmed(proxy: &Proxy, backend: SocketAddr) -> bool {
    let closed = proxy.metric("tidegate_pool_circuit_breaker_state", &["state=\"closed\""]);
    let retries = proxy.metric("tidegate_backend_retries_total", &[]);
    (proxy.judged(backend).1, retries, closed) == (0, 0.0, 1.0)
}

#[tokio::test]
async fn other_protocols_are_not_asked_for() {
    for case in cases() {
        let (backend, proxy) = case.start().await;
        let mut client = proxy.connect().await;
        for asked in 1..=3 {
            client.send(SHOUT).await;
            let answer = client.response().await.unwrap();
            assert_eq!((answer.status(), &*answer.text()), (200, "a page"), "{}", case.name);
            eventually("judged", async || proxy.judged(backend.address) == (asked, 0)).await;
        }
        assert_eq!(client.get("/").await.text(), "a page");
        assert!(is_unharmed(&proxy, backend.address), "{}", case.name);
    }
}

#[tokio::test]
async fn a_websocket_is_refused() {
    for case in cases() {
        let (backend, proxy) = case.start().await;
        let mut client = proxy.connect().await;
        for _ in 0..3 {
            client.send(WEBSOCKET).await;
            let answer = client.response().await.unwrap();
            let text = "502 Bad Gateway: the backend takes no WebSocket here\n";
            assert_eq!((answer.status(), &*answer.text()), (502, text), "{}", case.name);
        }
        assert_eq!(client.get("/").await.text(), "a page");
        assert!(is_unharmed(&proxy, backend.address), "{}", case.name);
        eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
    }
}

#[tokio::test]
async fn a_websocket_over_http_2_is_refused() {
    for case in cases() {
        let (backend, proxy) = case.start().await;
        let mut client = h2_client(&proxy).await;
        for _ in 0..3 {
            let (response, _send) = client.start(extended_connect(), false).await;
            assert_eq!(answer(response).await.unwrap().status, 502, "{}", case.name);
        }
        assert_eq!(client.get("/").await.text(), "a page");
        assert!(is_unharmed(&proxy, backend.address), "{}", case.name);
    }
}

#[tokio::test]
async fn a_backend_that_keeps_silent_is_not_blamed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((tcp, _)) = listener.accept().await {
            held.push(tcp);
        }
    });
    let proxy = speaking(address, "protocol = \"h2\"\nresponse_timeout = \"100ms\"\n").await;
    let mut client = proxy.connect().await;
    client.send(WEBSOCKET).await;
    let answer = client.response().await.unwrap();
    let text = "502 Bad Gateway: the backend takes no WebSocket here\n";
    assert_eq!((answer.status(), &*answer.text()), (502, text));
    assert!(is_unharmed(&proxy, address));
}

/// Asked by ALPN for HTTP/1.1 alone it does not refuse, but goes on as if it knew of no ALPN.
async fn lenient() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let configs = [&[][..], &[&b"h2"[..]][..]].map(|alpn| tls::server(&["backend.test"], alpn));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let configs = configs.clone();
            tokio::spawn(async move {
                let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
                let hello = start.client_hello();
                let offers_h2 = hello.alpn().is_some_and(|mut alpn| alpn.any(|one| one == b"h2"));
                let config = Arc::clone(&configs[usize::from(offers_h2)]);
                let stream = start.into_stream(config).await?;
                let Ok(mut connection) = h2::server::handshake(stream).await else { return Ok(()) };
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    respond.send_response(http::Response::new(()), true).unwrap();
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

#[tokio::test]
async fn a_backend_that_ignores_what_it_cannot_speak_is_known_by_what_it_speaks() {
    let address = lenient().await;
    let proxy = before(address, "auto", true).await;
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/").await.status(), 200);
    for (request, status) in [(SHOUT, 200), (WEBSOCKET, 502)] {
        client.send(request).await;
        assert_eq!(client.response().await.unwrap().status(), status);
    }
    assert!(is_unharmed(&proxy, address));
}

#[tokio::test]
async fn a_page_where_a_websocket_was_asked_for_over_http_2_is_no_failure() {
    let backend = Backend::named("a page").await;
    let proxy = before(backend.address, "http1", false).await;
    let mut client = h2_client(&proxy).await;
    for _ in 0..3 {
        let (response, _send) = client.start(extended_connect(), false).await;
        assert_eq!(answer(response).await.unwrap().status, 502);
    }
    assert!(is_unharmed(&proxy, backend.address));
}
