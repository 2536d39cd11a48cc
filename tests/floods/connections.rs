//! Connections that say little, nothing, or come and go.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::flood::{Flood, Target};
use crate::support::every;

/// Two turns of this make a second.
const DRIP: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads() {
    Flood::new("slow_heads")
        .memory_each(8)
        .run(2000, |target, _| async move {
            let Ok(mut stream) = TcpStream::connect(target.http).await else { return };
            target.count();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
            let mut beat = every(DRIP);
            while stream.write_all(b"x").await.is_ok() {
                beat.tick().await;
            }
        })
        .await;
}

/// Of each head that waits for its end we hold what has come of it, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_long_heads() {
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: {}", "x".repeat(8000));
    Flood::new("slow_long_heads")
        .memory_each(8 + 8)
        .run(2000, move |target, _| {
            let head = head.clone();
            async move {
                let Ok(mut stream) = TcpStream::connect(target.http).await else { return };
                target.count();
                let _ = stream.write_all(head.as_bytes()).await;
                let mut beat = every(DRIP);
                while stream.write_all(b"x").await.is_ok() {
                    beat.tick().await;
                }
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections() {
    Flood::new("silent_connections")
        .memory_each(8)
        .run(2000, |target, _| async move {
            let Ok(mut stream) = TcpStream::connect(target.http).await else { return };
            target.count();
            let _ = stream.read_u8().await;
        })
        .await;
}

/// Opens a connection, asks once or not at all, and is gone.
async fn come_and_go(target: Target, number: usize) {
    // Thousands a second, and not as many as the machine can make.
    let mut beat = every(Duration::from_millis(10));
    while target.goes_on() {
        beat.tick().await;
        let Ok(mut stream) = TcpStream::connect(target.http).await else { continue };
        target.count();
        if number.is_multiple_of(2) {
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(request).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_churn() {
    Flood::new("connection_churn").run(32, come_and_go).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_at_its_limit() {
    Flood::new("one_address_at_its_limit")
        .limits("max_connections_per_address = 20")
        .good_from(Ipv4Addr::new(127, 0, 0, 2))
        .run(100, |target, _| async move {
            let mut beat = every(Duration::from_millis(20));
            while target.goes_on() {
                beat.tick().await;
                let Ok(mut stream) = TcpStream::connect(target.http).await else { continue };
                target.count();
                // Where that ends it is not in, and tries again soon.
                let _ = stream.read_u8().await;
            }
        })
        .await;
}
