//! Which HTTP a client speaks on a plain connection, told by its first bytes (RFC 9113 section
//! 3.3).
//!
//! The bytes are read, not peeked at, since a peek cannot wait for more than it has seen; whoever
//! serves the connection gets them first. No request of HTTP/1.1 begins as the preface does, so
//! nearly always the first byte decides and nobody waits.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::connection::ConnectionState;
use super::io::ClientStream;

/// The first bytes of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes told.
#[derive(Debug)]
pub struct Sniffed {
    /// Whether they are HTTP/2.
    pub h2: bool,
    /// The bytes.
    pub held: Vec<u8>,
}

/// Reads as much as it takes to tell. `None` if the client closes, fails, or is silent for as long
/// as it may be before a first request.
pub async fn sniff(state: &ConnectionState, stream: &mut ClientStream) -> Option<Sniffed> {
    let mut held = Vec::with_capacity(PREFACE.len());
    state.arm();
    poll_fn(|cx| {
        loop {
            let mut bytes = [0; PREFACE.len()];
            let mut buf = ReadBuf::new(&mut bytes[held.len()..]);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    held.extend_from_slice(buf.filled());
                    let h2 = PREFACE.starts_with(&held);
                    if !h2 || held.len() == PREFACE.len() {
                        return Poll::Ready(Some(Sniffed { h2, held: std::mem::take(&mut held) }));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {
                    ready!(state.timer.poll_expired(cx));
                    let now = Instant::now();
                    if state.is_to_leave(now) {
                        return Poll::Ready(None);
                    }
                    if state.is_overdue(now) {
                        state.note_silence();
                        return Poll::Ready(None);
                    }
                    state.arm();
                }
            }
        }
    })
    .await
}
