//! At a limit of connections: who does nothing with one makes room for who comes.

use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_backend::H2Backend;
use crate::support::h2_client::{H2Client, get};
use crate::support::h2_wire::{CONTINUATION, GOAWAY, H2Wire, HEADERS, Outcome, ask, frame};
use crate::support::proxy::{HTTPS, Proxy, pool_at, pool_of, quiet_pool_of};
use crate::support::wire::{Stream, Wire};
use crate::support::{eventually, in_time, tls};

/// A proxy with room for so many connections.
async fn with_room_for(connections: usize, backend: &Backend) -> Proxy {
    let server = format!("max_connections = {connections}");
    Proxy::start_with(&server, &format!("{HTTPS}{}", pool_of(&[backend]))).await
}

/// Answers at once, but what is asked of `/held` only when it is released.
async fn holding() -> Backend {
    Backend::start(|request| match request.request_line().1 {
        "/held" => Reply::ok("held").after(Step::Hold),
        _ => Reply::ok("one"),
    })
    .await
}

async fn closed_as(proxy: &Proxy, reason: &str) {
    let label = format!("reason=\"{reason}\"");
    let closed = || proxy.metric("tidegate_listener_reclaimed_connections_total", &[&label]);
    eventually("it is counted", async || closed() == 1.0).await;
}

#[tokio::test]
async fn an_idle_connection_makes_room() {
    let backend = Backend::named("one").await;
    let proxy = with_room_for(1, &backend).await;
    let mut idle = proxy.connect().await;
    assert_eq!(idle.get("/").await.status(), 200);
    assert_eq!(proxy.connect().await.get("/").await.status(), 200);
    assert_eq!(idle.rest().await, b"");
    closed_as(&proxy, "idle").await;
}

#[tokio::test]
async fn so_do_unused_connections_to_backends() {
    for protocol in ["http1", "h2"] {
        let (one, two) = (Backend::named("one").await, H2Backend::saying("two").await);
        let address = if protocol == "h2" { two.address } else { one.address };
        let upstream = format!("[pools.app.upstream]\nprotocol = \"{protocol}\"\n");
        let proxy = Proxy::start(&format!("{}{upstream}", pool_at(&[address]))).await;
        assert_eq!(proxy.connect().await.get("/").await.status(), 200);
        let open = || proxy.metric("tidegate_backend_connections", &[]);
        eventually("it is kept", async || open() == 1.0).await;
        proxy.running().shared().files.allow(1);
        let _next = proxy.connect().await;
        eventually(protocol, async || open() == 0.0).await;
    }
}

#[tokio::test]
async fn so_does_one_that_says_nothing_or_drips_its_head() {
    for (said, reason) in [("", "silent"), ("GET / HTTP/1.1\r\nX-Slow: ", "slow_head")] {
        let backend = Backend::named("one").await;
        let proxy = with_room_for(1, &backend).await;
        let mut slow = proxy.connect().await;
        slow.send(said).await;
        let parked = || proxy.metric("tidegate_worker_parked_connections", &[]);
        eventually("it is waited for", async || parked() == 1.0).await;
        assert_eq!(proxy.connect().await.get("/").await.status(), 200, "{reason}");
        assert_eq!(slow.rest().await, b"", "{reason}");
        closed_as(&proxy, reason).await;
    }
}

#[tokio::test]
async fn so_does_one_that_does_not_end_its_handshake() {
    let backend = Backend::named("one").await;
    let proxy = with_room_for(1, &backend).await;
    let mut slow = Wire::connect(proxy.address("https")).await;
    let open = || proxy.metric("tidegate_listener_connections", &["listener=\"https\""]);
    eventually("it is there", async || open() == 1.0).await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 200);
    assert_eq!(slow.rest().await, b"");
    closed_as(&proxy, "handshake").await;
}

/// RFC 9113 section 6.8.
#[tokio::test]
async fn over_http2_it_is_told() {
    let backend = Backend::named("one").await;
    let proxy = with_room_for(1, &backend).await;
    let mut idle = H2Wire::connect(proxy.address("https")).await;
    idle.send(ask(1, "/")).await;
    assert_eq!(idle.outcome(1).await, Outcome::Status(200));
    let (told, answered) = tokio::join!(idle.end(), async {
        let mut next = proxy.connect().await;
        next.get("/").await.status()
    });
    assert_eq!((told, answered), (Some(0), 200));
    closed_as(&proxy, "idle").await;
}

/// RFC 8446 section 6.1.
#[tokio::test]
async fn under_tls_it_ends_with_the_proper_goodbye() {
    let backend = Backend::named("one").await;
    let proxy = with_room_for(1, &backend).await;
    let config = proxy.client_tls(&[b"http/1.1"]);
    let mut idle = Wire::connect_tls(proxy.address("https"), config, "localhost").await.unwrap();
    idle.ask("GET", "/", &[("Host", "localhost")], "").await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 200);
    let (mut stream, _) = idle.into_stream();
    let read = in_time("the end", stream.read_to_end(&mut Vec::new())).await;
    assert_eq!(read.unwrap(), 0, "an error without close_notify");
}

