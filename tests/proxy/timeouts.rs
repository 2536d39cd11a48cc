//! Whoever keeps the other waiting too long: slow clients, slow backends, idle connections.

use std::io::Cursor;
use std::time::Duration;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_wire::{ACK, DATA, H2Wire, PREFACE, SETTINGS, WINDOW_UPDATE, ask, frame};
use crate::support::proxy::{Proxy, pool_of, quiet_pool_of};
use crate::support::wire::Wire;
use crate::support::{eventually, every};

/// A proxy with these limits on its listener.
async fn with_limits(backend: &Backend, limits: &str) -> Proxy {
    Proxy::start(&format!("[listeners.http.limits]\n{limits}\n{}", quiet_pool_of(&[backend]))).await
}

/// A proxy with these settings towards its backend, which is asked once.
async fn with_upstream(backend: &Backend, settings: &str) -> Proxy {
    let pool = quiet_pool_of(&[backend]);
    let once = "[pools.app.retries]\nattempts = 1\n";
    Proxy::start(&format!("{pool}[pools.app.upstream]\n{settings}\n{once}")).await
}

/// RFC 9110 section 15.5.9.
#[tokio::test]
async fn a_head_that_stops_halfway_is_408() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "header_timeout = \"200ms\"").await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHo").await;
    let response = client.response().await.unwrap();
    assert_eq!(response.status(), 408);
    assert_eq!(response.field("connection"), Some("close"));
    assert_eq!(client.rest().await, b"");
}

/// RFC 9110 section 15.5.9.
#[tokio::test]
async fn a_head_that_drips_in_is_408() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "header_timeout = \"200ms\"").await;
    let (mut from, mut to) = tokio::io::split(proxy.connect().await.into_stream().0);
    let dripping = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let _ = to.write_all(b"GET / HTTP/1.1\r\nX: ").await;
        let mut beat = every(Duration::from_millis(20));
        while to.write_all(b"x").await.is_ok() {
            beat.tick().await;
        }
    });
    let mut status = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut from, &mut status);
    crate::support::in_time("the answer", read).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 408");
    dripping.abort();
}

/// RFC 9110 section 15.5.9.
#[tokio::test]
async fn a_second_head_has_its_time_from_its_own_first_byte() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "header_timeout = \"1s\"").await;
    let mut client = proxy.connect().await;
    client.get("/").await;
    let mut slow = proxy.connect().await;
    slow.send("GET / HT").await;
    assert_eq!(slow.response().await.unwrap().status(), 408, "its time is over");
    assert_eq!(client.get("/").await.status(), 200, "an idle client is not a slow one");
    client.send("GET / HT").await;
    assert_eq!(client.response().await.unwrap().status(), 408);
}

/// RFC 9112 section 9.5.
#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_without_an_answer() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "header_timeout = \"200ms\"").await;
    assert_eq!(proxy.connect().await.rest().await, b"");
}

/// RFC 9110 section 15.5.9.
#[tokio::test]
async fn a_body_that_stops_halfway_is_408() {
    let backend = Backend::at_head(|_| Reply::default().then(Step::Swallow)).await;
    let proxy = with_limits(&backend, "body_timeout = \"200ms\"").await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc").await;
    assert_eq!(client.response().await.unwrap().status(), 408);
    assert_eq!(client.rest().await, b"", "closed, since the rest may still come");
    eventually("the backend is let go", async || backend.open_connections() == 0).await;
    assert_eq!(backend.requests().len(), 1, "nobody else is asked: it is the client's fault");
}

#[tokio::test]
async fn a_slow_body_that_keeps_coming_is_waited_for() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "body_timeout = \"1s\"").await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\n").await;
    let mut beat = every(Duration::from_millis(200));
    beat.tick().await;
    for _ in 0..8 {
        beat.tick().await;
        client.send("x").await;
    }
    assert_eq!(client.response().await.unwrap().status(), 200);
}

