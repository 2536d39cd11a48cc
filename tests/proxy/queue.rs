//! A limit for each backend, and the line of those who wait for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::TcpStream;

use crate::support::backend::{Backend, Reply, Step, reset};
use crate::support::eventually;
use crate::support::proxy::{HEALTH, Proxy, app};
use crate::support::wire::{Message, Wire};

/// A backend that keeps every request until it is released, but for `/health` and `/free`.
async fn patient(name: &'static str) -> Backend {
    Backend::start(move |request| match request.request_line().1 {
        "/health" | "/free" => Reply::ok(name),
        _ => Reply::ok(name).after(Step::Hold),
    })
    .await
}

/// A proxy whose pool has these keys and one request at a time on each backend.
async fn one_each(backends: &[&Backend], keys: &str) -> Proxy {
    let keys = format!("max_requests_per_backend = 1\n{keys}");
    let proxy = Proxy::start(&app(backends, &keys, HEALTH)).await;
    proxy.all_serve(backends).await;
    proxy
}

fn waiting(proxy: &Proxy) -> f64 {
    proxy.metric("tidegate_pool_queue_length", &[])
}

fn rejected(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("tidegate_pool_queue_rejected_total", &[&format!("reason=\"{reason}\"")])
}

/// A client that has asked for this, and has its place: in flight or in line.
async fn ask(proxy: &Proxy, target: &str) -> Wire {
    let placed = || waiting(proxy) + proxy.metric("tidegate_backend_requests_in_flight", &[]);
    let before = placed();
    let mut client = proxy.connect().await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
    eventually("it has its place", async || placed() > before).await;
    client
}

fn targets(requests: &[Message]) -> Vec<String> {
    requests.iter().map(|request| request.request_line().1.to_owned()).collect()
}

#[tokio::test]
async fn first_come_first_served_on_whichever_worker() {
    let backend = patient("app").await;
    let proxy = one_each(&[&backend], "").await;
    let wanted: Vec<String> = (0..8).map(|number| format!("/{number}")).collect();
    let mut clients = Vec::new();
    for target in &wanted {
        clients.push(ask(&proxy, target).await);
    }
    assert_eq!((proxy.in_flight(&backend), waiting(&proxy)), (1, 7.0));
    for client in &mut clients {
        backend.release();
        assert_eq!(client.response().await.unwrap().status(), 200);
    }
    assert_eq!(targets(&backend.requests()), wanted);
    assert_eq!(waiting(&proxy), 0.0);
}

#[tokio::test]
async fn a_newcomer_does_not_pass_those_who_wait() {
    let backend = patient("app").await;
    let proxy = one_each(&[&backend], "").await;
    let mut first = ask(&proxy, "/first").await;
    let mut second = ask(&proxy, "/second").await;
    backend.release();
    first.response().await.unwrap();
    // On the connection that has just been answered, as a busy client would.
    first.send("GET /third HTTP/1.1\r\nHost: test\r\n\r\n").await;
    backend.release();
    second.response().await.unwrap();
    backend.release();
    first.response().await.unwrap();
    assert_eq!(targets(&backend.requests()), ["/first", "/second", "/third"]);
}

#[tokio::test]
async fn when_the_line_is_full_the_answer_is_503_at_once() {
    let backend = patient("app").await;
    let proxy = one_each(&[&backend], "queue = { size = 1, timeout = \"1h\" }").await;
    let _held = ask(&proxy, "/").await;
    let _waits = ask(&proxy, "/").await;
    let refused = proxy.connect().await.get("/").await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    assert_eq!((rejected(&proxy, "full"), rejected(&proxy, "timeout")), (1.0, 0.0));
}

#[tokio::test]
async fn without_a_line_nobody_waits() {
    let backend = patient("app").await;
    let proxy = one_each(&[&backend], "queue = { size = 0 }").await;
    let _held = ask(&proxy, "/").await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 503);
}

#[tokio::test]
async fn who_waits_too_long_is_answered_503() {
    let backend = patient("app").await;
    let proxy = one_each(&[&backend], "queue = { size = 9, timeout = \"100ms\" }").await;
    let _held = ask(&proxy, "/").await;
    let refused = proxy.connect().await.get("/").await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    assert_eq!((rejected(&proxy, "timeout"), waiting(&proxy)), (1.0, 0.0));
}

#[tokio::test]
async fn the_routes_timeout_ends_a_wait() {
    let backend = patient("app").await;
    let quick = "[[routes]]\npath = \"/quick\"\npool = \"app\"\ntimeout = \"100ms\"\n";
    let sections = format!("{HEALTH}{quick}");
    let proxy = Proxy::start(&app(&[&backend], "max_requests_per_backend = 1", &sections)).await;
    proxy.all_serve(&[&backend]).await;
    let _held = ask(&proxy, "/").await;
    assert_eq!(proxy.connect().await.get("/quick").await.status(), 504);
    assert_eq!((rejected(&proxy, "timeout"), waiting(&proxy)), (0.0, 0.0));
}

#[tokio::test]
async fn who_leaves_leaves_the_line() {
    let backend = patient("app").await;
    let proxy = one_each(&[&backend], "").await;
    let mut first = ask(&proxy, "/first").await;
    let gone = ask(&proxy, "/gone").await;
    let mut last = ask(&proxy, "/last").await;
    drop(gone);
    eventually("it has left the line", async || waiting(&proxy) == 1.0).await;
    let waits = || proxy.metric("tidegate_pool_queue_wait_seconds_count", &[]);
    eventually("its wait is counted", async || waits() == 1.0).await;
    backend.release();
    first.response().await.unwrap();
    backend.release();
    assert_eq!(last.response().await.unwrap().status(), 200);
    assert_eq!(targets(&backend.requests()), ["/first", "/last"]);
    assert_eq!(waits(), 2.0);
}

