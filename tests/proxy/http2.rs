//! HTTP/2 towards clients.

use bytes::Bytes;
use h2::Reason;
use h2::ext::Protocol;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::io::AsyncWriteExt;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::{H2Client, answer, get, read, read_some, request};
use crate::support::h2_wire::{
    self, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Wire, HEADERS, NO_TABLE, Outcome, WINDOW_UPDATE,
    ask, block, frame,
};
use crate::support::proxy::{HTTPS, Proxy, pool_at, pool_of};
use crate::support::wire::read_head;
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

#[tokio::test]
async fn a_reset_by_the_client_frees_the_slot_while_the_backend_is_silent() {
    let backend = Backend::start(|_| Reply(vec![Step::Hang])).await;
    let proxy = proxy_before(&[&backend]).await;
    let (response, mut stream) = client_of(&proxy).await.start(get("/"), true).await;
    eventually("in flight", async || proxy.in_flight(&backend) == 1).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
    eventually("recorded as 499", async || {
        proxy.metric("tidegate_listener_requests_total", &["https", "\"499\""]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_reset_by_the_client_frees_the_slot_within_a_body() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").then(Step::Hang)
    })
    .await;
    let proxy = proxy_before(&[&backend]).await;
    let (response, mut stream) = client_of(&proxy).await.start(get("/"), true).await;
    let mut body = in_time("a head", response).await.unwrap().into_body();
    read_some(&mut body, 3).await;
    stream.send_reset(Reason::CANCEL);
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
    eventually("recorded", async || proxy.recorded("https") == 1.0).await;
}

#[tokio::test]
async fn a_connection_that_vanishes_frees_every_slot() {
    let backend = Backend::start(|_| Reply(vec![Step::Hang])).await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(client.start(get("/"), true).await);
    }
    eventually("in flight", async || proxy.in_flight(&backend) == 5).await;
    client.connection.abort();
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
    eventually("recorded", async || proxy.recorded("https") == 5.0).await;
}

#[tokio::test]
async fn a_connection_beyond_its_age_is_told_to_go_away() {
    let backend = Backend::named("one").await;
    let proxy = limited(&backend, "keepalive_max_age = \"1ms\"").await;
    let client = client_of(&proxy).await;
    // The first request may be quicker than the age.
    eventually("told to go away", async || match client.send.clone().ready().await {
        Ok(mut send) => {
            let response = send.send_request(get("/"), true).unwrap().0;
            match in_time("an answer", response).await {
                Ok(response) => {
                    assert_eq!(response.status(), StatusCode::OK);
                    false
                }
                // Told while it was about to ask.
                Err(error) => error.is_go_away() && error.reason() == Some(Reason::NO_ERROR),
            }
        }
        Err(_) => true,
    })
    .await;
    // Its last acknowledgement may meet a closed socket.
    let _ = in_time("the end", client.connection).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_lets_streams_finish_and_closes_the_connection() {
    let backend = Backend::start(|_| Reply::ok("late").after(Step::Hold)).await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    let response = client.start(get("/"), true).await.0;
    eventually("in flight", async || proxy.in_flight(&backend) == 1).await;
    let stopping = tokio::spawn(proxy.stop());
    eventually("going away", async || client.send.clone().ready().await.is_err()).await;
    backend.release();
    assert_eq!(answer(response).await.unwrap().text(), "late");
    let _ = in_time("the end", client.connection).await.unwrap();
    in_time("the stop", stopping).await.unwrap();
}

#[tokio::test]
async fn a_stalled_reader_stalls_no_other_stream_and_holds_little() {
    const LARGE: usize = 32 * 1024 * 1024;
    let backend = Backend::start(|request| match request.request_line().1 {
        "/large" => Reply::ok(vec![7; LARGE]),
        _ => Reply::ok("small"),
    })
    .await;
    let proxy = proxy_before(&[&backend]).await;
    // The client leaves room on the connection beside what one stream may take of it.
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(256 * 1024).initial_connection_window_size(1024 * 1024);
    let mut client = H2Client::connect_with(proxy.address("https"), &mut builder).await;
    let response = client.start(get("/large"), true).await.0;
    let mut stalled = in_time("a head", response).await.unwrap().into_body();
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "small");
    }
    // What is on its way is bounded by buffers (ours, and those of two sockets), not by the body.
    let taken = proxy.metric("tidegate_backend_bytes_total", &[]);
    assert!(taken < LARGE as f64 / 2.0, "{taken} bytes taken from the backend");
    assert_eq!(read(&mut stalled).await.unwrap().0.len(), LARGE);
}

