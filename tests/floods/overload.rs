//! At the limits of the process: connections, requests, open files.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::flood::{Flood, Target, while_heard};
use crate::support::every;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Connects, says something, and holds the connection for as long as it lasts, with a word now and
/// then if it has one. Whoever was sent away comes again soon.
async fn hold(target: Target, first: &'static [u8], then: &'static [u8]) {
    let mut coming = every(Duration::from_millis(20));
    while target.goes_on() {
        coming.tick().await;
        let Ok(stream) = TcpStream::connect(target.http).await else { continue };
        target.count();
        let (mut from, mut to) = stream.into_split();
        let saying = async {
            let mut said = to.write_all(first).await;
            let mut beat = every(Duration::from_millis(500));
            beat.tick().await;
            while said.is_ok() && !then.is_empty() {
                beat.tick().await;
                said = to.write_all(then).await;
            }
            if said.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        while_heard(&mut from, saying).await;
    }
}

fn at_the_limit(name: &'static str) -> Flood {
    Flood::new(name).server("max_connections = 100").good_comes_anew()
}

/// Attackers that ask now and then, so as not to be idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_max_connections() {
    at_the_limit("at_max_connections").run(200, |target, _| hold(target, GET, GET)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_max_connections_with_idle_ones() {
    at_the_limit("at_max_connections_with_idle_ones")
        .run(200, |target, _| hold(target, GET, b""))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_max_connections_with_silent_ones() {
    at_the_limit("at_max_connections_with_silent_ones")
        .run(200, |target, _| hold(target, b"", b""))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_max_connections_with_slow_heads() {
    at_the_limit("at_max_connections_with_slow_heads")
        .run(200, |target, _| hold(target, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"x"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_listeners_max_connections() {
    Flood::new("at_a_listeners_max_connections")
        .limits("max_connections = 100")
        .good_comes_anew()
        .run(200, |target, number| {
            let first: &[u8] = if number % 2 == 0 { GET } else { b"" };
            hold(target, first, b"")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_files() {
    Flood::new("out_of_files")
        .server("max_connections = 5000")
        .open_files(256)
        .good_comes_anew()
        .run(200, |target, _| hold(target, GET, b""))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_max_requests() {
    Flood::new("at_max_requests")
        .server("max_requests = 50")
        .good_takes_503()
        .run(200, |target, _| async move {
            let Ok(mut stream) = TcpStream::connect(target.http).await else { return };
            let request = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let mut beat = every(Duration::from_millis(50));
            while target.goes_on() && stream.write_all(request).await.is_ok() {
                target.count();
                let _ = stream.read(&mut [0; 4096]).await;
                beat.tick().await;
            }
        })
        .await;
}
