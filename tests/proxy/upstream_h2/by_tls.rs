//! Which protocol is spoken over TLS.

use std::sync::Arc;

use http::Version;
use tokio::net::TcpListener;

use super::{AUTO, proxy_at};
use crate::support::h2_backend::H2Backend;
use crate::support::tls;

#[tokio::test]
async fn http_2_over_tls() {
    let config = tls::server(&["backend.test"], &[b"h2"]);
    let backend = saying_over_tls(config).await;
    let upstream = AUTO.replace("auto", "h2");
    let proxy = proxy_at(&[backend.address], &upstream).await;
    assert_eq!(proxy.connect().await.get("/").await.text(), "HTTP/2.0");
}

#[tokio::test]
async fn http_2_over_tls_by_prior_knowledge() {
    // A server that knows nothing of ALPN.
    let config = tls::server(&["backend.test"], &[]);
    let backend = saying_over_tls(config).await;
    let upstream = AUTO.replace("auto", "h2");
    let proxy = proxy_at(&[backend.address], &upstream).await;
    assert_eq!(proxy.connect().await.get("/").await.text(), "HTTP/2.0");
}

#[tokio::test]
async fn auto_settles_on_http_2_where_the_backend_offers_it() {
    let config = tls::server(&["backend.test"], &[b"h2", b"http/1.1"]);
    let backend = saying_over_tls(config).await;
    let proxy = proxy_at(&[backend.address], AUTO).await;
    let mut client = proxy.connect().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "HTTP/2.0");
    }
    assert_eq!(backend.connections(), 1);
}

async fn saying_over_tls(config: Arc<rustls::ServerConfig>) -> H2Backend {
    H2Backend::start_with(h2::server::Builder::new(), Some(config), |mut exchange| async move {
        assert_eq!(exchange.request.version(), Version::HTTP_2);
        exchange.ok("HTTP/2.0");
    })
    .await
}

#[tokio::test]
async fn auto_settles_on_http_1_where_the_backend_offers_no_more() {
    let address = http1_over_tls(tls::server(&["backend.test"], &[b"http/1.1"])).await;
    let proxy = proxy_at(&[address], AUTO).await;
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "old");
    }
}

/// A backend that answers each connection's requests in HTTP/1.1.
pub async fn http1_over_tls(config: Arc<rustls::ServerConfig>) -> std::net::SocketAddr {
    use crate::support::wire::read_message;
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                let mut read = Vec::new();
                while read_message(&mut stream, &mut read, true).await.is_ok() {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold";
                    stream.write_all(answer).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    address
}
