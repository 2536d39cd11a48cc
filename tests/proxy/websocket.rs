//! WebSockets, and other protocols that begin with an Upgrade.

mod http2_only;
mod over_http2;
mod raw;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::backend::Backend;
use crate::support::proxy::{BASE, HTTPS, Proxy, pool_at, pool_of};
use crate::support::wire::Stream;
use crate::support::{eventually, in_time, tls};

type Client = WebSocketStream<Box<dyn Stream>>;

/// A real WebSocket server that says back what it is told; over TLS if it is given how.
async fn echo(tls: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone().map(TlsAcceptor::from);
            tokio::spawn(async move {
                let stream: Box<dyn Stream> = match tls {
                    None => Box::new(tcp),
                    Some(tls) => match tls.accept(tcp).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => return,
                    },
                };
                let Ok(mut socket) = accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary())
                        && socket.send(message).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn before(address: SocketAddr) -> Proxy {
    Proxy::start(&format!("{HTTPS}{}", pool_at(&[address]))).await
}

async fn socket(proxy: &Proxy) -> Client {
    let tcp = TcpStream::connect(proxy.http()).await.unwrap();
    opened(Box::new(tcp), "ws://localhost/chat").await
}

async fn secure_socket(proxy: &Proxy) -> Client {
    let tcp = TcpStream::connect(proxy.address("https")).await.unwrap();
    let connector = TlsConnector::from(tls::client(&[b"http/1.1"]));
    let stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    opened(Box::new(stream), "wss://localhost/chat").await
}

async fn opened(stream: Box<dyn Stream>, uri: &str) -> Client {
    in_time("a handshake", client_async(uri, stream)).await.unwrap().0
}

async fn says_back(socket: &mut Client, message: Message) {
    in_time("sending", socket.send(message.clone())).await.unwrap();
    let answer = in_time("an echo", socket.next()).await.unwrap().unwrap();
    assert!(answer == message, "something else came back");
}

#[tokio::test]
async fn messages_are_echoed() {
    let proxy = before(echo(None).await).await;
    let mut socket = socket(&proxy).await;
    for text in ["one", "two", ""] {
        says_back(&mut socket, Message::text(text)).await;
    }
}

#[tokio::test]
async fn messages_are_echoed_over_tls() {
    let proxy = before(echo(None).await).await;
    let mut socket = secure_socket(&proxy).await;
    says_back(&mut socket, Message::text("secret")).await;
}

#[tokio::test]
async fn large_messages_are_echoed() {
    let proxy = before(echo(None).await).await;
    let large: Vec<u8> = (0..8_000_000_u32).map(|i| (i % 251) as u8).collect();
    for mut socket in [socket(&proxy).await, secure_socket(&proxy).await] {
        says_back(&mut socket, Message::binary(large.clone())).await;
    }
}

#[tokio::test]
async fn a_socket_is_in_flight_while_it_lives() {
    let address = echo(None).await;
    let proxy = before(address).await;
    let mut one = socket(&proxy).await;
    let two = secure_socket(&proxy).await;
    let tunnels = || proxy.metric("tidegate_tunnels", &["pool=\"app\""]);
    eventually("two tunnels", async || tunnels() == 2.0).await;
    assert_eq!(proxy.in_flight_at(address), 2);
    drop(two);
    eventually("one left", async || proxy.in_flight_at(address) == 1).await;
    in_time("closing", one.close(None)).await.unwrap();
    while let Some(Ok(_)) = in_time("the end", one.next()).await {}
    drop(one);
    eventually("none left", async || proxy.in_flight_at(address) == 0).await;
    eventually("no tunnel", async || tunnels() == 0.0).await;
    let switched = ["pool=\"app\"", "\"101\""];
    eventually("recorded", async || proxy.metric("tidegate_pool_requests_total", &switched) == 2.0)
        .await;
}

#[tokio::test]
async fn a_pool_of_http_2_is_asked_over_http_1() {
    let address = echo(None).await;
    let pool = format!("{}[pools.app.upstream]\nprotocol = \"h2\"\n", pool_at(&[address]));
    let proxy = Proxy::start(&pool).await;
    says_back(&mut socket(&proxy).await, Message::text("one")).await;
}

#[tokio::test]
async fn a_backend_that_prefers_http_2_over_tls_is_asked_over_http_1() {
    // It would speak HTTP/2, if that were offered.
    let config = tls::server(&["backend.test"], &[b"h2", b"http/1.1"]);
    let address = echo(Some(config)).await;
    let pool = format!(
        "{}[pools.app.upstream]\nprotocol = \"auto\"\n\
         tls = {{ ca = \"ca.pem\", server_name = \"backend.test\" }}\n",
        pool_at(&[address])
    );
    let proxy = Proxy::start(&pool).await;
    says_back(&mut socket(&proxy).await, Message::text("one")).await;
}

#[tokio::test]
async fn a_reload_leaves_sockets_alone() {
    let address = echo(None).await;
    let proxy = before(address).await;
    let mut sockets = [socket(&proxy).await, secure_socket(&proxy).await];
    let other = Backend::named("other").await;
    // The backend leaves, and so does the listener of one of them.
    proxy.reload(&pool_of(&[&other])).await.unwrap();
    assert_eq!(proxy.connect().await.get("/").await.text(), "other");
    for socket in &mut sockets {
        says_back(socket, Message::text("still here")).await;
    }
}

#[tokio::test]
async fn a_shutdown_sends_sockets_away_and_is_over_with_them() {
    let address = echo(None).await;
    let base = BASE.replace("shutdown_timeout = \"5s\"", "shutdown_timeout = \"1h\"");
    let proxy = Proxy::start_whole(&format!("{base}{}", pool_at(&[address]))).await;
    let mut socket = socket(&proxy).await;
    let stopping = tokio::spawn(proxy.stop());
    match in_time("a close frame", socket.next()).await {
        Some(Ok(Message::Close(Some(farewell)))) => assert_eq!(farewell.code, CloseCode::Away),
        other => panic!("not a close frame: {other:?}"),
    }
    assert!(!matches!(in_time("the end", socket.next()).await, Some(Ok(_))));
    in_time("the stop", stopping).await.unwrap();
}
