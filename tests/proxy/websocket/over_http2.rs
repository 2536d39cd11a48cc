//! Extended CONNECT (RFC 8441).

use bytes::Bytes;
use h2::Reason;
use h2::ext::Protocol;
use http::{Method, Request};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::before;
use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::{H2Client, answer, read, read_some, request};
use crate::support::proxy::Proxy;
use crate::support::wire;
use crate::support::{eventually, in_time};

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
pub fn extended_connect() -> Request<()> {
    let mut request = request(Method::CONNECT, "/chat");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    request
}

pub async fn h2_client(proxy: &Proxy) -> H2Client {
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
