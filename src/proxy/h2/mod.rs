//! HTTP/2 towards clients: what hyper leaves open about a connection's cost, and about a request's
//! form.
//!
//! hyper and h2 keep the protocol; they do not keep accounts. Nearly every frame makes us work, and
//! some make us work for nothing. So the IO wrapper shows the bytes of both directions to a
//! [`Meter`], which reads the frames' heads (and, where it says more, the first bytes of a payload)
//! and pays for each frame that is no request out of a budget. Time refills a budget,
//! and so does useful work: who gets answers may also reset streams, update windows and ping. What
//! we send is read too, since only there it shows which streams were answered, and which ones h2
//! had to reset for the client's mistakes.
//!
//! The budgets follow one rule: an ordinary client at full speed stays at half of them at most,
//! and an attack is over within some hundreds of frames.

mod budget;
mod fields;
pub mod io;
mod outbox;
pub mod request;
mod serve;
pub mod stream;
#[cfg(test)]
mod tests;

use tokio::time::Instant;

use self::budget::{Bucket, Budget};
use self::fields::{Fault, Fields};
pub use self::serve::serve;
use crate::framing::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING,
    PRIORITY, Piece, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::state::H2Abuse;

/// Bytes of the client's preface (RFC 9113 section 3.4).
const PREFACE_BYTES: u32 = 24;
/// Error codes (RFC 9113 section 7).
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;
/// The shortest message of gRPC, below which no DATA of ours is worth a new window.
const SMALLEST_DATA: u32 = 5;
/// The largest frame that we take (RFC 9113 section 4.2).
const FRAME_BYTES: u32 = 16 * 1024;

/// What the configuration says about it.
#[derive(Clone, Copy, Debug)]
pub struct MeterLimits {
    /// Concurrent streams.
    pub streams: u32,
    /// Size of a request head, in bytes.
    pub max_header_bytes: u32,
}

/// Keeps the accounts of one connection.
#[derive(Debug)]
pub struct Meter {
    limits: MeterLimits,
    incoming: Frames,
    outgoing: Frames,
    buckets: [Bucket; H2Abuse::ALL.len()],
    /// A header block that goes on in further frames.
    block: Option<Block>,
    fields: Fields,
    /// The last stream that the client opened.
    last_stream: u32,
    /// Why h2 has ended the connection, if it has.
    ended: Option<H2Abuse>,
    /// The client has sent its settings.
    greeted: bool,
    /// What the client is told when we end the connection: an error code.
    code: u32,
    /// Streams have been reset, by the client or for its mistakes.
    resets: bool,
    /// Those that were reset for its mistakes, until they are taken.
    mistakes: u32,
}

#[derive(Debug, Default)]
struct Block {
    bytes: u32,
    frames: u32,
}

/// What a kind may cost. Per connection, of which an ordinary client has few.
fn budget(kind: H2Abuse, streams: u32) -> Budget {
    let streams = streams as f32;
    let (burst, per_second) = match kind {
        // A browser that leaves a page resets all its streams at once; then it does so again.
        // Refilled by answers: whoever hedges resets one stream for each answer.
        H2Abuse::RapidReset => (f32::max(200.0, 2.0 * streams), 30.0),
        // Software that is merely wrong shows a few of them. A front proxy carries those of all
        // its users.
        H2Abuse::MadeYouReset => (100.0, 5.0),
        // One or two at the start, and one each time a client widens its windows (twice as wide
        // each time).
        H2Abuse::Settings => (100.0, 1.0),
        // Refilled by what we send: some gRPC libraries ping once in every round trip of a
        // transfer, to measure it.
        H2Abuse::Ping => (100.0, 10.0),
        // Old browsers describe a tree at the start, and change it when a tab comes to the front.
        H2Abuse::Priority => (500.0, 50.0),
        // No client is known to send any regularly. h2 takes 100 in all.
        H2Abuse::EmptyData => (50.0, 1.0),
        H2Abuse::EmptyHeaders => (20.0, 1.0),
        // Refilled by what we send: two for each frame of data (stream and connection), and two
        // for each 2 KiB, since libraries that update windows with every read do so from 4 KiB on.
        H2Abuse::WindowUpdate => (1000.0, 100.0),
        // What is open at once, and as much again in streams that are refused or reset: those have
        // budgets of their own, which run out first.
        H2Abuse::StreamChurn => (200.0 + 2.0 * streams, 60.0),
        // New frames of the future, and those that some browsers send to keep them possible.
        H2Abuse::UnknownFrames => (500.0, 50.0),
        // Not a matter of a budget.
        H2Abuse::Continuation | H2Abuse::HeaderList | H2Abuse::ZeroWindow | H2Abuse::Protocol => {
            (0.0, 0.0)
        }
    };
    Budget { burst, per_second }
}

