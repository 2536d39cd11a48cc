//! WebSockets, and other protocols that begin with an Upgrade.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use h2::Reason;
use h2::ext::Protocol;
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::{H2Client, answer, read, read_some, request};
use crate::support::proxy::{BASE, HTTPS, Proxy, pool_at, pool_of};
use crate::support::wire::{self, Stream, read_head};
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
async fn a_shutdown_cuts_sockets_when_its_time_is_over() {
    let address = echo(None).await;
    let base = BASE.replace("shutdown_timeout = \"5s\"", "shutdown_timeout = \"300ms\"");
    let proxy = Proxy::start_whole(&format!("{base}{}", pool_at(&[address]))).await;
    let mut socket = socket(&proxy).await;
    let stopping = tokio::spawn(proxy.stop());
    says_back(&mut socket, Message::text("still here")).await;
    in_time("the stop", stopping).await.unwrap();
    assert!(!matches!(in_time("the end", socket.next()).await, Some(Ok(_))));
}

/// What asks for a protocol that nobody has heard of.
const ASK: &str = "GET /up HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";

/// Switches and says back what it is told.
async fn shouter() -> Backend {
    Backend::start(|_| Reply::raw(SWITCH).then(Step::Echo)).await
}

#[tokio::test]
async fn other_protocols_pass() {
    let backend = shouter().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    let answer = client.head().await.unwrap();
    assert_eq!((answer.status(), answer.field("upgrade")), (101, Some("shout")));
    client.send("hello").await;
    assert_eq!(client.bytes(5).await, b"hello");
    assert_eq!(backend.requests()[0].all("upgrade"), ["shout"]);
}

#[tokio::test]
async fn bytes_right_behind_the_request_are_not_lost() {
    let backend = shouter().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(format!("{ASK}early")).await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    client.send(" and late").await;
    assert_eq!(client.bytes(14).await, b"early and late");
}

#[tokio::test]
async fn more_bytes_behind_the_request_than_are_held_are_not_lost() {
    let backend = Backend::start(|_| Reply::raw(SWITCH).then(Step::Echo).after(Step::Hold)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    let early = "x".repeat(200_000);
    client.send(format!("{ASK}{early}")).await;
    backend.release();
    assert_eq!(client.head().await.unwrap().status(), 101);
    assert!(client.bytes(early.len()).await == early.as_bytes());
}

#[tokio::test]
async fn bytes_right_behind_the_answer_are_not_lost() {
    let backend = Backend::start(|_| Reply::raw(format!("{SWITCH}early")).then(Step::Echo)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    assert_eq!(client.bytes(5).await, b"early");
}

#[tokio::test]
async fn a_client_may_end_its_half_and_still_hear() {
    let backend = shouter().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    client.send("last words").await;
    client.finish().await;
    assert_eq!(client.rest().await, b"last words");
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

#[tokio::test]
async fn a_backend_may_end_its_half_and_still_hear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, mut ahead) = loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut ahead = Vec::new();
            // Probes connect and say nothing.
            if read_head(&mut stream, &mut ahead).await.is_ok() {
                break (stream, ahead);
            }
        };
        stream.write_all(SWITCH.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut ahead).await.unwrap();
        heard.send(ahead).unwrap();
    });
    let proxy = before(address).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    assert_eq!(client.rest().await, b"");
    client.send("last words").await;
    client.finish().await;
    assert_eq!(in_time("the words", hears).await.unwrap(), b"last words");
    eventually("free", async || proxy.in_flight_at(address) == 0).await;
}

