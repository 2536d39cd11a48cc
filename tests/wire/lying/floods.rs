//! Backends that never come to an end: how much is taken from them before they are cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::raw;
use crate::support::eventually;
use crate::support::proxy::{Proxy, pool_at};

/// What the kernel may hold between two sockets on loopback, generously: whoever keeps reading goes
/// far beyond it.
const IN_THE_KERNEL: usize = 24 * 1024 * 1024;

/// Asks a backend that answers with `start` and then with `more` without end. Gives the answer's
/// status, or `None` if it was broken off; checks that little was taken and then nothing more.
async fn flood(start: &'static str, more: &'static str) -> Option<u16> {
    let sent = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(AtomicUsize::new(0));
    let (counter, ends) = (Arc::clone(&sent), Arc::clone(&ended));
    let address = raw(move |mut stream| {
        let (sent, ended) = (Arc::clone(&counter), Arc::clone(&ends));
        async move {
            if !matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {
                return;
            }
            let _ = stream.write_all(start.as_bytes()).await;
            let block = more.repeat(64 * 1024 / more.len());
            while stream.write_all(block.as_bytes()).await.is_ok() {
                sent.fetch_add(block.len(), Ordering::SeqCst);
            }
            ended.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let proxy = Proxy::start(&pool_at(&[address])).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let answer = client.response().await.ok().map(|answer| answer.status());
    eventually("the backend is cut off", async || ended.load(Ordering::SeqCst) == 1).await;
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < IN_THE_KERNEL, "{sent} bytes were taken");
    assert_eq!(proxy.metric("tidegate_backend_malformed_responses_total", &[]), 1.0);
    answer
}

#[tokio::test]
async fn a_status_line_without_end() {
    assert_eq!(flood("HTTP/1.1 200 ", "x").await, Some(502));
}

#[tokio::test]
async fn a_name_without_end() {
    assert_eq!(flood("HTTP/1.1 200 OK\r\n", "x").await, Some(502));
}

#[tokio::test]
async fn a_value_without_end() {
    assert_eq!(flood("HTTP/1.1 200 OK\r\nX: ", "x").await, Some(502));
}

#[tokio::test]
async fn fields_without_end() {
    assert_eq!(flood("HTTP/1.1 200 OK\r\n", "X: y\r\n").await, Some(502));
}

#[tokio::test]
async fn interim_answers_without_end() {
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
    ] {
        assert_eq!(flood("", interim).await, Some(502), "{interim}");
    }
}

#[tokio::test]
async fn garbage_without_end() {
    assert_eq!(flood("", "\0").await, Some(502));
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// If the beginning came with the head, it is the head that is refused.
fn is_cut(status: Option<u16>) -> bool {
    matches!(status, None | Some(502))
}

#[tokio::test]
async fn a_chunk_extension_without_end() {
    assert!(is_cut(flood(CHUNKED, "1;").await));
}

#[tokio::test]
async fn chunk_extensions_without_end() {
    assert!(is_cut(flood(CHUNKED, "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n").await));
}

#[tokio::test]
async fn trailers_without_end() {
    let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    assert!(is_cut(flood(start, "X: y\r\n").await));
}
