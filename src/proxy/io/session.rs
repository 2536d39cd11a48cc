//! A TLS session over a client's socket, from its first byte on.
//!
//! Our own, and not tokio-rustls', for two things. The **session ticket** of TLS 1.3 is ready as soon
//! as the client's side of the handshake has come, and mostly the first request came with that: so the
//! ticket is held back and goes out with the first of what is written, in place of a write and a packet
//! of its own. A server may send it at any time (RFC 8446 section 4.6.1); whoever finds no request, or
//! has nothing to write for a while, sends it by itself. And a **read** that has brought something does
//! not ask again a socket that gave all it had.

#[cfg(test)]
pub mod tests;

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::{AcceptedAlert, Acceptor, ClientHello};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::RawStream;

/// A session.
#[derive(Debug)]
pub struct Session {
    io: RawStream,
    tls: ServerConnection,
    /// What waits to be written is a ticket, and nothing but that.
    holds_ticket: bool,
    /// Bytes that were opened and not given out.
    opened: usize,
    /// Bytes that the socket has taken, and nobody has asked for yet.
    sent: usize,
    /// Met behind bytes that were given out first.
    failure: Option<io::Error>,
}

/// What one read of the socket brought.
struct Filled {
    /// Bytes; none at its end.
    bytes: usize,
    /// The socket has no more.
    emptied: bool,
}

impl Session {
    /// Shakes hands with a client, with what is chosen for what it says. `begun` is set once
    /// something has come.
    ///
    /// # Errors
    /// `InvalidData` if it goes against the rules or nothing suits both sides, of which the client is
    /// told; else what the socket says.
    pub async fn accept(
        mut io: RawStream,
        begun: &Cell<bool>,
        choose: impl FnOnce(&ClientHello<'_>) -> Arc<ServerConfig>,
    ) -> io::Result<Session> {
        let mut acceptor = Acceptor::default();
        let accepted = loop {
            let read = |cx: &mut Context<'_>| {
                poll_io(acceptor.read_tls(&mut Source { io: &mut io, cx, emptied: false }))
            };
            if poll_fn(read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            begun.set(true);
            match acceptor.accept() {
                Ok(Some(accepted)) => break accepted,
                Ok(None) => {}
                Err((error, alert)) => return Err(refuse(&mut io, error, alert).await),
            }
        };
        let config = choose(&accepted.client_hello());
        let tls = match accepted.into_connection(config) {
            Ok(tls) => tls,
            Err((error, alert)) => return Err(refuse(&mut io, error, alert).await),
        };
        let mut session =
            Session { io, tls, holds_ticket: false, opened: 0, sent: 0, failure: None };
        while session.tls.is_handshaking() {
            poll_fn(|cx| session.poll_send(cx)).await?;
            if poll_fn(|cx| session.poll_fill(cx)).await?.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        match session.tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => session.holds_ticket = session.tls.wants_write(),
            // What waits may be the end of the handshake itself.
            _ => poll_fn(|cx| session.poll_send(cx)).await?,
        }
        Ok(session)
    }

    /// The socket.
    pub fn raw(&self) -> &RawStream {
        &self.io
    }

    /// The socket.
    pub fn raw_mut(&mut self) -> &mut RawStream {
        &mut self.io
    }

    /// What TLS knows.
    pub fn tls(&self) -> &ServerConnection {
        &self.tls
    }

    /// No more than this may wait, sealed, in bytes.
    pub fn limit(&mut self, most: usize) {
        self.tls.set_buffer_limit(Some(most));
    }

    /// Whether a ticket waits for something that it can go with.
    pub fn holds_ticket(&self) -> bool {
        self.holds_ticket
    }

    /// Whether something that was said waits, sealed.
    pub fn has_sealed(&self) -> bool {
        self.tls.wants_write() && !self.holds_ticket
    }

    /// What the socket has taken since this was last asked, in bytes.
    pub fn take_sent(&mut self) -> usize {
        mem::take(&mut self.sent)
    }

    /// Waits until there may be something to be read.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_unread() { Poll::Ready(Ok(())) } else { self.io.poll_readable(cx) }
    }

    /// Whether something can be read that was read from the socket, the end included.
    pub fn has_unread(&self) -> bool {
        // What has bytes to give out does not want to read more.
        self.failure.is_some() || !self.tls.wants_read()
    }

