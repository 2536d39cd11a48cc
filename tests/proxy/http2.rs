//! HTTP/2 towards clients.

mod ends;
mod flow;

use bytes::Bytes;
use h2::ext::Protocol;
use http::{HeaderMap, Method, Request, StatusCode};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::{H2Client, answer, get, request};
use crate::support::h2_wire::{
    self, DATA, END_HEADERS, END_STREAM, H2Wire, HEADERS, Outcome, block, frame,
};
use crate::support::proxy::{HTTPS, Proxy, pool_of};
use crate::support::{eventually, in_time};

/// In front of these backends, with HTTP/2 over TLS.
async fn proxy_before(backends: &[&Backend]) -> Proxy {
    Proxy::start(&format!("{HTTPS}{}", pool_of(backends))).await
}

/// In front of one backend, with these limits of the listener.
async fn limited(backend: &Backend, limits: &str) -> Proxy {
    let limits = format!("[listeners.https.limits]\n{limits}\n");
    Proxy::start(&format!("{HTTPS}{limits}{}", pool_of(&[backend]))).await
}

async fn client_of(proxy: &Proxy) -> H2Client {
    H2Client::connect(proxy.address("https")).await
}

/// "Two guards" of every kind of exchange: the slot becomes free, and there is one record of it.
async fn settles(name: &str, proxy: &Proxy, backend: &Backend, records: f64) {
    let what = format!("{name}: no slot is held");
    eventually(&what, async || proxy.in_flight(backend) == 0).await;
    let what = format!("{name}: {records} records");
    eventually(&what, async || proxy.recorded("https") >= records).await;
    assert_eq!(proxy.recorded("https"), records, "{name}");
}

#[tokio::test]
async fn alpn_settles_on_http_2_and_requests_are_carried() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    assert_eq!(client.get("/hello?a=b").await.text(), "one");
    assert_eq!(backend.requests()[0].start, "GET /hello?a=b HTTP/1.1");
}

#[tokio::test]
async fn the_host_comes_from_the_authority() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    client_of(&proxy).await.get("/").await;
    assert_eq!(backend.requests()[0].all("host"), ["localhost"]);
}

#[tokio::test]
async fn streams_of_one_connection_run_at_once() {
    let backend = Backend::start(|_| Reply::ok("late").after(Step::Hold)).await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(client.start(get("/"), true).await.0);
    }
    eventually("ten in flight", async || proxy.in_flight(&backend) == 10).await;
    for _ in 0..10 {
        backend.release();
    }
    for response in waiting {
        assert_eq!(answer(response).await.unwrap().text(), "late");
    }
}

#[tokio::test]
async fn a_request_body_is_carried() {
    let backend = Backend::start(|request| Reply::ok(&request.body)).await;
    let proxy = proxy_before(&[&backend]).await;
    let body: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let (response, mut stream) =
        client_of(&proxy).await.start(request(Method::POST, "/"), false).await;
    let sent = body.clone();
    tokio::spawn(async move {
        for piece in sent.chunks(10_000) {
            send(&mut stream, piece.to_vec().into(), false).await;
        }
        stream.send_data(Bytes::new(), true).unwrap();
    });
    assert!(answer(response).await.unwrap().body == body);
}

/// Sends data as flow control allows it.
async fn send(stream: &mut h2::SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = in_time("capacity", std::future::poll_fn(|cx| stream.poll_capacity(cx))).await;
        let piece = data.split_to(room.unwrap().unwrap().min(data.len()));
        stream.send_data(piece, end && data.is_empty()).unwrap();
    }
}

#[tokio::test]
async fn an_announced_length_is_forwarded_as_one() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut request = request(Method::POST, "/");
    request.headers_mut().insert("content-length", 3.into());
    client_of(&proxy).await.send(request, b"abc").await.unwrap();
    assert_eq!(backend.requests()[0].all("content-length"), ["3"]);
}

