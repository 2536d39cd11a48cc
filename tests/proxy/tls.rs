//! TLS on both sides.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::upstream_h2::by_tls::http1_over_tls;
use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::H2Client;
use crate::support::proxy::{BASE, HTTPS, Proxy, pool_at, pool_of, write_pair};
use crate::support::wire::Wire;
use crate::support::{eventually, in_time, tls};

pub const HTTP1: &[&[u8]] = &[b"http/1.1"];

pub async fn proxy_before(backend: &Backend) -> Proxy {
    Proxy::start(&format!("{HTTPS}{}", pool_of(&[backend]))).await
}

pub async fn shake_hands(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = in_time("connecting", TcpStream::connect(address)).await?;
    tcp.set_nodelay(true)?;
    let name = name.to_owned().try_into().unwrap();
    in_time("a handshake", TlsConnector::from(Arc::clone(config)).connect(name, tcp)).await
}

fn certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// A listener with the certificates `a` (the first), `wild` and `www`.
const THREE: &str = r#"
[listeners.https]
bind = "127.0.0.1:0"
tls = { certificates = [
    { cert = "acert.pem", key = "akey.pem" },
    { cert = "wildcert.pem", key = "wildkey.pem" },
    { cert = "wwwcert.pem", key = "wwwkey.pem" },
] }
"#;

#[tokio::test]
async fn the_certificate_is_chosen_by_server_name() {
    let backend = Backend::named("one").await;
    let pairs = [
        ("a", tls::issue(&["a.test", "other.test"])),
        ("wild", tls::issue(&["*.example.org"])),
        ("www", tls::issue(&["www.example.org"])),
    ];
    let proxy = Proxy::start_as(&format!("{BASE}{THREE}{}", pool_of(&[&backend])), &pairs).await;
    let config = tls::client(HTTP1);
    for (name, pair) in
        [("a.test", 0), ("other.test", 0), ("x.example.org", 1), ("www.example.org", 2)]
    {
        let stream = shake_hands(proxy.address("https"), &config, name).await.unwrap();
        assert_eq!(certificate(&stream), tls::der(&pairs[pair].1), "{name}");
    }
    // Whoever asks for a name that nobody has gets the first, and sees that it does not fit.
    assert!(shake_hands(proxy.address("https"), &config, "unknown.test").await.is_err());
}

#[tokio::test]
async fn a_host_of_another_certificate_is_misdirected() {
    let backend = Backend::named("one").await;
    let pairs = [
        ("a", tls::issue(&["a.test", "b.test"])),
        ("wild", tls::issue(&["*.example.org"])),
        ("www", tls::issue(&["www.example.org"])),
    ];
    let proxy = Proxy::start_as(&format!("{BASE}{THREE}{}", pool_of(&[&backend])), &pairs).await;
    proxy.ready().await;
    let stream = shake_hands(proxy.address("https"), &tls::client(HTTP1), "a.test").await.unwrap();
    let mut client = Wire::over(stream);
    for (host, status) in
        [("a.test", 200), ("b.test", 200), ("x.example.org", 421), ("a.test", 200)]
    {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(client.response().await.unwrap().status(), status, "{host}");
    }
    assert_eq!(backend.requests().len(), 3);
}

#[tokio::test]
async fn both_versions_are_spoken() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    for version in [&TLS12, &TLS13] {
        let config = tls::client_of(version, HTTP1);
        let stream = shake_hands(proxy.address("https"), &config, "localhost").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(Wire::over(stream).get("/").await.text(), "one");
    }
}

#[tokio::test]
async fn http_1_is_settled_on_without_alpn() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    let stream = shake_hands(proxy.address("https"), &tls::client(&[]), "localhost").await.unwrap();
    assert_eq!(Wire::over(stream).get("/").await.text(), "one");
}

fn handshake_errors(proxy: &Proxy, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    proxy.metric("tidegate_listener_handshake_errors_total", &[&reason])
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_dropped_in_time() {
    let backend = Backend::named("one").await;
    let limits = "[listeners.https.limits]\nhandshake_timeout = \"100ms\"\n";
    let proxy = Proxy::start(&format!("{HTTPS}{limits}{}", pool_of(&[&backend]))).await;
    let mut silent = Wire::connect(proxy.address("https")).await;
    assert_eq!(silent.rest().await, b"");
    eventually("counted", async || handshake_errors(&proxy, "timeout") == 1.0).await;
}

#[tokio::test]
async fn a_client_that_speaks_plain_http_to_tls_is_dropped_and_counted() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    let mut client = Wire::connect(proxy.address("https")).await;
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    eventually("counted", async || handshake_errors(&proxy, "protocol") == 1.0).await;
    eventually("gone", async || proxy.metric("tidegate_listener_connections", &["https"]) == 0.0)
        .await;
}