    /// Seals as much as may wait, and says how much that is.
    ///
    /// # Errors
    /// What ended the session before.
    pub fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = self.tls.writer().write_vectored(slices)?;
        self.holds_ticket &= taken == 0;
        Ok(taken)
    }

    /// Seals the end of TLS, once.
    pub fn seal_end(&mut self) {
        self.tls.send_close_notify();
        self.holds_ticket = false;
    }

    /// Sends all that is sealed, and a ticket that waits.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let sink = &mut Sink { io: &mut self.io, cx };
            match ready!(poll_io(self.tls.write_tls(sink)))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        self.holds_ticket = false;
        Poll::Ready(Ok(()))
    }

    /// Seals and sends; what is sealed and cannot go yet, goes with what follows or when flushed.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        loop {
            let taken = self.seal(slices)?;
            match (self.poll_send(cx)?, taken) {
                (Poll::Pending, 0) => return Poll::Pending,
                // Now there is room.
                (Poll::Ready(()), 0) => {}
                (_, taken) => return Poll::Ready(Ok(taken)),
            }
        }
    }

    /// As [`AsyncRead::poll_read`]. An end of the socket without one of TLS is an error.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        let before = buf.filled().len();
        let mut emptied = false;
        loop {
            self.give(buf);
            let given = buf.filled().len() > before;
            if buf.remaining() == 0 || given && emptied || !self.tls.wants_read() {
                return Poll::Ready(Ok(()));
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(Filled { bytes: 0, .. })) if !given => {
                    return Poll::Ready(self.tls.reader().fill_buf().map(drop));
                }
                Poll::Ready(Ok(filled)) => emptied = filled.emptied || filled.bytes == 0,
                Poll::Ready(Err(failure)) if given => {
                    self.failure = Some(failure);
                    emptied = true;
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending if given => emptied = true,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// As [`AsyncWrite::poll_shutdown`].
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seal_end();
        ready!(self.poll_send(cx))?;
        match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Gives out what was opened.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let mut reader = self.tls.reader();
        while self.opened > 0
            && buf.remaining() > 0
            && let Ok(opened) = reader.fill_buf()
        {
            let length = opened.len().min(buf.remaining());
            buf.put_slice(&opened[..length]);
            reader.consume(length);
            self.opened -= length;
        }
    }

    /// Reads the socket once, and opens what came.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Filled>> {
        let mut source = Source { io: &mut self.io, cx, emptied: false };
        let bytes = ready!(poll_io(self.tls.read_tls(&mut source)))?;
        let emptied = source.emptied;
        let at_rest = !self.tls.is_handshaking() && !self.tls.wants_write();
        match self.tls.process_new_packets() {
            Ok(state) => {
                self.opened = state.plaintext_bytes_to_read();
                if at_rest && self.tls.wants_write() {
                    // TLS has an answer of its own, as to a renegotiation (RFC 5246 section 7.2.2), and
                    // the client may wait for it. If it cannot go at once it goes with what follows.
                    let _ = self.poll_send(cx);
                }
                Poll::Ready(Ok(Filled { bytes, emptied }))
            }
            Err(error) => {
                // The client is told what was wrong, if it takes that.
                let _ = self.poll_send(cx);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)))
            }
        }
    }
}

/// Tells a client why there will be no session, and gives the error of that.
async fn refuse(io: &mut RawStream, error: rustls::Error, mut alert: AcceptedAlert) -> io::Error {
    let mut tell = |cx: &mut Context<'_>| poll_io(alert.write(&mut Sink { io: &mut *io, cx }));
    while matches!(poll_fn(&mut tell).await, Ok(1..)) {}
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn poll_io(result: io::Result<usize>) -> Poll<io::Result<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// A socket as the TLS library reads it.
struct Source<'a, 'b> {
    io: &'a mut RawStream,
    cx: &'a mut Context<'b>,
    /// It gave less than it was asked for.
    emptied: bool,
}

impl Read for Source<'_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(room);
        match Pin::new(&mut *self.io).poll_read(self.cx, &mut buf)? {
            Poll::Ready(()) => {
                self.emptied = buf.remaining() > 0;
                Ok(buf.filled().len())
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// A socket as the TLS library writes it.
struct Sink<'a, 'b> {
    io: &'a mut RawStream,
    cx: &'a mut Context<'b>,
}

impl Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.io).poll_write_vectored(self.cx, slices)? {
            Poll::Ready(written) => Ok(written),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Sockets have nothing of their own to flush.
        Ok(())
    }
}
