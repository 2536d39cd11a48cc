//! TLS towards a client, in records that grow with the flow.
//!
//! A client can read nothing of a record before all of it has come. The largest records (16 KiB)
//! are the cheapest, but one of them is more than a network takes at once from a connection that
//! has been idle, and so the first byte of an answer would wait for another round trip. So what
//! follows upon something that the client said, or upon a pause, begins with short records. They are
//! sealed one by one and written together: a short answer is one record as ever, and a long one
//! costs the sealing of three more.
//!
//! The TLS library takes what is to be sealed by copying it. It is handed over in pieces that a
//! processor copies well: the C library copies long ones with one instruction (`rep movsb`), which
//! on some processors runs at a third of the speed when the places are not aligned alike, and here
//! they never are.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::session::Session;

/// A short record: three packets.
const SHORT_BYTES: usize = 4 * 1024;
/// What is left over joins the record before up to this length: bodies come in powers of two, after a
/// head, and few bytes would make a record that costs as much as any.
const REST_BYTES: usize = 1024;
/// So much goes out in short records: what networks take at once (RFC 6928), and a little.
const BEGINNING_BYTES: usize = 16 * 1024;
/// After so long without a long write networks take no more at once than in the beginning (RFC 2861).
const PAUSE: Duration = Duration::from_secs(1);

/// A secured connection.
#[derive(Debug)]
pub struct Secured {
    session: Session,
    /// What is still to go out in short records.
    short_left: usize,
    /// Streams share it.
    is_shared: bool,
    /// When something long was last sealed.
    flowed: Option<Instant>,
    clock: fn() -> Instant,
    /// What may wait, sealed.
    limit: usize,
    /// The end follows at once upon what is written.
    ending: bool,
    /// The end has been said with what was the last.
    said: bool,
}

/// What is copied at once.
const PIECE_BYTES: usize = 2 * 1024;
/// What is sealed at once: the TLS library takes no more as long as it is not written.
const MOST_BYTES: usize = 64 * 1024;

/// What TLS takes up beside.
const STATE_BYTES: usize = 16 * 1024;

type Slices<'a> = SmallVec<[IoSlice<'a>; MOST_BYTES / PIECE_BYTES + 4]>;

impl Secured {
    /// A connection whose handshake is done.
    pub fn new(session: Session) -> Self {
        Secured {
            session,
            short_left: BEGINNING_BYTES,
            is_shared: false,
            flowed: None,
            clock: Instant::now,
            limit: 0,
            ending: false,
            said: false,
        }
    }

    /// Streams share it from now on: what the client says is no sign that something new begins.
    pub fn share(&mut self) {
        self.is_shared = true;
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, to be read, or written past the records' lengths.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// No more than this may wait, sealed, in bytes.
    pub fn hold_to(&mut self, most: usize) {
        if self.limit != most {
            self.limit = most;
            self.session.limit(most);
        }
    }

    /// What waits, sealed, and what there is beside it, at most, in bytes.
    pub fn sealed(&self) -> usize {
        if self.session.has_sealed() { self.limit + STATE_BYTES } else { 0 }
    }

    /// What is written next is the last, and the end of the connection follows at once.
    pub fn end_with_this(&mut self) {
        self.ending = true;
        self.session.raw_mut().end_with_this();
    }

    /// The end that was announced follows now.
    pub fn end(&self) {
        self.session.raw().end();
    }

    /// Whether the end has gone out with what was the last.
    pub fn has_said_goodbye(&self) -> bool {
        self.said
    }

    /// Seals as much as may wait, and says how much that is: what goes out when flushed, of streams
    /// that share the connection.
    ///
    /// # Errors
    /// What ended the session before.
    pub fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if length <= SHORT_BYTES + REST_BYTES {
            return self.session.seal(slices);
        }
        let now = self.look_for_pause();
        let short = self.seal_short(slices, length)?;
        let long = self.session.seal(&part(slices, short, MOST_BYTES))?;
        self.short_left = self.short_left.saturating_sub(long);
        if short + long > 0 {
            self.flowed = Some(now);
        }
        Ok(short + long)
    }