#[tokio::test]
async fn announced_request_trailers_reach_the_backend() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut request = request(Method::POST, "/");
    request.headers_mut().insert("trailer", "x-sum".parse().unwrap());
    let (response, mut stream) = client_of(&proxy).await.start(request, false).await;
    stream.send_data("abc".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "6".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    answer(response).await.unwrap();
    let trailers = &backend.requests()[0].trailers;
    assert_eq!(*trailers, [("x-sum".to_owned(), "6".to_owned())]);
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let backend = Backend::start(|request| Reply::ok(&request.body)).await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = H2Wire::connect(proxy.address("https")).await;
    let fields = [&h2_wire::request(b"POST", b"/")[..], &[(b"expect", b"100-continue")]].concat();
    client.send(frame(HEADERS, END_HEADERS, 1, block(&fields))).await;
    assert_eq!(client.outcome(1).await, Outcome::Status(100));
    client.send(frame(DATA, END_STREAM, 1, "abc")).await;
    assert_eq!(client.outcome(1).await, Outcome::Status(200));
    assert_eq!(backend.requests()[0].text(), "abc");
}

#[tokio::test]
async fn response_trailers_reach_the_client() {
    let backend = Backend::start(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n",
        )
    })
    .await;
    let proxy = proxy_before(&[&backend]).await;
    let answer = client_of(&proxy).await.get("/").await;
    assert_eq!(answer.trailers.unwrap()["x-sum"], "6");
}

#[tokio::test]
async fn head_keeps_the_length_without_a_body() {
    let backend =
        Backend::start(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")).await;
    let proxy = proxy_before(&[&backend]).await;
    let answer = client_of(&proxy).await.ask(request(Method::HEAD, "/")).await.unwrap();
    assert_eq!((answer.field("content-length"), answer.body.len()), (Some("5"), 0));
}

#[tokio::test]
async fn hop_by_hop_fields_of_a_backend_do_not_reach_http_2() {
    let backend = Backend::start(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\n\
             X-Hop: 1\r\nProxy-Connection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        )
    })
    .await;
    let proxy = proxy_before(&[&backend]).await;
    let answer = client_of(&proxy).await.get("/").await;
    for name in ["connection", "keep-alive", "x-hop", "proxy-connection"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn cookies_are_joined_towards_http_1() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut request = get("/");
    for cookie in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", cookie.parse().unwrap());
    }
    client_of(&proxy).await.ask(request).await.unwrap();
    assert_eq!(backend.requests()[0].all("cookie"), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn dot_segments_are_refused() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    for path in ["/a/../b", "/..", "/a/./b", "/a/%2e%2e/b"] {
        assert_eq!(client.get(path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn plain_connect_is_not_allowed() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let request = Request::builder().method("CONNECT").uri("localhost:80").body(()).unwrap();
    let answer = client_of(&proxy).await.ask(request).await.unwrap();
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn unknown_protocols_of_extended_connect_are_not_implemented() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    client.get("/").await;
    let mut request = request(Method::CONNECT, "/");
    request.extensions_mut().insert(Protocol::from_static("connect-udp"));
    let answer = client.ask(request).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn no_more_streams_are_open_than_allowed() {
    let backend = Backend::start(|_| Reply::ok("late").after(Step::Hold)).await;
    let proxy = limited(&backend, "h2_streams = 2").await;
    let mut client = client_of(&proxy).await;
    // The settings are known once something has been answered.
    backend.release();
    client.get("/").await;
    let first = client.start(get("/"), true).await.0;
    let second = client.start(get("/"), true).await.0;
    eventually("two in flight", async || proxy.in_flight(&backend) == 2).await;
    let third = tokio::spawn({
        let send = client.send.clone();
        async move { send.ready().await.unwrap().send_request(get("/"), true).unwrap().0.await }
    });
    backend.release();
    backend.release();
    answer(first).await.unwrap();
    answer(second).await.unwrap();
    eventually("the third in flight", async || proxy.in_flight(&backend) == 1).await;
    backend.release();
    assert_eq!(in_time("the third", third).await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(backend.requests().len(), 4);
}
