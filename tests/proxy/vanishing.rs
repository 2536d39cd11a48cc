//! Clients that leave without a word, at every point where the proxy may be waiting: what was held
//! for them is let go, and the backend hears of it.

use std::io::Write;
use std::net::TcpStream;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{Proxy, quiet_pool_of};
use crate::support::wire::Wire;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const MUCH: u64 = 256 * 1024 * 1024;

async fn all_is_let_go(proxy: &Proxy, backend: &Backend) {
    eventually("the slot is free", async || proxy.in_flight(backend) == 0).await;
    eventually("the connection is closed", async || backend.open_connections() == 0).await;
}

/// Asks a backend that does this, as far as there is a request at the backend.
async fn asked(request: &str, reply: Reply) -> (Proxy, Backend, Wire) {
    let backend = Backend::at_head(move |_| reply.clone()).await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut client = proxy.connect().await;
    client.send(request).await;
    eventually("asked", async || backend.requests().len() == 1).await;
    assert_eq!(proxy.in_flight(&backend), 1);
    (proxy, backend, client)
}

#[tokio::test]
async fn while_the_backend_is_being_dialled() {
    let full = crate::timeouts::FullBacklog::new().await;
    let config = format!(
        "[[routes]]\npool = \"app\"\n[pools.app]\nbackends = [\"{}\"]\n\
         [pools.app.health]\ntype = \"tcp\"\ntimeout = \"100ms\"\n\
         [pools.app.upstream]\nconnect_timeout = \"1h\"\n",
        full.address
    );
    let proxy = Proxy::start(&config).await;
    let mut client = proxy.connect().await;
    client.send(GET).await;
    let in_flight = || proxy.metric("tidegate_backend_requests_in_flight", &[]);
    eventually("dialling", async || in_flight() == 1.0).await;
    drop(client);
    eventually("the slot is free", async || in_flight() == 0.0).await;
}

#[tokio::test]
async fn while_waiting_for_the_head() {
    let (proxy, backend, client) = asked(GET, Reply::default().then(Step::Swallow)).await;
    drop(client);
    all_is_let_go(&proxy, &backend).await;
}

/// The proxy has hardly accepted one before the next has asked, so that it need not wait for most.
#[tokio::test]
async fn in_a_crowd_that_asks_at_once() {
    let backend = Backend::at_head(|_| Reply::default().then(Step::Swallow)).await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let crowd: Vec<TcpStream> = (0..32)
        .map(|_| {
            let mut client = TcpStream::connect(proxy.http()).unwrap();
            client.write_all(GET.as_bytes()).unwrap();
            client
        })
        .collect();
    eventually("all have asked", async || backend.requests().len() == crowd.len()).await;
    drop(crowd);
    all_is_let_go(&proxy, &backend).await;
}

/// What it has sent ahead hides its end from nobody.
#[tokio::test]
async fn with_more_sent_ahead() {
    let much = GET.repeat(1_500);
    for ahead in ["\r\n", "G", GET, &much] {
        let reply = Reply::default().then(Step::Swallow);
        let (proxy, backend, client) = asked(&format!("{GET}{ahead}"), reply).await;
        drop(client);
        all_is_let_go(&proxy, &backend).await;
        assert_eq!(backend.requests().len(), 1, "{} bytes ahead", ahead.len());
    }
}

#[tokio::test]
async fn between_two_pieces_of_the_body() {
    let reply = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let (proxy, backend, mut client) = asked(GET, reply.then(Step::Swallow)).await;
    client.head().await.unwrap();
    drop(client);
    all_is_let_go(&proxy, &backend).await;
}

#[tokio::test]
async fn while_the_body_pours_in() {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n");
    let (proxy, backend, mut client) = asked(GET, Reply::raw(head).then(Step::Pour(MUCH))).await;
    client.bytes(1024 * 1024).await;
    drop(client);
    all_is_let_go(&proxy, &backend).await;
    assert!(backend.poured() < MUCH);
}

#[tokio::test]
async fn in_the_middle_of_its_upload() {
    let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello";
    let (proxy, backend, client) = asked(request, Reply::default().then(Step::Swallow)).await;
    eventually("the first half is there", async || backend.taken() == 5).await;
    drop(client);
    all_is_let_go(&proxy, &backend).await;
    assert_eq!(backend.requests().len(), 1, "and nobody else is asked");
}

#[tokio::test]
async fn in_the_middle_of_an_upload_that_was_answered() {
    let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello";
    let reply = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let (proxy, backend, mut client) = asked(request, reply.then(Step::Swallow)).await;
    client.head().await.unwrap();
    drop(client);
    all_is_let_go(&proxy, &backend).await;
}

#[tokio::test]
async fn in_the_middle_of_its_head() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHo").await;
    let open = || proxy.metric("tidegate_listener_connections", &[]);
    eventually("connected", async || open() == 1.0).await;
    drop(client);
    eventually("gone", async || open() == 0.0).await;
    let told = proxy.metric("tidegate_listener_requests_total", &[]);
    assert_eq!(told, 0.0, "there was no request yet");
}
