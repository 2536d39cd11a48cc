//! How an answer, and a connection, is let go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::Link;
use crate::proxy::io::{ClientStream, RawStream};
use crate::upstream::Spare;

/// A client whose upload nobody reads may have been gone for so long.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Link {
    /// All of the answer has been written: the room that it was written in is the next one's.
    pub(in crate::proxy::http1) fn end_answer(&mut self, spare: &Spare) {
        spare.keep_out(std::mem::take(&mut self.out));
    }

    /// Whether something is put off that an answer which comes soon saves.
    pub(in crate::proxy::http1) fn puts_off(&self) -> bool {
        self.stream.as_ref().is_some_and(ClientStream::puts_off)
    }

    /// Does what was put off where there is no request to be answered. A client may wait for it: it holds
    /// its request back (RFC 896) until the end of its handshake is acknowledged, which a ticket does at
    /// once and the kernel by itself only much later. Should it fail, reading tells.
    pub(super) fn catch_up(&mut self, cx: &mut Context<'_>) {
        if let Some(stream) = &mut self.stream
            && stream.puts_off()
        {
            let _ = stream.catch_up(cx);
        }
    }

    /// Does what was put off as soon as the answer takes long: it may be there sooner than an end of
    /// the client's that it would be worth looking for.
    pub(super) fn poll_catch_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(_) if self.state.hurry_until.get().is_some() => Poll::Pending,
            Some(stream) => Poll::Ready(stream.catch_up(cx)),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Watches for a client that has gone while its body is still to be read. Whoever reads it sees the
    /// end; but in the pool's queue, or while the backend takes nothing, nobody does, and the reactor
    /// wakes nobody who leaves unread what there is. So it is looked for every now and then.
    pub(super) fn poll_broken(&mut self) -> Poll<()> {
        if self.stream.as_ref().is_some_and(ClientStream::is_broken) {
            return Poll::Ready(());
        }
        if self.state.look_again_at.get().is_none() {
            self.state.look_again_at.set(Some(Instant::now() + LOOK_AGAIN));
        }
        Poll::Pending
    }

    /// What is written next is the last of an answer, and the connection is closed behind it.
    pub(in crate::proxy::http1) fn end_with_this(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.end_with_this();
        }
    }

    /// Whether nothing is unread of what has come from the client, as far as is known.
    pub(in crate::proxy::http1) fn is_read_up(&self) -> bool {
        let unread = |stream: &ClientStream| stream.has_unread();
        self.inbox.bytes().is_empty() && (self.ended || !self.stream.as_ref().is_some_and(unread))
    }

    /// Says goodbye, and ends what is written where that was announced.
    pub(in crate::proxy::http1) fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(()) };
        if matches!(stream, ClientStream::Tls(_)) && !stream.has_said_goodbye() {
            let said = Pin::new(&mut *stream).poll_shutdown(cx);
            self.state.note_flush(stream, &said);
            return said.map(drop);
        }
        stream.end();
        Poll::Ready(())
    }

    /// Gives the room for reads and writes back, but for what has come of the next head.
    pub(in crate::proxy::http1) fn park(&mut self) {
        self.out = Vec::new();
        self.scanner.release();
        self.inbox.shrink();
    }

    /// Gives the connection up: the bytes that were read from it, and the stream.
    pub fn give_up(&mut self) -> (Bytes, Option<ClientStream>) {
        // A copy, since the buffer may be large and its end far.
        let early = Bytes::copy_from_slice(self.inbox.bytes());
        self.inbox.clear();
        (early, self.stream.take())
    }

    /// Closes the connection with a reset. One with TLS ends without its last word, which says the
    /// same.
    pub(in crate::proxy::http1) fn reset(&mut self) {
        if let Some(ClientStream::Plain(RawStream::Tcp(stream, _))) = self.stream.take() {
            // If it fails, it is a close like any other.
            let _ = stream.reset_on_drop();
        }
    }
}
