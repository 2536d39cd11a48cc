//! The state of an HTTP/2 connection: its streams, its windows, and what waits to be written.
//!
//! Nothing in here touches a socket or waits. Bytes that came go in by [`receive`](Core::receive);
//! requests come out as `accepted`, frames in `out`. Whoever serves a stream puts its answer in, see
//! [`send`](super::send), and is woken by the wakers that it leaves.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::task::Waker;

use bytes::Bytes;
use http::Request;
use slab::Slab;
use tokio::time::Instant;

use super::budget::Budgets;
use super::ending::Drain;
use super::out::Out;
use super::streams::{Reset, Stream};
use super::windows::connection_window;
use crate::framing::frames::{CONTINUATION, FrameHead, HEADERS, SETTINGS};
use crate::framing::hpack::Decoder;
use crate::proxy::wakers::note;
use crate::state::H2Abuse;
use crate::upstream::Spare;

/// Error codes (RFC 9113 section 7).
pub(super) mod code {
    pub(in super::super) const NO_ERROR: u32 = 0;
    pub(in super::super) const PROTOCOL_ERROR: u32 = 1;
    pub(in super::super) const INTERNAL_ERROR: u32 = 2;
    pub(in super::super) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(in super::super) const STREAM_CLOSED: u32 = 5;
    pub(in super::super) const FRAME_SIZE_ERROR: u32 = 6;
    pub(in super::super) const REFUSED_STREAM: u32 = 7;
    pub(in super::super) const CANCEL: u32 = 8;
    pub(in super::super) const COMPRESSION_ERROR: u32 = 9;
    pub(in super::super) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// The window that streams of both sides, and connections, begin with (RFC 9113 section 6.9.2).
pub(super) const FIRST_WINDOW: u32 = 65_535;
/// The largest window (RFC 9113 section 6.9.1).
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;
/// The largest frame that we take, and send (RFC 9113 section 4.2).
pub(super) const FRAME_BYTES: usize = 16 * 1024;

/// What the configuration says about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Concurrent streams.
    pub(super) streams: u32,
    /// Size of a request head, in bytes.
    pub(super) max_header_bytes: u32,
    /// Fields of trailers. Those of a head are counted later.
    pub(super) max_headers: u16,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) kind: H2Abuse,
    /// What the client is told.
    pub(super) code: u32,
}

impl Broken {
    /// An error of the connection (RFC 9113 section 5.4.1).
    pub(super) fn error(code: u32) -> Broken {
        Broken { kind: H2Abuse::Protocol, code }
    }
}

impl From<H2Abuse> for Broken {
    fn from(kind: H2Abuse) -> Broken {
        Broken { kind, code: code::ENHANCE_YOUR_CALM }
    }
}

/// A header block that goes on in further frames.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) flags: u8,
    /// Its stream is said to depend on itself.
    pub(super) circular: bool,
    /// It opens its stream.
    pub(super) is_new: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: u32,
}

/// A request that came, and the stream that it came on.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) key: usize,
    pub(super) request: Request<()>,
    pub(super) form: Form,
}

/// What follows behind the head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing.
    None,
    /// A body.
    Body,
    /// Another protocol, by this name (RFC 8441).
    Socket(Bytes),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) limits: Limits,
    pub(super) budgets: Budgets,
    /// A frame, or the preface, that has not come in full.
    pub(super) partial: Vec<u8>,
    /// Content that has begun, with the length of what is still to come of it.
    pub(super) rest: Option<FrameHead>,
    pub(super) prefaced: bool,
    /// The client has sent its settings.
    pub(super) greeted: bool,
    pub(super) block: Option<Block>,
    /// A header block has come in full since this was last asked.
    pub(super) block_ended: bool,
    pub(super) decoder: Decoder,
    pub(super) receive_window: i64,
    pub(super) taken: u32,
    /// The streams that are open, by their numbers, and where they are kept.
    pub(super) open: Vec<(u32, usize)>,
    pub(super) streams: Slab<Stream>,
    pub(super) last_stream: u32,
    /// Where the client passed numbers over, most recently.
    pub(super) passed_over: Range<u32>,
    pub(super) resets: VecDeque<Reset>,
    /// Requests that nobody serves yet.
    pub(super) accepted: Vec<Accepted>,
    pub(super) out: Out,
    pub(super) send_window: i64,
    /// Bytes of content that were sent, of all streams.
    pub(super) sent: u64,
    /// The window that the client's new streams begin with.
    pub(super) first_send_window: i64,
    /// Streams that could send if there was room, in turn.
    pub(super) line: VecDeque<usize>,
    pub(super) told_table: bool,
    pub(super) drain: Drain,
    /// The last stream that the client was told of, by GOAWAY.
    pub(super) last_told: u32,
    /// The client is going away.
    pub(super) client_leaves: bool,
    /// Streams that were reset for the client's mistakes, until they are told.
    pub(super) mistakes: u32,
    /// Something came since this was last asked.
    pub(super) heard: bool,
    pub(super) asked_alive: bool,
    /// The connection's own task.
    pub(super) task: Option<Waker>,
    /// Empty maps for the fields that come.
    pub(super) spare: Rc<Spare>,
}

