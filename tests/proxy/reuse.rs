//! Connections to backends: which are used again, how many are kept, and that one which went stale
//! costs nobody a request.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{Proxy, quiet_pool_of};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc";

/// Asks again and again over connections that the backend has closed in the meantime.
async fn over_stale_connections(request: &str) {
    let backend = Backend::start(|_| Reply::ok("done").then(Step::Close)).await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut client = proxy.connect().await;
    for round in 0..20 {
        client.send(request).await;
        assert_eq!(client.response().await.unwrap().status(), 200, "in round {round}");
        eventually("closed", async || backend.open_connections() == 0).await;
    }
    assert_eq!(backend.requests().len(), 20, "each was asked once");
}

#[tokio::test]
async fn a_get_never_fails_on_a_stale_connection() {
    over_stale_connections(GET).await;
}

#[tokio::test]
async fn a_post_never_fails_on_a_connection_that_is_known_to_be_stale() {
    over_stale_connections(POST).await;
}

#[tokio::test]
async fn a_get_that_meets_a_close_on_a_used_connection_is_asked_anew() {
    // The second request on a connection is answered by a close.
    let backend = Backend::start(|request| match request.request_line().1 {
        "/second" => Reply::default().then(Step::Close),
        _ => Reply::ok("done"),
    })
    .await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/first").await.status(), 200);
    assert_eq!(client.get("/second").await.status(), 502);
    assert_eq!(backend.requests().len(), 1 + 3, "one and then all three attempts");
    assert_eq!(proxy.metric("tidegate_backend_stale_connections_total", &[]), 1.0);
}

#[tokio::test]
async fn a_post_that_meets_a_close_on_a_used_connection_is_not_repeated() {
    let backend = Backend::start(|request| match request.request_line().0 {
        "POST" => Reply::default().then(Step::Close),
        _ => Reply::ok("done"),
    })
    .await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut client = proxy.connect().await;
    client.get("/").await;
    client.send(POST).await;
    assert_eq!(client.response().await.unwrap().status(), 502);
    assert_eq!(backend.requests().len(), 2);
}

#[tokio::test]
async fn a_stale_connection_says_nothing_about_health() {
    let backend = Backend::start(|_| Reply::ok("done").then(Step::Close)).await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut client = proxy.connect().await;
    for _ in 0..10 {
        client.get("/").await;
    }
    assert_eq!(proxy.state_of(&backend), "healthy");
}

/// Connections that are left after four requests at once, with these settings.
async fn kept(settings: &str) -> (Proxy, Backend) {
    let backend = Backend::start(|_| Reply::ok("done").after(Step::Hold)).await;
    let config = format!("{}[pools.app.upstream]\n{settings}\n", quiet_pool_of(&[&backend]));
    let proxy = Proxy::start(&config).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = proxy.connect().await;
        client.send(GET).await;
        clients.push(client);
    }
    eventually("all are asked", async || backend.requests().len() == 4).await;
    for _ in 0..4 {
        backend.release();
    }
    for client in &mut clients {
        assert_eq!(client.response().await.unwrap().text(), "done");
    }
    (proxy, backend)
}

#[tokio::test]
async fn all_connections_of_a_burst_are_kept_by_default() {
    let (_proxy, backend) = kept("").await;
    assert_eq!(backend.open_connections(), 4);
}

#[tokio::test]
async fn no_more_connections_are_kept_than_is_said() {
    // One for each of the two workers.
    let (_proxy, backend) = kept("keepalive_connections = 2").await;
    eventually("two are left", async || backend.open_connections() <= 2).await;
}

#[tokio::test]
async fn no_connection_is_kept_where_none_is_wanted() {
    let (_proxy, backend) = kept("keepalive_connections = 0").await;
    eventually("none is left", async || backend.open_connections() == 0).await;
}

#[tokio::test]
async fn unused_connections_are_closed_in_time() {
    let (_proxy, backend) = kept("keepalive_timeout = \"200ms\"").await;
    eventually("none is left", async || backend.open_connections() == 0).await;
}

#[tokio::test]
async fn a_connection_in_the_middle_of_an_answer_is_not_used_again() {
    let backend = Backend::start(|request| match request.request_line().1 {
        "/long" => {
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello").then(Step::Swallow)
        }
        _ => Reply::ok("done"),
    })
    .await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut leaver = proxy.connect().await;
    leaver.send("GET /long HTTP/1.1\r\nHost: test\r\n\r\n").await;
    leaver.head().await.unwrap();
    drop(leaver);
    eventually("closed", async || backend.open_connections() == 0).await;
    assert_eq!(proxy.connect().await.get("/").await.text(), "done");
}

#[tokio::test]
async fn connections_are_counted_open_and_idle() {
    let (proxy, backend) = kept("").await;
    let connections = |state: &str| {
        proxy.metric("tidegate_backend_connections", &[&format!("state=\"{state}\"")])
    };
    eventually("all are idle", async || connections("idle") == 4.0).await;
    backend.kill();
    eventually("none is idle", async || connections("idle") == 0.0).await;
}
