//! A stop from inside: what still goes out, and when it is over.

use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::in_time;
use crate::support::proxy::{BASE, Proxy, pool_of};
use crate::support::wire::Wire;

const LONG: Duration = Duration::from_secs(60);
/// A close frame with the code 1001: the server goes away.
const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

async fn ended(proxy: &Proxy) {
    eventually("all workers have ended", async || proxy.running().has_drained()).await;
}

#[tokio::test]
async fn a_request_in_flight_is_finished() {
    let backend = Backend::start(|_| Reply::ok("done").after(Step::Hold)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || backend.requests().len() == 1).await;
    proxy.running().drain(LONG);
    backend.release();
    let answer = client.response().await.unwrap();
    assert_eq!(answer.text(), "done");
    assert_eq!(client.rest().await, b"");
    ended(&proxy).await;
}

#[tokio::test]
async fn an_answer_during_the_stop_says_that_it_is_the_last() {
    let backend = Backend::start(|_| Reply::ok("done").after(Step::Hold)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || backend.requests().len() == 1).await;
    proxy.running().drain(LONG);
    // The wish to close reaches a connection at the next tick of its timer, before this one.
    let refused = async || tokio::net::TcpStream::connect(proxy.http()).await.is_err();
    eventually("nobody listens", refused).await;
    backend.release();
    assert_eq!(client.response().await.unwrap().field("connection"), Some("close"));
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.get("/").await;
    proxy.running().drain(LONG);
    assert_eq!(client.rest().await, b"");
    ended(&proxy).await;
}

#[tokio::test]
async fn connections_that_the_kernel_has_accepted_are_served() {
    let backend = Backend::named("one").await;
    for _ in 0..5 {
        let proxy = Proxy::before(&[&backend]).await;
        let mut clients = Vec::new();
        for _ in 0..40 {
            let mut client = proxy.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
            clients.push(client);
        }
        proxy.running().drain(LONG);
        for mut client in clients {
            assert_eq!(client.response().await.unwrap().status(), 200);
        }
        ended(&proxy).await;
    }
}

#[tokio::test]
async fn what_is_left_at_the_end_is_cut() {
    let backend = Backend::start(|request| match request.field("upgrade") {
        Some(_) => Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n",
        )
        .then(Step::Echo),
        None => Reply::default().then(Step::Hang),
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut tunnel = proxy.connect().await;
    tunnel
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
        .await;
    assert_eq!(tunnel.head().await.unwrap().status(), 101);
    let mut waiting = proxy.connect().await;
    waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || backend.requests().len() == 2).await;
    let began = Instant::now();
    proxy.running().drain(Duration::from_millis(300));
    assert_eq!(tunnel.rest().await, b"");
    assert_eq!(waiting.rest().await, b"");
    assert!(began.elapsed() >= Duration::from_millis(300));
    ended(&proxy).await;
}

#[tokio::test]
async fn a_tunnel_that_ends_by_itself_ends_the_stop_early() {
    let backend = Backend::start(|_| {
        Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n",
        )
        .then(Step::Echo)
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut tunnel = proxy.connect().await;
    tunnel
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
        .await;
    assert_eq!(tunnel.head().await.unwrap().status(), 101);
    proxy.running().drain(LONG);
    tunnel.send("still here").await;
    assert_eq!(tunnel.bytes(10).await, b"still here");
    tunnel.finish().await;
    assert_eq!(tunnel.rest().await, b"");
    ended(&proxy).await;
}

/// A WebSocket whose backend echoes, beside a request that its backend holds.
#[tokio::test]
async fn websockets_are_sent_away_while_requests_go_on() {
    let backend = Backend::start(|request| match request.field("upgrade") {
        Some(_) => Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        )
        .then(Step::Echo),
        None => Reply::ok("done").after(Step::Hold),
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut socket = proxy.connect().await;
        socket
            .send(
                "GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .await;
        assert_eq!(socket.head().await.unwrap().status(), 101);
        sockets.push(socket);
    }
    let mut waiting = proxy.connect().await;
    waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || backend.requests().len() == 6).await;
    proxy.running().drain(LONG);
    for mut socket in sockets {
        assert_eq!(in_time("a close frame", socket.bytes(4)).await, GOING_AWAY);
        socket.finish().await;
        assert_eq!(socket.rest().await, b"");
    }
    backend.release();
    assert_eq!(waiting.response().await.unwrap().text(), "done");
    ended(&proxy).await;
}

#[tokio::test]
async fn a_websocket_that_a_stop_meets_is_sent_away_when_it_is_there() {
    let backend = Backend::start(|_| {
        Reply::raw(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        )
        .then(Step::Echo)
        .after(Step::Hold)
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut socket = proxy.connect().await;
    socket
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    eventually("in flight", async || backend.requests().len() == 1).await;
    proxy.running().drain(LONG);
    let refused = async || tokio::net::TcpStream::connect(proxy.http()).await.is_err();
    eventually("nobody listens", refused).await;
    backend.release();
    assert_eq!(socket.head().await.unwrap().status(), 101);
    assert_eq!(in_time("a close frame", socket.bytes(4)).await, GOING_AWAY);
    socket.finish().await;
    socket.rest().await;
    ended(&proxy).await;
}

#[tokio::test]
async fn between_the_announcement_and_the_stop_everything_is_served() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    proxy.running().announce_stop();
    let handle = proxy.running().handle();
    assert_eq!(handle.readiness(), tidegate::control::Readiness::NotReady("stopping".to_owned()));
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        let answer = client.get("/").await;
        assert_eq!((answer.status(), answer.field("connection")), (200, None));
    }
}

#[tokio::test]
async fn a_reload_during_the_stop_is_refused() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    proxy.running().announce_stop();
    let error = proxy.reload(&pool_of(&[&backend])).await.unwrap_err().to_string();
    assert!(error.starts_with("tidegate is stopping"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_request_is_lost() {
    let backend = Backend::named("one").await;
    let text = format!("{BASE}{}", pool_of(&[&backend]));
    let proxy = Proxy::start_whole(&text).await;
    let address = proxy.http();
    // Each connection carries one request, which is written before the connection could be told
    // that it is to close: so each one must be answered, or not be opened at all.
    let clients: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(async move {
                let mut served = 0;
                while let Ok(stream) = tokio::net::TcpStream::connect(address).await {
                    let mut client = Wire::over(stream);
                    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
                    let answer = client.response().await;
                    assert_eq!(answer.expect("an answer").status(), 200, "after {served}");
                    served += 1;
                }
                served
            })
        })
        .collect();
    let served = || proxy.metric("tidegate_pool_requests_total", &[]);
    eventually("load", async || served() > 300.0).await;
    proxy.running().drain(LONG);
    for client in clients {
        let served = in_time("the last of a client", client).await.expect("none was lost");
        assert!(served > 0);
    }
    ended(&proxy).await;
}