#[tokio::test]
async fn a_renewed_certificate_serves_new_connections_and_leaves_the_old() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    let config = tls::client(HTTP1);
    let old = shake_hands(proxy.address("https"), &config, "localhost").await.unwrap();
    let before = certificate(&old);
    let renewed = tls::issue(&["localhost"]);
    write_pair(proxy.dir(), "", &renewed);
    proxy.reload(&format!("{HTTPS}{}", pool_of(&[&backend]))).await.unwrap();
    // A fresh client, since a resumed session keeps the certificate that it began with.
    let config = tls::client(HTTP1);
    let new = shake_hands(proxy.address("https"), &config, "localhost").await.unwrap();
    assert_ne!(before, certificate(&new));
    assert_eq!(certificate(&new), tls::der(&renewed));
    assert_eq!(Wire::over(old).get("/").await.text(), "one");
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_its_key_changes_nothing() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    let mut wrong = tls::issue(&["localhost"]);
    wrong.key = tls::issue(&["localhost"]).key;
    write_pair(proxy.dir(), "", &wrong);
    let refused = proxy.reload(&format!("{HTTPS}{}", pool_of(&[&backend]))).await;
    assert!(refused.is_err());
    let stream = shake_hands(proxy.address("https"), &tls::client(HTTP1), "localhost").await;
    assert_eq!(Wire::over(stream.unwrap()).get("/").await.text(), "one");
}

#[tokio::test]
async fn a_handshake_that_a_shutdown_meets_is_served() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&backend).await;
    let address = proxy.address("https");
    let tcp = TcpStream::connect(address).await.unwrap();
    eventually("accepted", async || {
        proxy.metric("tidegate_listener_connections", &["https"]) == 1.0
    })
    .await;
    let shared = Arc::clone(proxy.running().shared());
    let stopping = tokio::spawn(proxy.stop());
    // Not accepting any more, that is: the sockets are closed.
    eventually("closed", async || TcpStream::connect(address).await.is_err()).await;
    assert!(shared.lifecycle.draining());
    let name = "localhost".try_into().unwrap();
    let connector = TlsConnector::from(tls::client(HTTP1));
    let stream = in_time("a handshake", connector.connect(name, tcp)).await.unwrap();
    assert_eq!(Wire::over(stream).get("/").await.text(), "one");
    in_time("the stop", stopping).await.unwrap();
}

/// Health checks of balancers, and browsers that connect ahead, say nothing.
#[tokio::test]
async fn a_silent_client_holds_up_no_stop() {
    let backend = Backend::named("one").await;
    let limits = "[listeners.https.limits]\nhandshake_timeout = \"1h\"\n";
    let proxy = Proxy::start(&format!("{HTTPS}{limits}{}", pool_of(&[&backend]))).await;
    let mut silent = Wire::connect(proxy.address("https")).await;
    eventually("accepted", async || {
        proxy.metric("tidegate_listener_connections", &["https"]) == 1.0
    })
    .await;
    proxy.running().drain(Duration::from_secs(3600));
    assert_eq!(silent.rest().await, b"");
    eventually("all workers have ended", async || proxy.running().has_drained()).await;
}

#[tokio::test]
async fn a_handshake_that_has_begun_is_waited_for_at_a_stop() {
    let backend = Backend::named("one").await;
    let limits = "[listeners.https.limits]\nhandshake_timeout = \"2s\"\n";
    let proxy = Proxy::start(&format!("{HTTPS}{limits}{}", pool_of(&[&backend]))).await;
    let mut slow = Wire::connect(proxy.address("https")).await;
    // The head of a record that holds a ClientHello.
    slow.send([0x16, 0x03, 0x01, 0x00, 0xc8]).await;
    eventually("accepted", async || {
        proxy.metric("tidegate_listener_connections", &["https"]) == 1.0
    })
    .await;
    proxy.running().drain(Duration::from_secs(3600));
    assert_eq!(slow.rest().await, b"");
    eventually("counted", async || handshake_errors(&proxy, "timeout") == 1.0).await;
}

/// A proxy in front of a backend that speaks TLS as `backend.test`, with these settings.
async fn before_tls(upstream: &str) -> Proxy {
    let address = http1_over_tls(tls::server(&["backend.test"], HTTP1)).await;
    let pool = pool_at(&[address]);
    Proxy::start(&format!("{pool}[pools.app.upstream]\n{upstream}\n")).await
}

#[tokio::test]
async fn a_backend_is_verified_by_the_name_that_is_set() {
    let proxy = before_tls("tls = { ca = \"ca.pem\", server_name = \"backend.test\" }").await;
    assert_eq!(proxy.connect().await.get("/").await.text(), "old");
}