/// Nobody reads the body of a request in line, and nobody meets its end there.
#[tokio::test]
async fn who_leaves_with_an_unread_body_leaves_the_line() {
    let backend = patient("app").await;
    let proxy = one_each(&[&backend], "queue = { size = 9, timeout = \"1h\" }").await;
    let mut first = ask(&proxy, "/first").await;
    let gone = TcpStream::connect(proxy.http()).await.unwrap();
    reset(&gone);
    let mut gone = Wire::over(gone);
    gone.send("POST /gone HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello").await;
    eventually("it waits", async || waiting(&proxy) == 1.0).await;
    drop(gone);
    eventually("it has left the line", async || waiting(&proxy) == 0.0).await;
    backend.release();
    first.response().await.unwrap();
    assert_eq!(targets(&backend.requests()), ["/first"]);
}

/// It may be waiting for its answer.
#[tokio::test]
async fn who_only_ends_its_requests_keeps_its_place() {
    let backend = patient("app").await;
    let proxy = one_each(&[&backend], "").await;
    let mut first = ask(&proxy, "/first").await;
    let mut last = proxy.connect().await;
    last.send("POST /last HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello").await;
    last.finish().await;
    eventually("it waits", async || waiting(&proxy) == 1.0).await;
    for client in [&mut first, &mut last] {
        backend.release();
        assert_eq!(client.response().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_tunnel_keeps_its_slot_while_it_lives() {
    let backend = Backend::start(|request| match request.request_line().1 {
        "/tunnel" => {
            let switch = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
            Reply::raw(switch).then(Step::Echo)
        }
        _ => Reply::ok("app"),
    })
    .await;
    let proxy = one_each(&[&backend], "").await;
    let mut tunnel = proxy.connect().await;
    let switch = "GET /tunnel HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    tunnel.send(switch).await;
    assert_eq!(tunnel.head().await.unwrap().status(), 101);
    let mut client = ask(&proxy, "/").await;
    assert_eq!(waiting(&proxy), 1.0);
    drop(tunnel);
    assert_eq!(client.response().await.unwrap().status(), 200);
}

#[tokio::test]
async fn another_attempt_waits_for_another_backend() {
    let sick = Backend::start(|request| match request.request_line().1 {
        "/health" => Reply::ok(""),
        _ => Reply::default().then(Step::Reset),
    })
    .await;
    let well = patient("well").await;
    let proxy = one_each(&[&sick, &well], "policy = \"round_robin\"").await;
    // Whoever meets the sick one first goes on to the other, and keeps that.
    let mut first = proxy.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("one is held", async || well.requests().len() == 1).await;
    let mut second = proxy.connect().await;
    second.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the other waits", async || waiting(&proxy) == 1.0).await;
    assert_eq!(proxy.in_flight(&sick), 0);
    for client in [&mut first, &mut second] {
        well.release();
        assert_eq!(client.response().await.unwrap().text(), "well");
    }
}

#[tokio::test]
async fn a_bound_client_waits_for_its_own_backend() {
    let (one, two) = (patient("one").await, patient("two").await);
    let proxy = one_each(&[&one, &two], "affinity = { cookie = \"at\" }").await;
    let bound = proxy.connect().await.get("/free").await;
    let cookie = bound.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let (own, other) = if bound.text() == "one" { (&one, &two) } else { (&two, &one) };
    let with_cookie = format!("GET /own HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n");
    let mut holds = proxy.connect().await;
    holds.send(&with_cookie).await;
    eventually("its own is busy", async || proxy.in_flight(own) == 1).await;
    let mut waits = proxy.connect().await;
    waits.send(&with_cookie).await;
    eventually("it waits although the other is idle", async || waiting(&proxy) == 1.0).await;
    // Others pass it by on their way to the idle one.
    let mut free = proxy.connect().await;
    free.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the other is busy", async || proxy.in_flight(other) == 1).await;
    assert_eq!(waiting(&proxy), 1.0);
    for client in [&mut holds, &mut waits] {
        own.release();
        assert_eq!(client.response().await.unwrap().text(), bound.text());
    }
}

#[tokio::test]
async fn a_higher_limit_serves_those_who_wait() {
    let backend = patient("app").await;
    let proxy = one_each(&[&backend], "").await;
    let mut first = ask(&proxy, "/").await;
    let mut second = ask(&proxy, "/").await;
    assert_eq!(waiting(&proxy), 1.0);
    proxy.reload(&app(&[&backend], "max_requests_per_backend = 2", HEALTH)).await.unwrap();
    eventually("both are in flight", async || proxy.in_flight(&backend) == 2).await;
    for client in [&mut first, &mut second] {
        backend.release();
        assert_eq!(client.response().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_backend_that_comes_back_takes_those_who_wait() {
    let health = Arc::new(AtomicU16::new(503));
    let (one, two) = (patient("one").await, Backend::with_health("two", Arc::clone(&health)).await);
    let keys = "max_requests_per_backend = 1\nslow_start = \"0s\"";
    let proxy = Proxy::start(&app(&[&one, &two], keys, HEALTH)).await;
    eventually("it is down", async || proxy.state_of(&two) == "unhealthy").await;
    proxy.usable(1).await;
    let _held = ask(&proxy, "/").await;
    let mut waits = ask(&proxy, "/").await;
    assert_eq!(waiting(&proxy), 1.0);
    health.store(200, Ordering::SeqCst);
    assert_eq!(waits.response().await.unwrap().text(), "two");
}
