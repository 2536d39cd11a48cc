//! The end of a client connection that may still send what nobody will read.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use super::body::Upload;
use super::connection::ConnectionState;
use super::error;
use super::http1::Link;
use super::io::ClientStream;
use super::timer::Timer;
use super::wakers::note;

/// Before a close we read on for so long, or so much, lest a reset overtake the answer.
const LINGER: Duration = Duration::from_secs(2);
/// The same where somebody waits for the place.
const LINGER_IN_THE_WAY: Duration = Duration::from_millis(250);
const LINGER_BYTES: usize = 16 * 1024 * 1024;
const LINGER_BROKEN_BYTES: usize = 1024 * 1024;

/// Writes a bare status, and waits a little for the client to read it.
pub async fn refuse(state: &ConnectionState, link: &RefCell<Link>, status: StatusCode) {
    let (_, Some(mut stream)) = link.borrow_mut().give_up() else { return };
    let answer = error::bare(status);
    let last_words = async {
        stream.write_all(&answer).await?;
        stream.flush().await
    };
    // Whether the client listens is its own affair.
    if let Ok(Ok(())) = tokio::time::timeout(LINGER, last_words).await {
        read_on(state, &mut stream, LINGER_BYTES).await;
    }
}

/// Closes our side, and reads on for a while, until the client closes its own. Were the connection
/// closed with bytes unread, the kernel would reset it, and the reset could overtake the answer (RFC
/// 9112 section 9.6).
pub async fn linger(state: &ConnectionState, link: &RefCell<Link>) {
    let (_, stream) = link.borrow_mut().give_up();
    if let Some(mut stream) = stream {
        read_on(state, &mut stream, LINGER_BYTES).await;
    }
}

/// As [`linger`], under HTTP/2: a client tells of what it takes, and asks whether we are there, for as
/// long as the end of an answer is on its way. One that was answered long ago has it.
pub async fn linger_http2(state: &ConnectionState, stream: &mut ClientStream) {
    if state.idle_since.get().elapsed() < LINGER {
        read_on(state, stream, LINGER_BYTES).await;
    }
}

/// As [`linger`], behind a GOAWAY that ends all streams. Of a flood little is read.
pub async fn linger_broken(state: &ConnectionState, stream: &mut ClientStream) {
    read_on(state, stream, LINGER_BROKEN_BYTES).await;
}

async fn read_on(state: &ConnectionState, stream: &mut ClientStream, mut left: usize) {
    let patience = if state.leaving.borrow().is_some() { LINGER_IN_THE_WAY } else { LINGER };
    let until = Instant::now() + patience;
    // Answered, and in nobody's way unless room is needed.
    state.spoken.set(true);
    state.io.resting.set(true);
    state.timer.arm(until);
    let mut told = false;
    poll_fn(|cx| {
        // The client is to know that nothing more comes. If it is gone, reading tells.
        told = told || Pin::new(&mut *stream).poll_shutdown(cx).is_ready();
        let mut scratch = state.worker.scratch.borrow_mut();
        while left > 0 {
            let mut waste = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *stream).poll_read(cx, &mut waste) {
                Poll::Ready(Ok(())) if !waste.filled().is_empty() => {
                    left = left.saturating_sub(waste.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    ready!(state.timer.poll_expired(cx));
                    let now = Instant::now();
                    if now >= until || state.is_to_leave(now) {
                        return Poll::Ready(());
                    }
                    state.timer.arm(until);
                }
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// Uploads of an HTTP/2 connection that were answered before they had come in full.
///
/// An upload that is let go is declined with a reset (RFC 9113 section 8.1), and many a client that
/// is still sending takes the reset for a failure and never looks at the answer. So for a while they
/// are read on. They stay within the connection's limit of streams.
#[derive(Debug, Default)]
pub struct Leftovers {
    kept: RefCell<Vec<Leftover>>,
    /// The connection's.
    task: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Leftover {
    upload: Rc<Upload>,
    timer: Timer,
    bytes: usize,
}

impl Leftovers {
    /// Takes an upload whose answer has ended, or was broken off.
    pub fn keep(&self, upload: Rc<Upload>, timer: Timer) {
        upload.give_up();
        timer.arm(Instant::now() + LINGER);
        self.kept.borrow_mut().push(Leftover { upload, timer, bytes: LINGER_BYTES });
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Reads on, and lets go of what has come to its end or had its time.
    pub fn poll(&self, cx: &mut Context<'_>) {
        note(&mut self.task.borrow_mut(), cx.waker());
        self.kept.borrow_mut().retain_mut(|leftover| {
            leftover.upload.poll_discard(cx, &mut leftover.bytes).is_pending()
                && leftover.timer.poll_expired(cx).is_pending()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::proxy::body::Incoming;
    use crate::proxy::timer::Wheel;

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Nothing else may happen on the connection, whose client waits for a larger window.
    #[test]
    fn who_reads_on_is_woken_for_what_is_kept() {
        let (wheel, woken) = (Wheel::new(), Arc::new(Woken(AtomicBool::new(false))));
        let leftovers = Leftovers::default();
        leftovers.poll(&mut Context::from_waker(&Arc::clone(&woken).into()));
        leftovers.keep(Upload::new(Incoming::None, LINGER, &wheel), wheel.timer());
        assert!(woken.0.load(Ordering::Relaxed));
    }
}