#[tokio::test]
async fn who_has_asked_keeps_the_connection() {
    let backend = holding().await;
    let proxy = with_room_for(3, &backend).await;
    let mut h1 = proxy.connect().await;
    h1.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let mut h2 = H2Client::connect(proxy.address("https")).await;
    let (h2_answer, _) = h2.start(get("/held"), true).await;
    eventually("both are there", async || backend.requests().len() == 2).await;
    let mut idle = proxy.connect().await;
    idle.get("/").await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 200);
    assert_eq!(idle.rest().await, b"");
    backend.release();
    backend.release();
    assert_eq!(h1.response().await.unwrap().text(), "held");
    assert_eq!(h2_answer.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn so_does_a_tunnel() {
    let backend = Backend::start(|request| match request.field("upgrade") {
        None => Reply::ok("one"),
        Some(_) => Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n",
        )
        .then(Step::Echo),
    })
    .await;
    let proxy = with_room_for(2, &backend).await;
    let mut tunnel = proxy.connect().await;
    tunnel
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .await;
    assert_eq!(tunnel.head().await.unwrap().status(), 101);
    for _ in 0..5 {
        assert_eq!(proxy.connect().await.get("/").await.status(), 200);
    }
    tunnel.send("still there").await;
    assert_eq!(tunnel.bytes(11).await, b"still there");
}

/// One that takes nothing of an answer without end.
async fn stuck(proxy: &Proxy, protocol: &str) -> Box<dyn Stream> {
    const ASK: &[u8] = b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if protocol == "h2" {
        let mut wire = H2Wire::connect(proxy.address("https")).await;
        wire.send((0..4).flat_map(|n| ask(2 * n + 1, "/endless")).collect::<Vec<u8>>()).await;
        return wire.into_stream();
    }
    let listener = if protocol == "tls" { "https" } else { "http" };
    let tcp = TcpStream::connect(proxy.address(listener)).await.unwrap();
    let mut stream: Box<dyn Stream> = match protocol {
        "tls" => {
            let connector = TlsConnector::from(tls::client(&[b"http/1.1"]));
            Box::new(connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap())
        }
        _ => Box::new(tcp),
    };
    stream.write_all(ASK).await.unwrap();
    stream
}

#[tokio::test]
async fn who_takes_nothing_the_longest_leaves_when_too_much_is_held() {
    const MUCH: u64 = 1 << 40;
    let backend = Backend::start(|request| match request.request_line().1 {
        "/endless" => Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n"))
            .then(Step::Pour(MUCH)),
        _ => Reply::ok(vec![b'x'; 1 << 20]),
    })
    .await;
    for protocol in ["plain", "tls", "h2"] {
        let server = "max_buffered = \"1MiB\"";
        let proxy = Proxy::start_with(server, &format!("{HTTPS}{}", pool_of(&[&backend]))).await;
        let closed = || {
            let label = ["reason=\"slow\""];
            proxy.metric("tidegate_listener_reclaimed_connections_total", &label)
        };
        let mut clients = Vec::new();
        while closed() < 5.0 {
            clients.push(stuck(&proxy, protocol).await);
            assert!(clients.len() < 150, "{protocol}: nobody had to leave");
        }
        // Who takes what comes is served as ever.
        let answer = proxy.connect().await.get("/").await;
        assert_eq!(answer.body.len(), 1 << 20, "{protocol}");
        // Who came last is there yet.
        let mut last = clients.pop().unwrap();
        let piece = last.read_exact(&mut [0; 32 * 1024]).await;
        assert!(piece.is_ok(), "{protocol}: {piece:?}");
    }
}

#[tokio::test]
async fn nobody_has_to_leave_while_there_is_room() {
    let backend = Backend::named("one").await;
    let proxy = with_room_for(8, &backend).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = proxy.connect().await;
        client.get("/").await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.get("/").await.status(), 200);
    }
    assert_eq!(proxy.metric("tidegate_listener_reclaimed_connections_total", &[]), 0.0);
}

#[tokio::test]
async fn nobody_has_to_leave_for_headroom_who_has_just_come() {
    let backend = Backend::named("one").await;
    let proxy = with_room_for(128, &backend).await;
    let mut clients = Vec::new();
    for _ in 0..128 {
        clients.push(proxy.connect().await);
    }
    let open = || proxy.metric("tidegate_connections", &[]);
    eventually("all are in", async || open() == 128.0).await;
    for client in &mut clients {
        assert_eq!(client.get("/").await.status(), 200);
    }
}

#[tokio::test]
async fn nor_for_somebody_who_waits() {
    let backend = Backend::named("one").await;
    let proxy = with_room_for(1, &backend).await;
    let pauses = || proxy.metric("tidegate_worker_accept_pauses_total", &[]);
    // A machine that is busy may take longer than who has just come may stay.
    for _ in 0..20 {
        let (came, before) = (Instant::now(), pauses());
        let mut first = proxy.connect().await;
        let open = || proxy.metric("tidegate_connections", &[]);
        eventually("it is in", async || open() == 1.0).await;
        let mut next = proxy.connect().await;
        next.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        eventually("it waits", async || pauses() > before).await;
        let asked = first.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let answer = first.response().await;
        let in_time = came.elapsed() < Duration::from_millis(250);
        assert_eq!(next.response().await.unwrap().status(), 200);
        if in_time {
            asked.unwrap();
            return assert_eq!(answer.unwrap().status(), 200);
        }
        drop((first, next));
        eventually("it is over", async || open() == 0.0).await;
    }
    panic!("too busy a machine");
}

