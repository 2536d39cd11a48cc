//! gRPC from end to end: a client and a backend of HTTP/2, with what gRPC hangs on.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Request};

use crate::support::h2_backend::{Exchange, H2Backend};
use crate::support::h2_client::{H2Client, answer, read, read_some, request};
use crate::support::proxy::{HTTPS, Proxy, pool_at};
use crate::support::{eventually, in_time};

/// A service with the methods of the tests.
async fn service() -> H2Backend {
    H2Backend::start(|mut exchange| async move {
        match exchange.request.uri().path() {
            "/test.Echo/Unary" => unary(&mut exchange).await,
            "/test.Echo/Stream" => stream(&mut exchange).await,
            "/test.Echo/Both" => both(&mut exchange).await,
            _ => exchange.bare(200, &[("content-type", "application/grpc"), ("grpc-status", "12")]),
        }
    })
    .await
}

async fn unary(exchange: &mut Exchange) {
    let (message, _) = exchange.read().await;
    let mut body = exchange.head(200, &[("content-type", "application/grpc")]);
    body.send_data(message.into(), false).unwrap();
    body.send_trailers(status("0")).unwrap();
}

/// Three messages, each after the one before was let go.
async fn stream(exchange: &mut Exchange) {
    exchange.read().await;
    let mut body = exchange.head(200, &[("content-type", "application/grpc")]);
    for message in ["one", "two", "three"] {
        body.send_data(frame(message), false).unwrap();
        exchange.hold().await;
    }
    body.send_trailers(status("0")).unwrap();
}

/// Answers each message as it comes.
async fn both(exchange: &mut Exchange) {
    let mut body = exchange.head(200, &[("content-type", "application/grpc")]);
    while let Some(Ok(data)) = exchange.request.body_mut().data().await {
        exchange.request.body_mut().flow_control().release_capacity(data.len()).unwrap();
        body.send_data(data, false).unwrap();
    }
    body.send_trailers(status("0")).unwrap();
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
}

/// A message in its frame: not compressed, its length, its bytes.
fn frame(message: &str) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message.as_bytes());
    frame.freeze()
}

fn call(method: &str) -> Request<()> {
    let mut request = request(Method::POST, &format!("/test.Echo/{method}"));
    let fields = request.headers_mut();
    fields.insert("content-type", "application/grpc".parse().unwrap());
    fields.insert("te", "trailers".parse().unwrap());
    request
}

async fn proxy_before(backend: &H2Backend) -> (Proxy, H2Client) {
    let pool = pool_at(&[backend.address]);
    let proxy =
        Proxy::start(&format!("{HTTPS}{pool}[pools.app.upstream]\nprotocol = \"h2\"\n")).await;
    let client = H2Client::connect(proxy.address("https")).await;
    (proxy, client)
}

#[tokio::test]
async fn a_unary_call() {
    let backend = service().await;
    let (_proxy, mut client) = proxy_before(&backend).await;
    let answer = client.send(call("Unary"), &frame("hello")).await.unwrap();
    assert_eq!(answer.body, frame("hello"));
    assert_eq!(answer.trailers, Some(status("0")));
}

#[tokio::test]
async fn te_trailers_reaches_the_backend() {
    let backend = service().await;
    let (_proxy, mut client) = proxy_before(&backend).await;
    client.send(call("Unary"), &frame("hello")).await.unwrap();
    assert_eq!(backend.requests()[0].headers()["te"], "trailers");
}

#[tokio::test]
async fn messages_of_a_server_stream_arrive_one_by_one() {
    let backend = service().await;
    let (_proxy, mut client) = proxy_before(&backend).await;
    let (response, mut send) = client.start(call("Stream"), false).await;
    send.send_data(frame("go"), true).unwrap();
    let mut body = in_time("a head", response).await.unwrap().into_body();
    for message in ["one", "two", "three"] {
        let frame = frame(message);
        assert_eq!(read_some(&mut body, frame.len()).await, frame);
        backend.release();
    }
    assert_eq!(read(&mut body).await.unwrap(), (Vec::new(), Some(status("0"))));
}

#[tokio::test]
async fn both_sides_stream_at_once() {
    let backend = service().await;
    let (proxy, mut client) = proxy_before(&backend).await;
    let (response, mut send) = client.start(call("Both"), false).await;
    let mut body = in_time("a head", response).await.unwrap().into_body();
    for message in ["one", "two", "three"] {
        send.send_data(frame(message), false).unwrap();
        let frame = frame(message);
        assert_eq!(read_some(&mut body, frame.len()).await, frame);
    }
    assert_eq!(proxy.in_flight_at(backend.address), 1);
    send.send_data(Bytes::new(), true).unwrap();
    assert_eq!(read(&mut body).await.unwrap(), (Vec::new(), Some(status("0"))));
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
}

#[tokio::test]
async fn an_answer_of_trailers_only() {
    let backend = service().await;
    let (proxy, mut client) = proxy_before(&backend).await;
    let (response, mut send) = client.start(call("Unknown"), false).await;
    send.send_data(frame("hello"), true).unwrap();
    let answer = answer(response).await.unwrap();
    assert_eq!(answer.field("grpc-status"), Some("12"));
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
}

#[tokio::test]
async fn calls_share_a_connection_to_the_backend() {
    let backend = service().await;
    let (_proxy, mut client) = proxy_before(&backend).await;
    for _ in 0..20 {
        client.send(call("Unary"), &frame("hello")).await.unwrap();
    }
    assert_eq!(backend.connections(), 1);
}
