//! Listeners that come, go and move.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::UnixStream;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::h2_wire::{GOAWAY, H2Wire, NO_TABLE, Outcome, ask};
use crate::support::proxy::{Proxy, pool_of};
use crate::support::wire::Wire;

/// A configuration with another listener at this address.
fn with_listener(config: &str, bind: &str) -> String {
    format!("[listeners.more]\nbind = \"{bind}\"\n{config}")
}

#[tokio::test]
async fn a_new_listener_accepts_as_soon_as_the_reload_is_done() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    proxy.reload(&with_listener(&pool_of(&[&backend]), "127.0.0.1:0")).await.unwrap();
    assert_eq!(Wire::connect(proxy.address("more")).await.get("/").await.text(), "one");
}

#[tokio::test]
async fn a_listener_whose_port_is_taken_refuses_the_whole_reload() {
    let (old, new) = (Backend::named("old").await, Backend::named("new").await);
    let proxy = Proxy::before(&[&old]).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = format!(
        "[listeners.free]\nbind = \"127.0.0.1:0\"\n{}",
        with_listener(&pool_of(&[&new]), &address)
    );
    let error = proxy.reload(&config).await.unwrap_err().to_string();
    assert!(error.contains(&format!("{address} is already in use")), "{error}");
    assert_eq!(proxy.connect().await.get("/").await.text(), "old");
    assert_eq!(proxy.running().listener_address("free"), None);
}

#[tokio::test]
async fn a_listener_that_left_finishes_what_it_has_and_takes_nothing_new() {
    let backend = Backend::start(|_| Reply::ok("one").after(Step::Hold)).await;
    let config = pool_of(&[&backend]);
    let proxy = Proxy::start(&with_listener(&config, "127.0.0.1:0")).await;
    let address = proxy.address("more");
    let mut client = Wire::connect(address).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("in flight", async || backend.requests().len() == 1).await;
    proxy.reload(&config).await.unwrap();
    let refused = async || tokio::net::TcpStream::connect(address).await.is_err();
    eventually("nobody listens", refused).await;
    backend.release();
    assert_eq!(client.response().await.unwrap().text(), "one");
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn idle_connections_of_a_listener_that_left_are_closed() {
    let backend = Backend::named("one").await;
    let config = pool_of(&[&backend]);
    let proxy = Proxy::start(&with_listener(&config, "127.0.0.1:0")).await;
    let mut client = Wire::connect(proxy.address("more")).await;
    client.get("/").await;
    proxy.reload(&config).await.unwrap();
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_listener_that_changes_its_address_moves() {
    let backend = Backend::named("one").await;
    let config = pool_of(&[&backend]);
    let proxy = Proxy::start(&with_listener(&config, "127.0.0.1:0")).await;
    let old = proxy.address("more");
    proxy.reload(&with_listener(&config, "127.0.0.2:0")).await.unwrap();
    assert_eq!(Wire::connect(proxy.address("more")).await.get("/").await.text(), "one");
    let refused = async || tokio::net::TcpStream::connect(old).await.is_err();
    eventually("nobody listens", refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_new_connection_fails_while_listeners_come_and_go() {
    let backend = Backend::named("one").await;
    let config = pool_of(&[&backend]);
    let proxy = Proxy::start(&config).await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let storm: Vec<_> = (0..8)
        .map(|_| {
            let (address, stop) = (proxy.http(), Arc::clone(&stop));
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(Wire::connect(address).await.get("/").await.status(), 200);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 0..30 {
        let text =
            if round % 2 == 0 { with_listener(&config, "127.0.0.1:0") } else { config.clone() };
        proxy.reload(&text).await.unwrap();
        let goal = served.load(Ordering::SeqCst) + 20;
        eventually("more were served", async || served.load(Ordering::SeqCst) >= goal).await;
    }
    stop.store(true, Ordering::SeqCst);
    for task in storm {
        task.await.expect("no connection failed");
    }
}

#[tokio::test]
async fn connections_that_the_kernel_accepted_for_a_listener_that_leaves_are_served() {
    let backend = Backend::named("one").await;
    let config = pool_of(&[&backend]);
    for _ in 0..5 {
        let proxy = Proxy::start(&with_listener(&config, "127.0.0.1:0")).await;
        let address = proxy.address("more");
        let mut clients = Vec::new();
        for _ in 0..40 {
            let mut client = Wire::connect(address).await;
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
            clients.push(client);
        }
        proxy.reload(&config).await.unwrap();
        for mut client in clients {
            assert_eq!(client.response().await.unwrap().status(), 200);
        }
    }
}

#[tokio::test]
async fn a_listener_with_a_new_name_makes_room_as_ever() {
    let backend = Backend::named("one").await;
    let with_name = |name: &str| {
        let limits = format!("[listeners.{name}.limits]\nmax_connections = 1");
        let bind = "bind = \"unix:local.sock\"\nh2c = true";
        format!("[listeners.{name}]\n{bind}\n{limits}\n{}", pool_of(&[&backend]))
    };
    let proxy = Proxy::start(&with_name("old")).await;
    let connect = async || UnixStream::connect(proxy.dir().join("local.sock")).await.unwrap();
    let mut idle = H2Wire::over(connect().await);
    idle.greet(&NO_TABLE).await;
    idle.send(ask(1, "/")).await;
    assert_eq!(idle.outcome(1).await, Outcome::Status(200));
    // It is asked to leave under the one name, and has a request under the other.
    let came = connect().await;
    while idle.next().await.expect("it is told").kind != GOAWAY {}
    proxy.reload(&with_name("new")).await.unwrap();
    // It may have gone already.
    let _ = idle.try_send(ask(3, "/")).await;
    idle.end().await;
    drop(came);
    let mut idle = Wire::over(connect().await);
    assert_eq!(idle.get("/").await.status(), 200);
    eventually("it makes room", async || {
        let mut next = Wire::over(connect().await);
        let asked = next.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        asked.is_ok() && next.response().await.is_ok()
    })
    .await;
}
