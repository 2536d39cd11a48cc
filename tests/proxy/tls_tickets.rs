//! Session tickets of TLS, and what they are good for.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::tls::{HTTP1, proxy_before, shake_hands};
use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::{HTTPS, Proxy, pool_of};
use crate::support::wire::Wire;
use crate::support::{in_time, tls};

/// Connects again and again, leaving every connection open so that both workers get some; gives
/// the kinds of the handshakes.
async fn visits(
    proxy: &Proxy,
    config: &Arc<ClientConfig>,
    kept: &mut Vec<Wire>,
    count: usize,
) -> Vec<HandshakeKind> {
    let mut kinds = Vec::new();
    for _ in 0..count {
        let stream = shake_hands(proxy.address("https"), config, "localhost").await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        let mut client = Wire::over(stream);
        // Under TLS 1.3 the ticket comes behind the handshake.
        assert_eq!(client.get("/").await.status(), 200);
        kept.push(client);
    }
    kinds
}

async fn resumes(version: &'static SupportedProtocolVersion) {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    let config = tls::client_of(version, HTTP1);
    let mut kept = Vec::new();
    let first = visits(&proxy, &config, &mut kept, 1).await;
    assert_eq!(first, [HandshakeKind::Full]);
    let kinds = visits(&proxy, &config, &mut kept, 20).await;
    assert_eq!(kinds, [HandshakeKind::Resumed; 20]);
    for worker in ["worker=\"0\"", "worker=\"1\""] {
        assert!(proxy.metric("tidegate_worker_connections", &[worker]) > 4.0, "{worker}");
    }
    let reloaded =
        format!("{HTTPS}[listeners.https.limits]\nmax_headers = 99\n{}", pool_of(&[&backend]));
    proxy.reload(&reloaded).await.unwrap();
    let kinds = visits(&proxy, &config, &mut kept, 20).await;
    assert_eq!(kinds, [HandshakeKind::Resumed; 20]);
}

#[tokio::test]
async fn tls_1_2_resumes_on_every_worker_and_after_a_reload() {
    resumes(&TLS12).await;
}

#[tokio::test]
async fn tls_1_3_resumes_on_every_worker_and_after_a_reload() {
    resumes(&TLS13).await;
}

/// Waits for a ticket, whatever else comes or does not.
async fn ticket(client: &mut TlsStream<TcpStream>) {
    let comes = poll_fn(|cx| {
        let read = Pin::new(&mut *client).poll_read(cx, &mut ReadBuf::new(&mut [0; 64]));
        assert!(!matches!(read, Poll::Ready(Err(_))), "{read:?}");
        match client.get_ref().1.tls13_tickets_received() {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    });
    in_time("a ticket", comes).await;
}

#[tokio::test]
async fn a_ticket_waits_for_no_answer_that_is_late() {
    let backend = Backend::start(|_| Reply::default().then(Step::Hang)).await;
    let proxy = proxy_before(&backend).await;
    for asked in ["", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.1\r\nHost:"] {
        let config = tls::client_of(&TLS13, HTTP1);
        let mut client = shake_hands(proxy.address("https"), &config, "localhost").await.unwrap();
        client.write_all(asked.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        ticket(&mut client).await;
    }
}
