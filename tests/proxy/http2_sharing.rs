//! How the streams of one HTTP/2 connection share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use h2::RecvStream;
use http::StatusCode;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::{H2Client, answer, get, read_some};
use crate::support::h2_wire::{GOAWAY, H2Wire, HEADERS, ask};
use crate::support::proxy::{HTTPS, Proxy, pool_of};
use crate::support::{eventually, in_time};

const ENDLESS: u64 = 1 << 40;
const WINDOW: u32 = 64 * 1024;

/// Answers `/endless` without an end, `/held` once it is released, and anything else with its own
/// path.
async fn backend() -> Backend {
    Backend::start(|request| match request.request_line().1 {
        "/endless" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {ENDLESS}\r\n\r\n");
            Reply::raw(head).then(Step::Pour(ENDLESS))
        }
        "/held" => Reply::ok("held").after(Step::Hold),
        path => Reply::ok(path),
    })
    .await
}

async fn proxy_before(backend: &Backend) -> Proxy {
    Proxy::start(&format!("{HTTPS}{}", pool_of(&[backend]))).await
}

/// A client with a window of this size for each stream, and plenty for all of them.
async fn client_of(proxy: &Proxy, window: u32) -> H2Client {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(1 << 30);
    H2Client::connect_with(proxy.address("https"), &mut builder).await
}

async fn endless(client: &mut H2Client) -> RecvStream {
    let (response, _) = client.start(get("/endless"), true).await;
    in_time("a head", response).await.unwrap().into_body()
}

#[tokio::test]
async fn a_download_and_small_requests_do_not_starve_each_other() {
    let backend = backend().await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy, 8 << 20).await;
    let mut download = endless(&mut client).await;
    let read = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&read);
    let reader = tokio::spawn(async move {
        loop {
            let some = read_some(&mut download, 1).await;
            counter.fetch_add(some.len() as u64, Ordering::Relaxed);
        }
    });
    for round in 0..50 {
        let before = read.load(Ordering::Relaxed);
        let path = format!("/{round}");
        assert_eq!(client.get(&path).await.text(), path);
        eventually("more of the download", async || read.load(Ordering::Relaxed) > before).await;
    }
    reader.abort();
}

#[tokio::test]
async fn many_streams_that_are_not_read_leave_room_for_others() {
    const STREAMS: usize = 100;
    let backend = backend().await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy, WINDOW).await;
    let mut slow = Vec::new();
    for _ in 0..STREAMS {
        slow.push(endless(&mut client).await);
    }
    assert_eq!(client.get("/small").await.text(), "/small");
    // Each of them gets what its window holds, whatever the others take.
    for body in &mut slow {
        let mut left = WINDOW as usize;
        while left > 0 {
            left -= in_time("data", body.data()).await.unwrap().unwrap().len();
        }
    }
    assert_eq!(client.get("/small").await.text(), "/small");
    assert_eq!(client_of(&proxy, WINDOW).await.get("/other").await.text(), "/other");
}

#[tokio::test]
async fn answers_that_are_ready_together_are_kept_apart() {
    let backend = Backend::start(|request| {
        let number: usize = request.request_line().1[1..].parse().unwrap();
        Reply::ok(vec![number as u8; number * 1000]).after(Step::Hold)
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy, WINDOW).await;
    let mut waiting = Vec::new();
    for number in 0..100 {
        waiting.push((number, client.start(get(&format!("/{number}")), true).await.0));
    }
    eventually("all are held", async || proxy.in_flight(&backend) == 100).await;
    for _ in 0..100 {
        backend.release();
    }
    for (number, response) in waiting {
        let answer = answer(response).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body == vec![number as u8; number * 1000], "{number}");
    }
}

#[tokio::test]
async fn a_request_that_waits_does_not_hold_back_an_answer() {
    let backend = backend().await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy, WINDOW).await;
    let (held, _) = client.start(get("/held"), true).await;
    eventually("one is held", async || proxy.in_flight(&backend) == 1).await;
    assert_eq!(client.get("/small").await.text(), "/small");
    backend.release();
    assert_eq!(answer(held).await.unwrap().text(), "held");
}

#[tokio::test]
async fn a_goaway_beside_open_streams_arrives_at_once() {
    let backend = backend().await;
    let proxy = proxy_before(&backend).await;
    let mut client = H2Wire::connect(proxy.address("https")).await;
    client.send(ask(1, "/held")).await;
    eventually("one is held", async || proxy.in_flight(&backend) == 1).await;
    proxy.running().drain(Duration::from_secs(30));
    while client.next().await.unwrap().kind != GOAWAY {}
    backend.release();
    while client.next().await.unwrap().kind != HEADERS {}
}
