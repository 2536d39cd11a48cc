//! The end of a client connection that still sends what nobody will read.

use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error;
use super::io::ClientIo;

/// Before a close we read on for so long, or so much, lest a reset overtake the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Writes a bare status, and waits a little for the client to read it.
pub async fn refuse(mut io: ClientIo, status: StatusCode) {
    let answer = error::bare(status);
    let last_words = async {
        io.write_all(&answer).await?;
        io.shutdown().await
    };
    // Whether the client listens is its own affair.
    if let Ok(Ok(())) = tokio::time::timeout(LINGER, last_words).await {
        linger(io).await;
    }
}

/// Reads on, for a while, what the client is still sending. Were the connection closed with bytes
/// unread, the kernel would reset it, and the reset could overtake the answer (RFC 9112 section
/// 9.6).
pub async fn linger(io: ClientIo) {
    let (_, mut stream) = io.into_tunnel();
    let mut waste = vec![0; 16 * 1024];
    let reading = async {
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut waste).await {
                Ok(read) if read > 0 => left = left.saturating_sub(read),
                _ => break,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, reading).await;
}