/// RFC 9112 section 9.5.
#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "keepalive_timeout = \"200ms\"").await;
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/").await.status(), 200);
    assert_eq!(client.rest().await, b"", "without a word");
}

#[tokio::test]
async fn a_connection_that_waits_for_its_answer_is_not_idle() {
    let backend = Backend::start(|request| match request.request_line().1 {
        "/late" => Reply::ok("late").after(Step::Hold),
        _ => Reply::ok("at once"),
    })
    .await;
    let limits = "keepalive_timeout = \"200ms\"\nheader_timeout = \"200ms\"";
    let proxy = with_limits(&backend, limits).await;
    let mut client = proxy.connect().await;
    client.send("GET /late HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("it is asked", async || backend.requests().len() == 1).await;
    // Others, of whom each began later, have had both times.
    let mut idle = proxy.connect().await;
    idle.get("/").await;
    assert_eq!(idle.rest().await, b"", "idle for too long");
    let mut slow = proxy.connect().await;
    slow.send("GET / HT").await;
    assert_eq!(slow.response().await.unwrap().status(), 408, "its head takes too long");
    backend.release();
    assert_eq!(client.response().await.unwrap().text(), "late");
}

/// RFC 9112 section 9.6.
#[tokio::test]
async fn without_keep_alive_every_answer_is_the_last() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "keepalive_timeout = \"0s\"").await;
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/").await.field("connection"), Some("close"));
    assert_eq!(client.rest().await, b"");
}

/// RFC 9112 section 9.6.
#[tokio::test]
async fn an_old_connection_ends_with_an_answer() {
    let backend = Backend::named("one").await;
    let proxy = with_limits(&backend, "keepalive_max_age = \"1s\"").await;
    let before = std::time::Instant::now();
    let mut client = proxy.connect().await;
    let mut last = client.get("/").await;
    while last.field("connection").is_none() {
        last = client.get("/").await;
    }
    assert_eq!((last.status(), last.field("connection")), (200, Some("close")));
    assert!(before.elapsed() >= Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let much = 256 * 1024 * 1024;
    let backend = Backend::start(move |_| {
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {much}\r\n\r\n"))
            .then(Step::Pour(much))
    })
    .await;
    let proxy = with_limits(&backend, "write_timeout = \"300ms\"").await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("it has begun", async || proxy.in_flight(&backend) == 1).await;
    eventually("the slot is free", async || proxy.in_flight(&backend) == 0).await;
    eventually("the backend is let go", async || backend.open_connections() == 0).await;
    assert!(client.rest().await.len() < much as usize);
}

#[tokio::test]
async fn a_client_that_takes_a_little_now_and_then_is_not_cut() {
    let much = 8 * 1024 * 1024;
    let backend = Backend::start(move |_| {
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {much}\r\n\r\n"))
            .then(Step::Pour(much))
    })
    .await;
    let proxy = with_limits(&backend, "write_timeout = \"1s\"").await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(256 * 1024).unwrap();
    let mut client = Wire::over(socket.connect(proxy.http()).await.unwrap());
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    client.head().await.unwrap();
    let mut beat = every(Duration::from_millis(200));
    for _ in 0..8 {
        beat.tick().await;
        client.bytes(1024 * 1024).await;
    }
}

/// A backend that answers with as many bytes as the target says, and a proxy before it that closes
/// connections as soon as they are idle.
async fn with_no_keepalive() -> (Backend, Proxy) {
    let backend = Backend::start(move |request| {
        let much = request.request_line().1[1..].parse().unwrap();
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {much}\r\n\r\n"))
            .then(Step::Pour(much))
    })
    .await;
    let limits = "h2c = true\n[listeners.http.limits]\nkeepalive_timeout = \"0s\"\n";
    let proxy = Proxy::start(&format!("{limits}{}", quiet_pool_of(&[&backend]))).await;
    (backend, proxy)
}

/// How much of an answer is left when its backend is done hangs on how it fell into pieces.
fn several_sizes() -> impl Iterator<Item = usize> {
    (1..8).map(|part| 300_000 + part * 30_000)
}

/// Asks, and takes what comes up to the end of the connection: no more than its backend needs to be
/// done, then next to nothing for a while, then the rest.
async fn takes_the_end_slowly(backend: &Backend, proxy: &Proxy, asked: Vec<u8>) -> Vec<u8> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = Wire::over(socket.connect(proxy.http()).await.unwrap());
    let before = backend.requests().len();
    client.send(asked).await;
    eventually("it is asked", async || backend.requests().len() > before).await;
    let mut taken = Vec::new();
    while proxy.in_flight(backend) > 0 {
        taken.extend(client.bytes(4096).await);
    }
    let mut beat = every(Duration::from_millis(20));
    for _ in 0..6 {
        beat.tick().await;
        taken.extend(client.bytes(1).await);
    }
    taken.extend(client.rest().await);
    taken
}

