//! Requests that are slow, many, large, or whose answers nobody takes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::flood::Flood;
use crate::support::every;
use crate::support::h2_client::{H2Client, get};

/// Between two bytes.
const DRIP: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies() {
    Flood::new("slow_bodies")
        .memory_each(40)
        .run(1500, |target, _| async move {
            let Ok(mut stream) = TcpStream::connect(target.http).await else { return };
            target.count();
            let head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
            let _ = stream.write_all(head).await;
            let mut beat = every(DRIP);
            while stream.write_all(b"x").await.is_ok() {
                beat.tick().await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers() {
    Flood::new("slow_readers")
        .memory_each(64)
        .run(900, |target, _| async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(16 * 1024).unwrap();
            let Ok(mut stream) = socket.connect(target.http).await else { return };
            target.count();
            let _ = stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            let mut beat = every(DRIP);
            while stream.read_u8().await.is_ok() {
                beat.tick().await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelining() {
    let batch = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200);
    Flood::new("pipelining")
        .run(32, move |target, number| {
            let batch = batch.clone();
            async move {
                let Ok(stream) = TcpStream::connect(target.http).await else { return };
                let (mut from, mut to) = stream.into_split();
                let saying = async {
                    while to.write_all(&batch).await.is_ok() {
                        target.count();
                    }
                };
                let mut answers = vec![0; 16 * 1024];
                let taking = async {
                    // Every other one takes no answer.
                    while number % 2 == 0 && from.read(&mut answers).await.is_ok_and(|n| n > 0) {}
                    std::future::pending::<()>().await;
                };
                tokio::join!(saying, taking);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_heads() {
    let field = format!("X-{{n}}: {}\r\n", "x".repeat(300));
    let fields: String = (0..95).map(|n| field.replace("{n}", &n.to_string())).collect();
    // Whole, except for the empty line at its end.
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}");
    Flood::new("big_heads")
        .memory_each(8 + 32 + 16)
        .run(1000, move |target, number| {
            let head = head.clone();
            async move {
                let Ok(mut stream) = TcpStream::connect(target.http).await else { return };
                while target.goes_on() && stream.write_all(head.as_bytes()).await.is_ok() {
                    target.count();
                    if number >= 8 {
                        // Most of them keep us waiting for the rest.
                        std::future::pending::<()>().await;
                    }
                    let _ = stream.write_all(b"\r\n").await;
                    let _ = stream.read(&mut [0; 1024]).await;
                }
            }
        })
        .await;
}

/// Streams of one connection.
const STREAMS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_over_http2() {
    let stream_kib = 16 + 32 + 256;
    Flood::new("slow_readers_over_http2")
        .memory_each(1024 + 32 + STREAMS as u64 * stream_kib)
        .run(10, |target, _| async move {
            let mut client = H2Client::connect(target.https).await;
            let mut answers = Vec::new();
            for _ in 0..STREAMS {
                let (answer, _) = client.start(get("/large"), true).await;
                target.count();
                answers.push(answer);
            }
            // The windows are never opened again.
            std::future::pending::<()>().await;
        })
        .await;
}