    /// Short records come after a pause. Gives the time.
    fn look_for_pause(&mut self) -> Instant {
        let now = (self.clock)();
        if self.flowed.is_none_or(|before| now - before >= PAUSE) {
            self.short_left = BEGINNING_BYTES;
        }
        now
    }

    /// Seals what goes out in short records, and says how much that is.
    fn seal_short(&mut self, slices: &[IoSlice<'_>], length: usize) -> io::Result<usize> {
        let mut sealed = 0;
        while self.short_left > 0 && length - sealed > SHORT_BYTES + REST_BYTES {
            let taken = self.session.seal(&part(slices, sealed, SHORT_BYTES))?;
            if taken == 0 {
                break;
            }
            sealed += taken;
            self.short_left = self.short_left.saturating_sub(taken);
        }
        Ok(sealed)
    }

    /// Writes what is the last, in one record, and the end of TLS with it.
    fn poll_write_last(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let taken = self.session.seal(slices)?;
        if taken < length {
            // Too much waits already.
            return self.poll_write_rest(cx, slices, taken);
        }
        self.session.seal_end();
        self.said = true;
        match self.session.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is sealed goes out when flushed.
            _ => Poll::Ready(Ok(length)),
        }
    }

    /// Writes what is longer than a piece.
    fn poll_write_long(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        length: usize,
    ) -> Poll<io::Result<usize>> {
        if length <= SHORT_BYTES + REST_BYTES {
            return self.poll_write_rest(cx, slices, 0);
        }
        let now = self.look_for_pause();
        let sealed = self.seal_short(slices, length)?;
        let written = self.poll_write_rest(cx, slices, sealed);
        if let Poll::Ready(Ok(1..)) = written {
            self.flowed = Some(now);
        }
        written
    }

    /// Writes what is behind so many bytes that are sealed already, and counts those as written.
    fn poll_write_rest(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        sealed: usize,
    ) -> Poll<io::Result<usize>> {
        let rest = part(slices, sealed, MOST_BYTES);
        match self.session.poll_write(cx, &rest) {
            Poll::Ready(Ok(written)) => {
                self.short_left = self.short_left.saturating_sub(written);
                Poll::Ready(Ok(sealed + written))
            }
            // What is sealed goes out with the next write, or when flushed.
            Poll::Pending if sealed > 0 => Poll::Ready(Ok(sealed)),
            other => other,
        }
    }
}