#[tokio::test]
async fn a_client_that_is_slow_to_take_the_end_is_not_idle() {
    let (backend, proxy) = with_no_keepalive().await;
    for much in several_sizes() {
        let asked = format!("GET /{much} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes();
        let taken = takes_the_end_slowly(&backend, &proxy, asked).await;
        let head = taken.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(taken.len() - head, much);
    }
}

#[tokio::test]
async fn a_client_that_is_slow_to_take_the_end_over_http2_is_not_idle() {
    let (backend, proxy) = with_no_keepalive().await;
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let window = [&[0, 4][..], &most].concat();
    let greeting = [PREFACE, &frame(SETTINGS, 0, 0, window), &frame(SETTINGS, ACK, 0, [])].concat();
    let open = frame(WINDOW_UPDATE, 0, 0, 0x4000_0000_u32.to_be_bytes());
    for much in several_sizes() {
        let asked = [&greeting[..], &open, &ask(1, &format!("/{much}"))].concat();
        let taken = takes_the_end_slowly(&backend, &proxy, asked).await;
        let (mut frames, mut length) = (H2Wire::over(Cursor::new(taken)), 0);
        while let Some(frame) = frames.next().await {
            length += if frame.kind == DATA { frame.payload.len() } else { 0 };
        }
        assert_eq!(length, much);
    }
}

/// RFC 9110 section 15.6.5.
#[tokio::test]
async fn a_backend_that_does_not_answer_in_time_is_504() {
    let backend = Backend::at_head(|_| Reply::default().then(Step::Swallow)).await;
    let proxy = with_upstream(&backend, "response_timeout = \"200ms\"").await;
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/").await.status(), 504);
    eventually("the backend is let go", async || backend.open_connections() == 0).await;
    assert_eq!(client.get("/").await.status(), 504, "the client's connection goes on");
}

#[tokio::test]
async fn the_time_to_answer_begins_when_the_request_is_sent() {
    let backend = Backend::named("one").await;
    let proxy = with_upstream(&backend, "response_timeout = \"400ms\"").await;
    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n").await;
    let mut beat = every(Duration::from_millis(200));
    beat.tick().await;
    for _ in 0..4 {
        beat.tick().await;
        client.send("x").await;
    }
    assert_eq!(client.response().await.unwrap().status(), 200);
}

/// RFC 9110 section 15.6.5.
#[tokio::test]
async fn a_backend_that_does_not_take_the_upload_is_504() {
    let backend = Backend::at_head(|_| Reply::default().then(Step::Hang)).await;
    let proxy = with_upstream(&backend, "body_idle_timeout = \"300ms\"").await;
    let much = 64 * 1024 * 1024;
    let mut client = proxy.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {much}\r\n\r\n")).await;
    let (mut from, mut to) = tokio::io::split(client.into_stream().0);
    let sending = tokio::spawn(async move {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut to, &vec![b'x'; much]).await;
    });
    let mut status = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut from, &mut status);
    crate::support::in_time("the answer", read).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 504");
    sending.abort();
}