impl Core {
    /// A connection of which nothing was read. Our settings are the first to be written.
    pub(super) fn new(limits: Limits, spare: Rc<Spare>, clock: fn() -> Instant) -> Core {
        let mut core = Core {
            limits,
            budgets: Budgets::new(limits.streams, clock),
            partial: Vec::new(),
            rest: None,
            prefaced: false,
            greeted: false,
            block: None,
            block_ended: false,
            decoder: Decoder::new(),
            receive_window: connection_window(limits.streams),
            taken: 0,
            open: Vec::new(),
            streams: Slab::new(),
            last_stream: 0,
            passed_over: 0..0,
            resets: VecDeque::new(),
            accepted: Vec::new(),
            out: Out::default(),
            send_window: i64::from(FIRST_WINDOW),
            sent: 0,
            first_send_window: i64::from(FIRST_WINDOW),
            line: VecDeque::new(),
            told_table: false,
            drain: Drain::No,
            last_told: u32::MAX,
            client_leaves: false,
            mistakes: 0,
            heard: false,
            asked_alive: false,
            task: None,
            spare,
        };
        core.greet();
        core
    }

    /// RFC 9113 section 6.5.2 and RFC 8441 section 3.
    fn greet(&mut self) {
        const MAX_CONCURRENT_STREAMS: u16 = 3;
        const MAX_HEADER_LIST_SIZE: u16 = 6;
        const ENABLE_CONNECT_PROTOCOL: u16 = 8;
        let settings = [
            (MAX_CONCURRENT_STREAMS, self.limits.streams),
            (MAX_HEADER_LIST_SIZE, self.limits.max_header_bytes),
            (ENABLE_CONNECT_PROTOCOL, 1),
        ];
        let mut payload = Vec::with_capacity(6 * settings.len());
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.out.frame(SETTINGS, 0, 0, &payload);
        let more = self.receive_window - i64::from(FIRST_WINDOW);
        self.update_window(0, u32::try_from(more).unwrap_or_default());
    }

    /// Notes who is to be woken when something waits to be written.
    pub(super) fn note_task(&mut self, task: &Waker) {
        note(&mut self.task, task);
    }

    /// Wakes the connection's task. As long as it is awake, once is enough.
    pub(super) fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Whether nothing is under way, and nothing has begun to come.
    pub(super) fn is_at_rest(&self) -> bool {
        self.streams.is_empty()
            && self.block.is_none()
            && self.partial.is_empty()
            && self.rest.is_none()
            && self.out.is_empty()
    }

    /// Whether a header block has begun and not ended.
    pub(super) fn is_within_fields(&self) -> bool {
        let begun = || FrameHead::read(&self.partial);
        self.block.is_some()
            || (self.prefaced
                && begun().is_some_and(|head| matches!(head.kind, HEADERS | CONTINUATION)))
    }

    /// Since when the header block that is on its way has been coming, if there is one; `before` is the
    /// answer to the last such question. Each block has a time of its own.
    pub(super) fn head_since(
        &mut self,
        before: Option<Instant>,
        now: impl FnOnce() -> Instant,
    ) -> Option<Instant> {
        let ended = std::mem::take(&mut self.block_ended);
        self.is_within_fields().then(|| before.filter(|_| !ended).unwrap_or_else(now))
    }

    /// Gives memory back that is only there for requests.
    pub(super) fn park(&mut self) {
        self.out.release();
        self.decoder.release();
        self.partial.shrink_to_fit();
        self.open = Vec::new();
        self.accepted = Vec::new();
        self.line = VecDeque::new();
        self.resets = VecDeque::new();
        if self.streams.is_empty() {
            self.streams = Slab::new();
        }
    }

    /// How many streams were reset for the client's mistakes since this was last asked.
    pub(super) fn take_mistakes(&mut self) -> u32 {
        std::mem::take(&mut self.mistakes)
    }

    /// Whether the client has said that it speaks HTTP/2.
    pub(super) fn has_begun(&self) -> bool {
        self.prefaced
    }

    /// Whether there are streams.
    pub(super) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }
}
