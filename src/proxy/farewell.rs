//! The end of a client connection that still sends what nobody will read.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::body::Upload;
use super::error;
use super::http1::Link;
use super::io::ClientStream;
use super::timer::Timer;

/// Before a close we read on for so long, or so much, lest a reset overtake the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Writes a bare status, and waits a little for the client to read it.
pub async fn refuse(link: &RefCell<Link>, status: StatusCode) {
    let (_, Some(mut stream)) = link.borrow_mut().give_up() else { return };
    let answer = error::bare(status);
    let last_words = async {
        stream.write_all(&answer).await?;
        stream.flush().await
    };
    // Whether the client listens is its own affair.
    if let Ok(Ok(())) = tokio::time::timeout(LINGER, last_words).await {
        read_on(stream).await;
    }
}

/// Reads on, for a while, what the client is still sending. Were the connection closed with bytes
/// unread, the kernel would reset it, and the reset could overtake the answer (RFC 9112 section
/// 9.6).
pub async fn linger(link: &RefCell<Link>) {
    let (_, stream) = link.borrow_mut().give_up();
    if let Some(stream) = stream {
        read_on(stream).await;
    }
}

async fn read_on(mut stream: ClientStream) {
    let mut waste = vec![0; 16 * 1024];
    let reading = async {
        // The client is to know that nothing more comes. If it is gone, reading tells.
        let _ = stream.shutdown().await;
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

/// Uploads of an HTTP/2 connection that were answered before they had come in full.
///
/// An upload that is let go is declined with a reset (RFC 9113 section 8.1), and many a client that
/// is still sending takes the reset for a failure and never looks at the answer. So for a while they
/// are read on. They stay within the connection's limit of streams.
#[derive(Debug, Default)]
pub struct Leftovers(RefCell<Vec<Leftover>>);

#[derive(Debug)]
struct Leftover {
    upload: Rc<Upload>,
    timer: Timer,
    bytes: usize,
}

impl Leftovers {
    /// Takes an upload whose answer has ended. The connection is awake: it has that end to write.
    pub fn keep(&self, upload: Rc<Upload>, timer: Timer) {
        upload.give_up();
        timer.arm(Instant::now() + LINGER);
        self.0.borrow_mut().push(Leftover { upload, timer, bytes: LINGER_BYTES });
    }

    /// Reads on, and lets go of what has come to its end or had its time.
    pub fn poll(&self, cx: &mut Context<'_>) {
        self.0.borrow_mut().retain_mut(|leftover| {
            leftover.upload.poll_discard(cx, &mut leftover.bytes).is_pending()
                && leftover.timer.poll_expired(cx).is_pending()
        });
    }
}
