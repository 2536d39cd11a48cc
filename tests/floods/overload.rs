//! At the limits of the process: connections, requests, open files.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::flood::{Flood, Target};

/// Connects, and asks once every now and then so as not to be idle.
async fn sit(target: Target, _: usize) {
    while target.goes_on() {
        let Ok(mut stream) = TcpStream::connect(target.http).await else { continue };
        target.count();
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        while stream.write_all(request).await.is_ok() {
            let _ = stream.read(&mut [0; 4096]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_max_connections() {
    Flood::new("at_max_connections")
        .server("max_connections = 100")
        .good_keeps_its_connections()
        .run(300, sit)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_files() {
    Flood::new("out_of_files")
        .server("max_connections = 5000")
        .open_files(256)
        .good_keeps_its_connections()
        .run(400, sit)
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
            while target.goes_on() && stream.write_all(request).await.is_ok() {
                target.count();
                let _ = stream.read(&mut [0; 4096]).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
}