#[tokio::test]
async fn at_a_listeners_limit_too() {
    let backend = holding().await;
    let limit = "[listeners.http.limits]\nmax_connections = 1\n";
    let proxy = Proxy::start(&format!("{limit}{}", quiet_pool_of(&[&backend]))).await;
    let mut idle = proxy.connect().await;
    assert_eq!(idle.get("/").await.status(), 200);
    let mut next = proxy.connect().await;
    next.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("it is there", async || backend.requests().len() == 2).await;
    assert_eq!(idle.rest().await, b"");
    assert_eq!(proxy.connect().await.rest().await, b"", "nobody can make room");
    backend.release();
    assert_eq!(next.response().await.unwrap().text(), "held");
}

#[tokio::test]
async fn who_is_asked_to_leave_twice_is_counted_once() {
    let backend = Backend::named("one").await;
    let limits = "[listeners.https.limits]\nmax_header_bytes = \"1MiB\"\n";
    let config = format!("{HTTPS}{limits}{}", pool_of(&[&backend]));
    // For each of two workers 1 MiB.
    let server = "max_connections = 1\nmax_buffered = \"2MiB\"";
    let proxy = Proxy::start_with(server, &config).await;
    // A head that nearly fills it,
    let mut large = H2Wire::connect(proxy.address("https")).await;
    let more = |pieces| frame(CONTINUATION, 0, 1, [0; 16 * 1024]).repeat(pieces);
    large.send([frame(HEADERS, 0, 1, []), more(58)].concat()).await;
    // is asked to leave for one who comes,
    let mut next = proxy.connect().await;
    while large.next().await.expect("it is told").kind != GOAWAY {}
    // and again, as it becomes too large. It may have gone already.
    let _ = large.try_send(more(8)).await;
    assert_eq!(next.get("/").await.status(), 200);
    assert_eq!(proxy.connect().await.get("/").await.status(), 200, "room is made as ever");
}

#[tokio::test]
async fn a_listener_where_nobody_can_leave_does_not_keep_others_from_making_room() {
    const FULL: usize = 64;
    let backend = holding().await;
    let config = format!(
        "limits = {{ max_connections = 1 }}\n\
         [listeners.full]\nbind = \"127.0.0.1:0\"\nlimits = {{ max_connections = {FULL} }}\n{}",
        quiet_pool_of(&[&backend])
    );
    let proxy = Proxy::start(&config).await;
    let mut busy = Vec::new();
    for _ in 0..FULL {
        let mut client = Wire::connect(proxy.address("full")).await;
        client.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n").await;
        busy.push(client);
    }
    eventually("all are there", async || backend.requests().len() == FULL).await;
    let mut idle = proxy.connect().await;
    for _ in 0..3 {
        assert_eq!(idle.get("/").await.status(), 200);
        idle = proxy.connect().await;
    }
    assert_eq!(idle.get("/").await.status(), 200);
}

#[tokio::test]
async fn a_listener_with_far_too_many_makes_room_too() {
    let backend = Backend::named("one").await;
    let config = |limit: usize| {
        format!("limits = {{ max_connections = {limit} }}\n{}", quiet_pool_of(&[&backend]))
    };
    let proxy = Proxy::start(&config(0)).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        let mut client = proxy.connect().await;
        assert_eq!(client.get("/").await.status(), 200);
        idle.push(client);
    }
    proxy.reload(&config(1)).await.unwrap();
    assert_eq!(proxy.connect().await.get("/").await.status(), 200);
}

#[tokio::test]
async fn who_holds_the_place_makes_room_whatever_the_socket_is_called() {
    let backend = Backend::named("one").await;
    let config = |one: &str, two: &str| {
        let listener = |name: &str, socket: &str| {
            let limits = "limits = { max_connections = 1 }";
            format!("[listeners.{name}]\nbind = \"unix:{socket}.sock\"\n{limits}\n")
        };
        let listeners = [listener("one", one), listener("two", two)].concat();
        format!("{listeners}{}", quiet_pool_of(&[&backend]))
    };
    let proxy = Proxy::start(&config("a", "b")).await;
    let connect = async |socket: &str| {
        let path = proxy.dir().join(format!("{socket}.sock"));
        Wire::over(UnixStream::connect(path).await.unwrap())
    };
    let mut idle = connect("a").await;
    assert_eq!(idle.get("/").await.status(), 200);
    proxy.reload(&config("b", "a")).await.unwrap();
    assert_eq!(idle.get("/").await.status(), 200);
    assert_eq!(connect("b").await.get("/").await.status(), 200);
    assert_eq!(idle.rest().await, b"");
}