/// At most `limit` bytes of what is behind the first `skip`, in pieces.
fn part<'a>(slices: &'a [IoSlice<'_>], mut skip: usize, mut limit: usize) -> Slices<'a> {
    let mut part = Slices::new();
    for slice in slices {
        let skipped = skip.min(slice.len());
        skip -= skipped;
        let taken = limit.min(slice.len() - skipped);
        limit -= taken;
        let taken = &slice[skipped..skipped + taken];
        for piece in taken.chunks(PIECE_BYTES) {
            part.push(IoSlice::new(piece));
        }
    }
    part
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = this.session.poll_read(cx, buf);
        if read.is_ready() && !this.is_shared {
            this.short_left = BEGINNING_BYTES;
        }
        read
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        if this.ending && length <= PIECE_BYTES {
            return this.poll_write_last(cx, slices, length);
        }
        if length > PIECE_BYTES {
            return this.poll_write_long(cx, slices, length);
        }
        this.short_left = this.short_left.saturating_sub(length);
        this.session.poll_write(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().session.poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().session.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use rustls::version::TLS12;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio_rustls::client::TlsStream;

    use super::super::settled;
    use super::*;

    #[test]
    fn parts_go_over_the_borders_of_slices() {
        let slices = [b"abc", b"def", b"ghi"].map(|slice| IoSlice::new(slice));
        let text = |skip, limit| {
            let part = part(&slices, skip, limit);
            part.iter().map(|slice| String::from_utf8_lossy(slice)).collect::<Vec<_>>().join("|")
        };
        assert_eq!(text(0, 4), "abc|d");
        assert_eq!(text(2, 5), "c|def|g");
        assert_eq!(text(3, 3), "def");
        assert_eq!(text(8, 100), "i");
        assert_eq!(text(9, 1), "");
    }

    #[test]
    fn parts_come_in_pieces() {
        let (long, short) = (vec![0; 2 * PIECE_BYTES + 1], [0; 3]);
        let slices = [IoSlice::new(&long), IoSlice::new(&short)];
        let pieces = |skip, limit| -> Vec<usize> {
            part(&slices, skip, limit).iter().map(|piece| piece.len()).collect()
        };
        assert_eq!(pieces(0, usize::MAX), [PIECE_BYTES, PIECE_BYTES, 1, 3]);
        assert_eq!(pieces(1, PIECE_BYTES + 5), [PIECE_BYTES, 5]);
    }

    thread_local! {
        static NOW: Cell<Instant> = Cell::new(Instant::now());
    }

    /// Seals this much at once behind something that the client says, and tells how long the records are.
    async fn sealed(
        secured: &mut Secured,
        client: &mut TlsStream<TcpStream>,
        length: usize,
    ) -> Vec<usize> {
        client.write_all(b"?").await.unwrap();
        secured.read_exact(&mut [0]).await.unwrap();
        let text = vec![0; length];
        assert_eq!(secured.seal(&[IoSlice::new(&text)]).unwrap(), length);
        poll_fn(|cx| secured.session_mut().poll_send(cx)).await.unwrap();
        records(client, length).await
    }

    /// How long the records are that this much comes in.
    async fn records(client: &mut TlsStream<TcpStream>, length: usize) -> Vec<usize> {
        let (tcp, mut records, mut left) = (client.get_mut().0, Vec::new(), length);
        while left > 0 {
            let mut head = [0; 5];
            tcp.read_exact(&mut head).await.unwrap();
            let sealed = usize::from(u16::from_be_bytes([head[3], head[4]]));
            tcp.read_exact(&mut vec![0; sealed]).await.unwrap();
            // RFC 5288: the nonce before and the tag behind it.
            records.push(sealed - 24);
            left -= sealed - 24;
        }
        records
    }

    #[tokio::test]
    async fn records_of_streams_that_share_a_connection_begin_short_after_a_pause() {
        let (mut client, session) = settled(&TLS12).await;
        let mut secured = Secured::new(session);
        secured.share();
        secured.clock = || NOW.get();
        let later = |by| NOW.set(NOW.get() + by);
        let mut sealed = async |length| sealed(&mut secured, &mut client, length).await;
        // What is short is no sign that a network could take much.
        for _ in 0..20 {
            assert_eq!(sealed(1000).await, [1000]);
        }
        let grown = [SHORT_BYTES, SHORT_BYTES, SHORT_BYTES, SHORT_BYTES, 16 * 1024];
        assert_eq!(sealed(32 * 1024).await, grown);
        for _ in 0..2 {
            later(PAUSE / 2);
            assert_eq!(sealed(16 * 1024).await, [16 * 1024]);
        }
        later(PAUSE / 2);
        assert_eq!(sealed(100).await, [100]);
        later(PAUSE / 2);
        assert_eq!(sealed(32 * 1024).await, grown);
    }

    #[tokio::test]
    async fn records_of_one_answer_begin_short_after_a_pause() {
        let (mut client, session) = settled(&TLS12).await;
        let mut secured = Secured::new(session);
        secured.clock = || NOW.get();
        let mut written = async |length| {
            secured.write_all(&vec![0; length]).await.unwrap();
            secured.flush().await.unwrap();
            records(&mut client, length).await
        };
        let grown = [SHORT_BYTES, SHORT_BYTES, SHORT_BYTES, SHORT_BYTES, 16 * 1024];
        assert_eq!(written(32 * 1024).await, grown);
        NOW.set(NOW.get() + PAUSE / 2);
        assert_eq!(written(32 * 1024).await, [16 * 1024; 2]);
        NOW.set(NOW.get() + PAUSE);
        assert_eq!(written(32 * 1024).await, grown);
    }
}
