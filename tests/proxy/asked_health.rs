//! Health checks that ask more than whether a page is there: the gRPC health protocol, TLS with the
//! pool's own trust, and backends that ask to be drained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use http::HeaderMap;

use crate::support::backend::{Backend, Reply};
use crate::support::h2_backend::H2Backend;
use crate::support::proxy::{HEALTH, Proxy, app, app_at};
use crate::support::{eventually, tls};

/// A gRPC server whose health service says this of `shop.Cart`, and knows no other service.
async fn grpc(says: Arc<AtomicU8>, tls: Option<Arc<rustls::ServerConfig>>) -> H2Backend {
    H2Backend::start_with(h2::server::Builder::new(), tls, move |mut exchange| {
        let says = Arc::clone(&says);
        async move {
            assert_eq!(exchange.request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(exchange.request.headers()["te"], "trailers");
            let (question, _) = exchange.read().await;
            if question[7..] != *b"shop.Cart" {
                exchange.bare(200, &[("content-type", "application/grpc"), ("grpc-status", "5")]);
                return;
            }
            let mut body = exchange.head(200, &[("content-type", "application/grpc")]);
            let answer = vec![0, 0, 0, 0, 2, 8, says.load(Ordering::SeqCst)];
            body.send_data(answer.into(), false).unwrap();
            let status = ("grpc-status".parse().unwrap(), "0".parse().unwrap());
            body.send_trailers(HeaderMap::from_iter([status])).unwrap();
        }
    })
    .await
}

fn state(proxy: &Proxy, address: SocketAddr) -> (String, String) {
    let status = serde_json::to_value(proxy.running().handle().status()).unwrap();
    let backend = &status["pools"]["app"]["versions"][""]["backends"][address.to_string()];
    let text = |key: &str| backend[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn asking(address: SocketAddr, upstream: &str, service: &str) -> String {
    let health = format!(
        "[pools.app.upstream]\n{upstream}\n[pools.app.health]\ntype = \"grpc\"\n\
         service = \"{service}\"\ninterval = \"100ms\"\n"
    );
    app_at(&[address], "", &health)
}

async fn is(proxy: &Proxy, address: SocketAddr, wanted: &str) {
    eventually(wanted, async || state(proxy, address).0 == wanted).await;
}

#[tokio::test]
async fn a_grpc_server_is_asked_by_its_own_protocol() {
    let says = Arc::new(AtomicU8::new(1));
    let server = grpc(Arc::clone(&says), None).await;
    let config = asking(server.address, "protocol = \"h2\"", "shop.Cart");
    let proxy = Proxy::start(&config).await;
    is(&proxy, server.address, "healthy").await;
    says.store(2, Ordering::SeqCst);
    is(&proxy, server.address, "unhealthy").await;
    let reason = state(&proxy, server.address).1;
    assert!(reason.contains("it says NOT_SERVING"), "{reason}");
    says.store(1, Ordering::SeqCst);
    is(&proxy, server.address, "healthy").await;
}

#[tokio::test]
async fn a_grpc_service_that_is_not_known_is_not_well() {
    let server = grpc(Arc::new(AtomicU8::new(1)), None).await;
    let config = asking(server.address, "protocol = \"h2\"", "shop.Card");
    let proxy = Proxy::start(&config).await;
    is(&proxy, server.address, "unhealthy").await;
    let reason = state(&proxy, server.address).1;
    assert!(reason.contains("the backend knows no gRPC service `shop.Card`"), "{reason}");
}

#[tokio::test]
async fn checks_go_by_the_pool_s_own_trust() {
    let tls = tls::server(&["shop.internal"], &[b"h2"]);
    let server = grpc(Arc::new(AtomicU8::new(1)), Some(tls)).await;
    let upstream = |name: &str| {
        format!("protocol = \"h2\"\ntls = {{ server_name = \"{name}\", ca = \"ca.pem\" }}")
    };
    let proxy =
        Proxy::start(&asking(server.address, &upstream("shop.internal"), "shop.Cart")).await;
    is(&proxy, server.address, "healthy").await;
    let other = asking(server.address, &upstream("other.internal"), "shop.Cart");
    proxy.reload(&other).await.unwrap();
    is(&proxy, server.address, "unhealthy").await;
    let reason = state(&proxy, server.address).1;
    assert!(reason.contains("TLS"), "{reason}");
}

#[tokio::test]
async fn a_backend_that_asks_to_be_drained_gets_nothing_new_until_it_asks_no_more() {
    let health = Arc::new(AtomicU16::new(200));
    let answers = Arc::clone(&health);
    let one = Backend::start(move |request| match request.request_line().1 {
        "/health" => match answers.load(Ordering::SeqCst) {
            503 => Reply::status(503, "I am draining now"),
            status => Reply::status(status, ""),
        },
        _ => Reply::ok("one"),
    })
    .await;
    let two = Backend::named("two").await;
    let config = app(&[&one, &two], "", &format!("{HEALTH}drain_body = \"draining\"\n"));
    let proxy = Proxy::start(&config).await;
    proxy.all_serve(&[&one, &two]).await;
    health.store(503, Ordering::SeqCst);
    eventually("leaving", async || proxy.state_of(&one) == "leaving").await;
    proxy.usable(1).await;
    assert_eq!(state(&proxy, one.address).1, "asks to be drained");
    assert_eq!(proxy.metric("tidegate_backend_up", &[&one.address.to_string()]), 1.0);
    let mut client = proxy.connect().await;
    for _ in 0..6 {
        assert_eq!(client.get("/").await.text(), "two");
    }
    health.store(200, Ordering::SeqCst);
    proxy.all_serve(&[&one, &two]).await;
}

#[tokio::test]
async fn one_that_asks_to_be_drained_serves_while_there_is_nobody_else() {
    let one = Backend::start(|request| match request.request_line().1 {
        "/health" => Reply::raw("HTTP/1.1 200 OK\r\nX-Drain: yes\r\nContent-Length: 0\r\n\r\n"),
        _ => Reply::ok("one"),
    })
    .await;
    let config = app(&[&one], "", &format!("{HEALTH}drain_header = \"X-Drain\"\n"));
    let proxy = Proxy::start(&config).await;
    eventually("leaving", async || proxy.state_of(&one) == "leaving").await;
    assert_eq!(proxy.connect().await.get("/").await.text(), "one");
}