/// Whether SETTINGS, as far as they are looked at, ask for a window that cannot be (RFC 9113 section
/// 6.5.2).
fn has_huge_window(settings: &[u8]) -> bool {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    settings.chunks_exact(6).any(|entry| entry[..2] == INITIAL_WINDOW_SIZE && entry[2] >= 0x80)
}

impl Meter {
    /// A meter for a connection of which nothing was read.
    pub fn new(limits: MeterLimits, now: Instant) -> Meter {
        Meter {
            limits,
            incoming: Frames::after(PREFACE_BYTES),
            outgoing: Frames::after(0),
            buckets: H2Abuse::ALL.map(|kind| Bucket::full(budget(kind, limits.streams), now)),
            block: None,
            fields: Fields::new(),
            last_stream: 0,
            ended: None,
            greeted: false,
            code: ENHANCE_YOUR_CALM,
            resets: false,
            mistakes: 0,
        }
    }

    /// Looks at bytes that the client sent. The time is asked for when a budget runs low, and not
    /// before.
    ///
    /// # Errors
    /// If a budget is over: the connection is to be closed.
    pub fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), H2Abuse> {
        let mut incoming = std::mem::replace(&mut self.incoming, Frames::after(0));
        let result = incoming.feed(bytes, |piece| match piece {
            Piece::Frame(frame) => self.receive(&frame, &now),
            Piece::Payload(bytes) => self.fields.payload(bytes).map_err(|fault| self.fault(fault)),
        });
        self.incoming = incoming;
        result
    }

    /// Looks at bytes that we sent.
    ///
    /// # Errors
    /// If a budget is over: the connection is to be closed.
    pub fn sent(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), H2Abuse> {
        let mut outgoing = std::mem::replace(&mut self.outgoing, Frames::after(0));
        let result = outgoing.feed(bytes, |piece| match piece {
            Piece::Frame(frame) => self.send(&frame, &now),
            Piece::Payload(_) => Ok(()),
        });
        self.outgoing = outgoing;
        result
    }

    /// Whether a header block has begun and not ended.
    pub fn within_fields(&self) -> bool {
        self.block.is_some() || self.incoming.within_fields()
    }

    /// Why h2 itself has ended the connection with an error, if it has.
    pub fn ended(&self) -> Option<H2Abuse> {
        self.ended
    }

    /// Whether streams have been reset, by the client or for its mistakes. Mostly whoever does it once
    /// does it again.
    pub fn has_resets(&self) -> bool {
        self.resets
    }

    /// How many streams were reset for the client's mistakes since this was last asked.
    pub fn take_mistakes(&mut self) -> u32 {
        std::mem::take(&mut self.mistakes)
    }

    /// A GOAWAY that tells the client why, if it can stand after what was sent so far.
    pub fn farewell(&self) -> Option<[u8; 17]> {
        let [a, b, c, d] = self.last_stream.to_be_bytes();
        let code = self.code as u8;
        self.outgoing
            .at_boundary()
            .then_some([0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, code])
    }

    fn receive(&mut self, frame: &Frame<'_>, now: &impl Fn() -> Instant) -> Result<(), H2Abuse> {
        self.check_form(frame)?;
        self.check_fields(frame)?;
        match frame.kind {
            DATA if frame.has(END_STREAM) || !frame.is_empty() => Ok(()),
            DATA => self.take(H2Abuse::EmptyData, 1.0, now),
            HEADERS => self.receive_headers(frame, now),
            CONTINUATION => self.receive_continuation(frame),
            RST_STREAM => {
                self.resets = true;
                self.take(H2Abuse::RapidReset, 1.0, now)
            }
            // Each setting counts too, ten for a frame.
            SETTINGS => self.take(H2Abuse::Settings, 1.0 + frame.length as f32 / 60.0, now),
            PING => self.take(H2Abuse::Ping, 1.0, now),
            PRIORITY => self.take(H2Abuse::Priority, 1.0, now),
            WINDOW_UPDATE => self.take(H2Abuse::WindowUpdate, 1.0, now),
            _ => self.take(H2Abuse::UnknownFrames, 1.0, now),
        }
    }

    /// What h2 takes although it is an error of the connection, or refuses with another code than
    /// RFC 9113 wants.
    fn check_form(&mut self, frame: &Frame<'_>) -> Result<(), H2Abuse> {
        let acknowledges = frame.has(ACK);
        let code = match (frame.kind, frame.length) {
            // Section 3.4.
            (kind, _) if !self.greeted && (kind != SETTINGS || acknowledges) => PROTOCOL_ERROR,
            // Sections 6.3 to 6.9.
            (SETTINGS, length) if length % 6 != 0 || (acknowledges && length > 0) => {
                FRAME_SIZE_ERROR
            }
            (SETTINGS, _) if has_huge_window(frame.start) => FLOW_CONTROL_ERROR,
            (PING, length) if length != 8 => FRAME_SIZE_ERROR,
            (PRIORITY, length) if length != 5 => FRAME_SIZE_ERROR,
            (RST_STREAM | WINDOW_UPDATE, length) if length != 4 => FRAME_SIZE_ERROR,
            _ => {
                self.greeted = true;
                return Ok(());
            }
        };
        self.code = code;
        Err(H2Abuse::Protocol)
    }

    /// What h2 would pass over, or tell by another code than RFC 9113 wants. Trailers without
    /// END_STREAM it refuses by itself.
    fn check_fields(&mut self, frame: &Frame<'_>) -> Result<(), H2Abuse> {
        let trailers = frame.stream <= self.last_stream && frame.has(END_STREAM);
        self.fields.frame(frame, trailers).map_err(|fault| self.fault(fault))
    }

    fn fault(&mut self, fault: Fault) -> H2Abuse {
        self.code = match fault {
            Fault::Compression => COMPRESSION_ERROR,
            Fault::PseudoTrailer => PROTOCOL_ERROR,
        };
        H2Abuse::Protocol
    }

    fn receive_headers(
        &mut self,
        frame: &Frame<'_>,
        now: &impl Fn() -> Instant,
    ) -> Result<(), H2Abuse> {
        if frame.is_empty() && !frame.has(END_STREAM) {
            self.take(H2Abuse::EmptyHeaders, 1.0, now)?;
        }
        if !frame.has(END_HEADERS) {
            self.block = Some(Block { bytes: frame.length, frames: 0 });
        }
        if frame.stream > self.last_stream {
            self.last_stream = frame.stream;
            self.take(H2Abuse::StreamChurn, 1.0, now)?;
        }
        Ok(())
    }

    /// A block may have as many frames as h2 takes, a quarter more than full ones would be, and as
    /// many bytes as a head: compressed fields are never larger than the plain ones are counted,
    /// with 32 bytes for each (RFC 9113 section 6.5.2).
    fn receive_continuation(&mut self, frame: &Frame<'_>) -> Result<(), H2Abuse> {
        // One without a beginning is for h2 to refuse.
        let Some(block) = &mut self.block else { return Ok(()) };
        block.bytes = block.bytes.saturating_add(frame.length);
        if frame.has(END_HEADERS) {
            let bytes = block.bytes;
            self.block = None;
            return self.within_block(bytes, 0);
        }
        block.frames += 1;
        let (bytes, frames) = (block.bytes, block.frames);
        self.within_block(bytes, frames)
    }

    fn within_block(&self, bytes: u32, frames: u32) -> Result<(), H2Abuse> {
        let full = (self.limits.max_header_bytes / FRAME_BYTES).max(1);
        let most = (full + full / 4).max(5);
        // h2 answers a head that is a little too large with 431.
        let room = self.limits.max_header_bytes.saturating_mul(2);
        if frames > most || bytes > room { Err(H2Abuse::Continuation) } else { Ok(()) }
    }

    fn send(&mut self, frame: &Frame<'_>, now: &impl Fn() -> Instant) -> Result<(), H2Abuse> {
        match frame.kind {
            DATA => {
                self.give(H2Abuse::Ping, 1.0);
                if frame.length >= SMALLEST_DATA {
                    self.give(H2Abuse::WindowUpdate, 2.0 + frame.length as f32 / 1024.0);
                }
            }
            HEADERS => {
                self.give(H2Abuse::RapidReset, 1.0);
                self.give(H2Abuse::MadeYouReset, 0.1);
                self.give(H2Abuse::Ping, 1.0);
                self.give(H2Abuse::WindowUpdate, 2.0);
                self.give(H2Abuse::Priority, 4.0);
                self.give(H2Abuse::UnknownFrames, 4.0);
            }
            RST_STREAM => return self.send_reset(frame, now),
            GOAWAY
                if matches!(
                    frame.number_at(4),
                    Some(
                        PROTOCOL_ERROR
                            | FLOW_CONTROL_ERROR
                            | STREAM_CLOSED
                            | FRAME_SIZE_ERROR
                            | COMPRESSION_ERROR
                    )
                ) =>
            {
                self.ended = Some(H2Abuse::Protocol);
            }
            GOAWAY if frame.number_at(4) == Some(ENHANCE_YOUR_CALM) => {
                // h2 tells the reason to nobody but the client. Its other limits are wider than
                // ours, but for the one on data in small pieces.
                let fields = frame.start.get(8..).is_some_and(|why| why.starts_with(b"header_"));
                let kind = if fields { H2Abuse::HeaderList } else { H2Abuse::EmptyData };
                self.ended = Some(kind);
            }
            _ => {}
        }
        if matches!(frame.kind, DATA | HEADERS) && frame.has(END_STREAM) {
            self.give(H2Abuse::StreamChurn, 1.0);
        }
        Ok(())
    }

    fn send_reset(&mut self, frame: &Frame<'_>, now: &impl Fn() -> Instant) -> Result<(), H2Abuse> {
        match frame.number_at(0) {
            Some(
                PROTOCOL_ERROR | FLOW_CONTROL_ERROR | STREAM_CLOSED | FRAME_SIZE_ERROR
                | ENHANCE_YOUR_CALM,
            ) => {
                self.resets = true;
                self.mistakes += 1;
                self.take(H2Abuse::MadeYouReset, 1.0, now)
            }
            // After an answer; or a stream too many, which was not answered.
            Some(NO_ERROR | REFUSED_STREAM) => Ok(()),
            // A backend's fault, or ours.
            _ => {
                self.give(H2Abuse::StreamChurn, 1.0);
                Ok(())
            }
        }
    }

    fn take(
        &mut self,
        kind: H2Abuse,
        cost: f32,
        now: &impl Fn() -> Instant,
    ) -> Result<(), H2Abuse> {
        let budget = budget(kind, self.limits.streams);
        let paid = self.buckets[kind.index()].take(budget, cost, now);
        if paid { Ok(()) } else { Err(kind) }
    }

    fn give(&mut self, kind: H2Abuse, tokens: f32) {
        self.buckets[kind.index()].give(budget(kind, self.limits.streams), tokens);
    }
}