#[tokio::test]
async fn a_tunnel_that_nobody_uses_is_closed() {
    let backend = shouter().await;
    let pool = pool_of(&[&backend]);
    let limit = "[pools.app.upstream]\ntunnel_idle_timeout = \"200ms\"\n";
    let proxy = Proxy::start(&format!("{pool}{limit}")).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    client.send("hello").await;
    assert_eq!(client.rest().await, b"hello");
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

#[tokio::test]
async fn a_connection_goes_on_after_a_declined_upgrade() {
    let backend = Backend::start(|request| match request.field("upgrade") {
        Some(_) => Reply::status(403, "no"),
        None => Reply::ok("plain"),
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        client.send(ASK).await;
        let answer = client.response().await.unwrap();
        assert_eq!((answer.status(), &*answer.text()), (403, "no"));
        assert_eq!(client.get("/").await.text(), "plain");
    }
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

#[tokio::test]
async fn a_request_right_behind_a_declined_upgrade_is_served() {
    let backend = Backend::start(|request| match request.field("upgrade") {
        Some(_) => Reply::status(403, "no"),
        None => Reply::ok("plain"),
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(format!("{ASK}GET / HTTP/1.1\r\nHost: test\r\n\r\n")).await;
    assert_eq!(client.response().await.unwrap().status(), 403);
    assert_eq!(client.response().await.unwrap().text(), "plain");
}

#[tokio::test]
async fn h2c_is_not_forwarded() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.unwrap().text(), "one");
    let request = &backend.requests()[0];
    for name in ["upgrade", "http2-settings"] {
        assert_eq!(request.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_backend_that_dies_ends_the_tunnel() {
    let backend = shouter().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    backend.kill();
    client.rest().await;
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

/// Answers a WebSocket handshake, and goes on with these steps.
fn accepting(request: &wire::Message, then: Step) -> Reply {
    let accept = derive_accept_key(request.field("sec-websocket-key").unwrap_or("").as_bytes());
    Reply::raw(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    ))
    .then(then)
}

/// RFC 8441 section 5.1, without a key.
fn extended_connect() -> Request<()> {
    let mut request = request(Method::CONNECT, "/chat");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    request
}

async fn h2_client(proxy: &Proxy) -> H2Client {
    let client = H2Client::connect(proxy.address("https")).await;
    eventually("extended CONNECT is offered", async || {
        client.send.is_extended_connect_protocol_enabled()
    })
    .await;
    client
}

#[tokio::test]
async fn a_socket_over_http_2_is_echoed() {
    let backend = Backend::start(|request| accepting(request, Step::Echo)).await;
    let proxy = before(backend.address).await;
    let (response, mut send) = h2_client(&proxy).await.start(extended_connect(), false).await;
    let response = in_time("an answer", response).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert_eq!(response.headers().get(name), None, "{name}");
    }
    let mut body = response.into_body();
    for word in ["one", "three", "eleven"] {
        send.send_data(Bytes::from(word), false).unwrap();
        assert_eq!(read_some(&mut body, word.len()).await, word.as_bytes());
    }
    let request = &backend.requests()[0];
    assert_eq!(request.start, "GET /chat HTTP/1.1");
    assert_eq!(request.all("upgrade"), ["websocket"]);
    assert_eq!(request.all("host"), ["localhost"]);
}

#[tokio::test]
async fn a_client_ends_its_socket_over_http_2() {
    let backend = Backend::start(|request| accepting(request, Step::Echo)).await;
    let proxy = before(backend.address).await;
    let (response, mut send) = h2_client(&proxy).await.start(extended_connect(), false).await;
    let mut body = in_time("an answer", response).await.unwrap().into_body();
    send.send_data("last words".into(), true).unwrap();
    assert_eq!(read(&mut body).await.unwrap().0, b"last words");
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
    eventually("recorded", async || proxy.recorded("https") == 1.0).await;
}

#[tokio::test]
async fn a_backend_ends_a_socket_over_http_2() {
    let backend = Backend::start(|request| accepting(request, Step::Close)).await;
    let proxy = before(backend.address).await;
    let (response, mut send) = h2_client(&proxy).await.start(extended_connect(), false).await;
    let mut body = in_time("an answer", response).await.unwrap().into_body();
    assert_eq!(read(&mut body).await.unwrap().0, b"");
    send.send_data(Bytes::new(), true).unwrap();
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

#[tokio::test]
async fn a_reset_of_a_socket_over_http_2_frees_the_backend() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR] {
        // It neither says anything nor notices that the client has ended.
        let backend = Backend::start(|request| accepting(request, Step::Hang)).await;
        let proxy = before(backend.address).await;
        let (response, mut send) = h2_client(&proxy).await.start(extended_connect(), false).await;
        in_time("an answer", response).await.unwrap();
        assert_eq!(proxy.in_flight(&backend), 1);
        send.send_reset(reason);
        eventually("free", async || proxy.in_flight(&backend) == 0).await;
        eventually("recorded", async || proxy.recorded("https") == 1.0).await;
    }
}

#[tokio::test]
async fn a_wrong_answer_to_the_key_is_a_502_over_http_2() {
    let backend = Backend::start(|_| {
        Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        )
        .then(Step::Hang)
    })
    .await;
    let proxy = before(backend.address).await;
    let (response, _send) = h2_client(&proxy).await.start(extended_connect(), false).await;
    assert_eq!(answer(response).await.unwrap().status.as_u16(), 502);
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

#[tokio::test]
async fn an_ordinary_answer_is_no_open_socket_over_http_2() {
    let backend = Backend::start(|_| Reply::ok("a page")).await;
    let proxy = before(backend.address).await;
    let (response, _send) = h2_client(&proxy).await.start(extended_connect(), false).await;
    assert_eq!(answer(response).await.unwrap().status.as_u16(), 502);
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

#[tokio::test]
async fn a_declined_socket_over_http_2_shows_the_answer() {
    let backend = Backend::start(|_| Reply::status(403, "no")).await;
    let proxy = before(backend.address).await;
    let mut client = h2_client(&proxy).await;
    let (response, _send) = client.start(extended_connect(), false).await;
    let answer = answer(response).await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.text()), (403, "no"));
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

#[tokio::test]
async fn sockets_and_requests_share_a_connection_of_http_2() {
    let backend = Backend::start(|request| match request.field("upgrade") {
        Some(_) => accepting(request, Step::Echo),
        None => Reply::ok("plain"),
    })
    .await;
    let proxy = before(backend.address).await;
    let mut client = h2_client(&proxy).await;
    let (response, mut send) = client.start(extended_connect(), false).await;
    let mut body = in_time("an answer", response).await.unwrap().into_body();
    for _ in 0..5 {
        assert_eq!(client.get("/").await.text(), "plain");
        send.send_data("ping".into(), false).unwrap();
        assert_eq!(read_some(&mut body, 4).await, b"ping");
    }
}