/// RFC 9112 section 8.
#[tokio::test]
async fn a_backend_that_stops_in_the_middle_of_its_answer_is_cut() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").then(Step::Swallow)
    })
    .await;
    let proxy = with_upstream(&backend, "body_idle_timeout = \"200ms\"").await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(client.rest().await.ends_with(b"\r\n\r\nhello"), "then the connection ends");
    eventually("the backend is let go", async || backend.open_connections() == 0).await;
}

#[tokio::test]
async fn an_event_stream_may_be_quiet_for_as_long_as_a_tunnel() {
    let backend = Backend::start(|request| match request.request_line().1 {
        "/events" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            .then(Step::Hold)
            .then(Step::Send(b"data: late\n\n".to_vec()))
            .then(Step::Close),
        _ => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").then(Step::Swallow),
    })
    .await;
    let timeouts = "body_idle_timeout = \"200ms\"\ntunnel_idle_timeout = \"10s\"";
    let proxy = with_upstream(&backend, timeouts).await;
    let mut listening = proxy.connect().await;
    listening.send("GET /events HTTP/1.1\r\nHost: test\r\n\r\n").await;
    listening.head().await.unwrap();
    // Another answer, which began later and is as quiet, has had its time.
    let mut quiet = proxy.connect().await;
    quiet.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(quiet.rest().await.ends_with(b"\r\n\r\nhello"), "cut off");
    backend.release();
    listening.until("data: late\n\n").await;
    assert_eq!(listening.until("0\r\n\r\n").await, "\r\n0\r\n\r\n", "whole");
}

/// A proxy whose route has this timeout.
async fn with_route_timeout(backend: &Backend, timeout: &str) -> Proxy {
    let with = format!("pool = \"app\"\ntimeout = \"{timeout}\"");
    Proxy::start(&pool_of(&[backend]).replace("pool = \"app\"", &with)).await
}

/// RFC 9110 section 15.6.5.
#[tokio::test]
async fn a_request_over_its_routes_time_is_504() {
    let backend = Backend::at_head(|_| Reply::default().then(Step::Swallow)).await;
    let proxy = with_route_timeout(&backend, "200ms").await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 504);
    assert_eq!(backend.requests().len(), 1, "there is no time for another attempt");
}

/// RFC 9112 section 8.
#[tokio::test]
async fn an_answer_over_its_routes_time_is_cut_however_busy_it_is() {
    let backend = Backend::start(move |_| {
        let drip = Step::Drip(b"1\r\nx\r\n".to_vec(), 2000, Duration::from_millis(5));
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").then(drip)
    })
    .await;
    let proxy = with_route_timeout(&backend, "300ms").await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let response = client.rest().await;
    assert!(response.starts_with(b"HTTP/1.1 200 "));
    assert!(!response.ends_with(b"0\r\n\r\n"), "cut off");
    assert!(response.len() < 2000 * 6, "long before its end");
}

/// RFC 9110 section 15.6.5.
#[tokio::test]
async fn a_backend_that_does_not_accept_in_time_is_504() {
    let full = FullBacklog::new().await;
    let config = format!(
        "[[routes]]\npool = \"app\"\n[pools.app]\nbackends = [\"{}\"]\n\
         [pools.app.health]\ntype = \"tcp\"\ntimeout = \"100ms\"\n\
         [pools.app.upstream]\nconnect_timeout = \"200ms\"\n",
        full.address
    );
    let proxy = Proxy::start(&config).await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 504);
}

/// A listening socket that accepts nothing and whose queue is full: connects to it hang.
pub struct FullBacklog {
    pub address: std::net::SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl FullBacklog {
    pub async fn new() -> FullBacklog {
        tokio::task::spawn_blocking(FullBacklog::fill).await.unwrap()
    }

    fn fill() -> FullBacklog {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            if socket.connect_timeout(&address.into(), Duration::from_millis(200)).is_err() {
                return FullBacklog { address, _listener: listener, _queued: queued };
            }
            queued.push(socket);
        }
    }
}