#[tokio::test]
async fn an_upload_that_the_backend_does_not_read_is_not_taken_from_the_client() {
    // It reads the head, and then nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _backend = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let pool = pool_at(&[address]);
    let proxy = Proxy::start(&format!("{HTTPS}{pool}")).await;
    let mut client = client_of(&proxy).await;
    let (_response, mut stream) = client.start(request(Method::POST, "/"), false).await;
    let mut sent = 0;
    let sending = async {
        loop {
            send(&mut stream, vec![0; 64 * 1024].into(), false).await;
            sent += 64 * 1024;
        }
    };
    // Sockets take some megabytes; then it stands still.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), sending).await;
    assert!(sent < 32 * 1024 * 1024, "{sent} bytes taken from the client");
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
async fn every_kind_of_answer_frees_the_slot_and_is_recorded_once() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
    let rows = [
        (
            "GET",
            "length n",
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
            200,
            "abc",
        ),
        ("GET", "length 0", Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 200, ""),
        ("HEAD", "head", Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), 200, ""),
        ("GET", "204", Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"), 204, ""),
        (
            "GET",
            "304",
            Reply::raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
            304,
            "",
        ),
        ("GET", "chunked", Reply::raw(format!("{CHUNKED}\r\n")), 200, "abc"),
        ("GET", "trailers", Reply::raw(format!("{CHUNKED}X-Sum: 6\r\n\r\n")), 200, "abc"),
        (
            "GET",
            "no length",
            Reply::raw("HTTP/1.1 200 OK\r\n\r\nabc").then(Step::Close),
            200,
            "abc",
        ),
        ("POST", "upload", Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 200, ""),
    ];
    for (method, name, reply, status, body) in rows {
        let backend = Backend::start(move |_| reply.clone()).await;
        let proxy = proxy_before(&[&backend]).await;
        let mut client = client_of(&proxy).await;
        for round in [1.0, 2.0] {
            let request = request(method.parse().unwrap(), "/");
            let answer = match method {
                "POST" => client.send(request, b"abc").await.unwrap(),
                _ => client.ask(request).await.unwrap(),
            };
            assert_eq!((answer.status.as_u16(), &*answer.text()), (status, body), "{name}");
            settles(name, &proxy, &backend, round).await;
        }
    }
}

#[tokio::test]
async fn an_early_answer_ends_an_upload_that_never_ends() {
    // It answers as soon as the head is there, and keeps the connection.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _backend = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if read_head(&mut stream, &mut Vec::new()).await.is_ok() {
                    let early = b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nbig";
                    stream.write_all(early).await.unwrap();
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_at(&[address]))).await;
    let mut client = client_of(&proxy).await;
    let (response, mut stream) = client.start(request(Method::POST, "/"), false).await;
    stream.send_data("abc".into(), false).unwrap();
    let answer = answer(response).await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.text()), (413, "big"));
    eventually("no slot is held", async || proxy.in_flight_at(address) == 0).await;
    eventually("one record", async || proxy.recorded("https") == 1.0).await;
    // RFC 9113 section 8.1: the rest of the request is declined with NO_ERROR.
    let reset = in_time("a reset", std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
    assert_eq!(reset.unwrap(), Reason::NO_ERROR);
}

#[tokio::test]
async fn an_upload_that_was_refused_may_still_be_sent_to_its_end() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    let (response, mut stream) = client.start(request(Method::POST, "/a/../b"), false).await;
    assert_eq!(answer(response).await.unwrap().status, StatusCode::BAD_REQUEST);
    // Far more than the windows hold.
    for _ in 0..30 {
        send(&mut stream, vec![0; 100_000].into(), false).await;
    }
    stream.send_data(Bytes::new(), true).unwrap();
    // And the connection is as good as before.
    assert_eq!(client.get("/").await.text(), "one");
}

#[tokio::test]
async fn a_body_that_the_backend_breaks_off_is_no_clean_end() {
    for (name, head) in [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    ] {
        for end in [Step::Close, Step::Reset] {
            let backend =
                Backend::start(move |_| Reply::raw(head).then(Step::Hold).then(end.clone())).await;
            let proxy = proxy_before(&[&backend]).await;
            let response = client_of(&proxy).await.start(get("/"), true).await.0;
            let mut body = in_time("a head", response).await.unwrap().into_body();
            read_some(&mut body, 3).await;
            backend.release();
            let error = read(&mut body).await.expect_err(name);
            assert!(error.is_reset(), "{name}: {error}");
            settles(name, &proxy, &backend, 1.0).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_is_asleep_does_not_hold_a_stop_up() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = H2Wire::connect(proxy.address("https")).await;
    client.send(ask(1, "/")).await;
    assert_eq!(client.outcome(1).await, Outcome::Status(200));
    let stopping = tokio::spawn(proxy.stop());
    // The PING between the two is not answered.
    let mut told = Vec::new();
    while let Some(frame) = client.next().await {
        if frame.kind == GOAWAY {
            told.push(frame.payload[..4].to_vec());
        }
    }
    assert_eq!(told, [[0x7f, 0xff, 0xff, 0xff], [0, 0, 0, 1]]);
    drop(client);
    in_time("the stop", stopping).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_gets_its_answer_to_the_end() {
    const BYTES: usize = 3_000_000;
    let backend = Backend::start(|_| Reply::ok(vec![b'x'; BYTES])).await;
    let proxy = proxy_before(&[&backend]).await;
    for round in 0..3 {
        let settings = [&NO_TABLE[..], &[0, 4, 0x7f, 0xff, 0xff, 0xff]].concat();
        let mut client = H2Wire::connect_with(proxy.address("https"), &settings).await;
        let grow = |by: u32| frame(WINDOW_UPDATE, 0, 0, by.to_be_bytes());
        client.send([grow(1 << 30), ask(1, "/"), frame(GOAWAY, 0, 0, [0; 8])].concat()).await;
        let (mut received, mut ended) = (0, false);
        while let Some(frame) = client.next().await {
            if frame.kind == DATA {
                received += frame.payload.len();
                ended |= frame.flags & END_STREAM != 0;
                // Whoever is told that the connection ends still tells what it takes.
                let _ = client.try_send(grow(1)).await;
            }
        }
        assert_eq!((received, ended), (BYTES, true), "round {round}");
    }
}