#[tokio::test]
async fn a_backend_of_another_name_is_refused() {
    for upstream in [
        // Its address, by default.
        "tls = { ca = \"ca.pem\" }",
        "tls = { ca = \"ca.pem\", server_name = \"other.test\" }",
    ] {
        let proxy = before_tls(upstream).await;
        assert_eq!(proxy.connect().await.get("/").await.status(), 502, "{upstream}");
    }
}

#[tokio::test]
async fn a_backend_of_an_unknown_authority_is_refused_unless_anyone_is_believed() {
    // The system's authorities do not know the tests' own.
    let own = tidegate::certs::generate::self_signed(
        &["other.test"],
        tidegate::certs::generate::Validity::of_days(std::time::SystemTime::now(), 1),
    )
    .unwrap();
    let address = http1_over_tls(tls::server(&["backend.test"], HTTP1)).await;
    for (verify, status) in [(true, 502), (false, 200)] {
        let config = format!(
            "{BASE}{}[pools.app.upstream]\n\
             tls = {{ ca = \"othercert.pem\", server_name = \"backend.test\", verify = {verify} }}\n",
            pool_at(&[address])
        );
        let config = if verify { config } else { config.replace("ca = \"othercert.pem\", ", "") };
        let proxy = Proxy::start_as(&config, &[("other", own.clone())]).await;
        proxy.ready().await;
        assert_eq!(proxy.connect().await.get("/").await.status(), status, "verify = {verify}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_clean_end() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").then(Step::Close)
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let stream =
        shake_hands(proxy.address("https"), &tls::client(HTTP1), "localhost").await.unwrap();
    let mut client = Wire::over(stream);
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(client.response().await.is_err());
}

/// Keeps what is read from a connection, as it was on the network.
struct Tap {
    tcp: TcpStream,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tap {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.tcp).poll_read(cx, buf);
        this.seen.lock().unwrap().extend_from_slice(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, b: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, b)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

/// The lengths of the records in here (RFC 8446 section 5.1).
fn records(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        lengths.push(length);
        bytes = &rest[length..];
    }
    lengths
}

/// A proxy that answers `/long` at length, and a client there that notes what comes.
async fn tapped(protocols: &[&[u8]]) -> (Proxy, Backend, TlsStream<Tap>, Arc<Mutex<Vec<u8>>>) {
    let backend = Backend::start(|request| match request.request_line().1 {
        "/long" => Reply::ok("x".repeat(200_000)),
        _ => Reply::ok("x".repeat(2000)),
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let tcp = TcpStream::connect(proxy.address("https")).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tap = Tap { tcp, seen: Arc::clone(&seen) };
    let connector = TlsConnector::from(tls::client(protocols));
    let stream = connector.connect("localhost".try_into().unwrap(), tap).await.unwrap();
    (proxy, backend, stream, seen)
}

/// The longest of the records that the first 16 KiB came in.
fn longest_at_first(records: &[usize]) -> usize {
    let mut sent = 0;
    let beginning = records.iter().take_while(|length| {
        sent += **length;
        sent <= 16 * 1024
    });
    beginning.copied().max().unwrap()
}

#[tokio::test]
async fn records_begin_short_and_grow_with_each_answer() {
    let (_proxy, _backend, stream, seen) = tapped(HTTP1).await;
    let mut client = Wire::over(stream);
    let host = [("Host", "localhost")];
    // The handshake's last words come with the first answer.
    client.ask("GET", "/", &host, "").await;
    for _ in 0..2 {
        seen.lock().unwrap().clear();
        assert_eq!(client.ask("GET", "/", &host, "").await.body.len(), 2000);
        assert_eq!(records(&seen.lock().unwrap()).len(), 1, "a short answer is one record");

        seen.lock().unwrap().clear();
        assert_eq!(client.ask("GET", "/long", &host, "").await.body.len(), 200_000);
        let records = records(&seen.lock().unwrap());
        assert!(longest_at_first(&records) <= 5120 + 32, "{records:?}");
        let (_, all_but_the_last) = records.split_last().unwrap();
        assert!(all_but_the_last.iter().all(|length| *length > 1024), "{records:?}");
        assert!(records.iter().any(|length| *length > 8192), "{records:?}");
    }
}

#[tokio::test]
async fn records_begin_short_and_grow_over_http_2() {
    let (_proxy, _backend, stream, seen) = tapped(&[b"h2"]).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
    let mut client = H2Client::over(stream, &mut builder).await;
    client.get("/").await;
    seen.lock().unwrap().clear();
    assert_eq!(client.get("/long").await.body.len(), 200_000);
    let records = records(&seen.lock().unwrap());
    assert!(longest_at_first(&records) <= 5120 + 32, "{records:?}");
    assert!(records.iter().any(|length| *length > 8192), "{records:?}");
}
