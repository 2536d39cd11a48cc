//! A scanner over the raw bytes that a client sends on an HTTP/1.1 connection.
//!
//! It refuses what must not be forgiven in front of other parsers: a Content-Length beside a
//! Transfer-Encoding, equal duplicates, a bare LF as a line end. And it is the parser too, so that
//! nobody reads a head a second time and in another way: the [`Scanner`] says of each stretch of
//! bytes what it is (head, body by length or by chunks, trailers), and of a head where its parts
//! stand. It knows at every byte what it looks at, also when requests are pipelined and however
//! reads split them.
//!
//! The answer does not hang on how the bytes were split, and a request that arrives in one read
//! costs no copy: see `crate::framing`.

mod head;
mod request_line;
#[cfg(test)]
mod tests;

use self::head::Body;
pub(crate) use self::head::{Head, is_upgradable};
pub(crate) use self::request_line::check_path;
use crate::framing::chunked::{Chunked, Outcome};
use crate::framing::line::Lines;
use crate::framing::section::Section;
use crate::framing::{Limits, Span, Violation, field};

/// Empty lines that may stand before a request line: some old clients send one after a POST
/// (RFC 9112 section 2.2).
const MAX_EMPTY_LINES: u8 = 2;

/// What a client's connection is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between requests; nothing of the next head was seen.
    Idle,
    /// In a head.
    Head,
    /// In a body or its trailers.
    Body,
    /// After a request that asks for an upgrade: what follows is either the other protocol or the
    /// next request, which only the answer decides.
    Upgrade,
    /// After a violation.
    Refused,
}

/// What a stretch of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// An empty line in front of a request.
    EmptyLine,
    /// Of a head that goes on.
    Head,
    /// The last of a head.
    HeadEnd,
    /// Of a body.
    Data,
    /// Chunk sizes and the like.
    Framing,
    /// Of trailers, up to the empty line behind them.
    Trailers,
    /// Of a request or of another protocol: the answer decides, see [`Scanner::resume`].
    Undecided,
}

/// Follows one client connection. Small when idle.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// The latest head, or trailers.
    section: Section,
    /// What the latest head says.
    head: Head,
    scratch: Option<Box<Scratch>>,
}

#[derive(Debug)]
enum State {
    Start { empty_lines: u8 },
    Head,
    Length(u64),
    Chunked(Chunked),
    Trailers,
    Upgrade,
    Refused(Violation),
}

/// What outlives a read in the middle of a head; most heads need none of it.
#[derive(Debug, Default)]
struct Scratch {
    /// A line without its end.
    partial: Vec<u8>,
    /// The authority of a target in absolute form, and the default port of its scheme.
    authority: Option<(Box<[u8]>, u16)>,
}

impl Scanner {
    /// A scanner for a fresh connection.
    pub fn new(limits: Limits) -> Scanner {
        Scanner {
            state: State::Start { empty_lines: 0 },
            section: Section::new(limits),
            head: Head::default(),
            scratch: None,
        }
    }

    /// Looks at the next bytes from the client, at least one, as far as they are of one kind. Gives
    /// how many are in order, and their kind, or what stands behind them that is not to be passed
    /// on. Nothing more is accepted from then on.
    pub fn next(&mut self, bytes: &[u8]) -> (usize, Result<Part, Violation>) {
        let (passed, part) = self.step(bytes);
        if let Err(violation) = part {
            self.state = State::Refused(violation);
            self.scratch = None;
        }
        (passed, part)
    }

    /// What the connection is in the middle of.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Start { .. } if self.partial().is_empty() => Phase::Idle,
            State::Start { .. } | State::Head => Phase::Head,
            State::Length(_) | State::Chunked(_) | State::Trailers => Phase::Body,
            State::Upgrade => Phase::Upgrade,
            State::Refused(_) => Phase::Refused,
        }
    }

    /// What was not to be passed on.
    pub fn violation(&self) -> Option<Violation> {
        match self.state {
            State::Refused(violation) => Some(violation),
            _ => None,
        }
    }

    /// The latest head, once it has ended.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The length of the body that comes now, if it was announced, in bytes.
    pub fn body_length(&self) -> Option<u64> {
        match self.state {
            State::Length(remaining) => Some(remaining),
            State::Chunked(_) | State::Trailers => None,
            _ => Some(0),
        }
    }

    /// Whether what comes next is no data, but says where data begins or that there is no more.
    pub fn expects_framing(&self) -> bool {
        match &self.state {
            State::Chunked(chunked) => !chunked.is_in_data(),
            State::Trailers => true,
            _ => false,
        }
    }

    /// Where the fields stand of the head, or of the trailers, that were read last.
    pub fn spans(&self) -> &[Span] {
        self.section.spans()
    }

    /// Gives back what a connection can do without between requests. In the middle of one that is
    /// nothing.
    pub fn release(&mut self) {
        if matches!(self.state, State::Start { .. }) {
            self.section.release();
        }
    }

    /// The upgrade that a request asked for was not made: requests go on. Does nothing in any
    /// phase but [`Phase::Upgrade`].
    pub fn resume(&mut self) {
        if matches!(self.state, State::Upgrade) {
            self.state = State::Start { empty_lines: 0 };
        }
    }

    /// Takes in what belongs to the current state. Gives the bytes passed and what they are.
    fn step(&mut self, bytes: &[u8]) -> (usize, Result<Part, Violation>) {
        match &mut self.state {
            State::Start { .. } | State::Head => self.lines(bytes, &Part::Head, Self::head_part),
            State::Trailers => match self.line(bytes) {
                Ok(passed) => (passed, Ok(Part::Trailers)),
                Err(violation) => (0, Err(violation)),
            },
            State::Length(remaining) => {
                let passed = (*remaining).min(bytes.len() as u64);
                *remaining -= passed;
                if *remaining == 0 {
                    self.end_message();
                }
                (passed as usize, Ok(Part::Data))
            }
            State::Chunked(chunked) => match chunked.next(bytes) {
                (passed, Outcome::Data) => (passed, Ok(Part::Data)),
                (passed, Outcome::Framing) => (passed, Ok(Part::Framing)),
                (passed, Outcome::LastChunk) => {
                    self.state = State::Trailers;
                    self.section.begin(0);
                    (passed, Ok(Part::Framing))
                }
                (passed, Outcome::Refused(violation)) => (passed, Err(violation)),
            },
            State::Upgrade => (0, Ok(Part::Undecided)),
            State::Refused(violation) => (0, Err(*violation)),
        }
    }

    /// What the line was that has been taken in, or is being taken in.
    fn head_part(&self) -> Part {
        match self.state {
            State::Start { .. } if self.head.is_complete() => Part::HeadEnd,
            State::Start { .. } if self.partial().is_empty() => Part::EmptyLine,
            State::Start { .. } | State::Head => Part::Head,
            _ => Part::HeadEnd,
        }
    }

    fn request_line(&mut self, bytes: &[u8], empty_lines: u8) -> Result<Option<usize>, Violation> {
        self.head = Head::default();
        match request_line::parse(bytes)? {
            request_line::Line::Partial => Ok(None),
            request_line::Line::Empty if empty_lines == MAX_EMPTY_LINES => {
                Err(Violation::EmptyLines)
            }
            request_line::Line::Empty => {
                self.state = State::Start { empty_lines: empty_lines + 1 };
                Ok(Some(2))
            }
            request_line::Line::Request(line) => {
                self.within_limit(line.len)?;
                self.head = Head::new(&line);
                self.state = State::Head;
                self.section.begin(line.len);
                if let Some((authority, port)) = line.authority {
                    let scratch = self.scratch.get_or_insert_default();
                    scratch.authority = Some((authority.into(), port));
                }
                Ok(Some(line.len))
            }
        }
    }

    fn field_lines(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let Scanner { state, section, head, scratch } = self;
        let taken = section.take_fields(bytes, |name, value| match state {
            State::Head => {
                let authority = scratch.as_ref().and_then(|scratch| scratch.authority());
                head.field(name, value, authority)
            }
            _ if field::may_be_trailer(name) => Ok(()),
            _ => Err(Violation::ForbiddenTrailer),
        })?;
        taken.map_or(Ok(None), |taken| taken.with_end(|| self.end_fields()))
    }

    fn within_limit(&self, line_bytes: usize) -> Result<(), Violation> {
        match self.state {
            State::Start { .. } if self.section.may_begin(line_bytes) => Ok(()),
            State::Start { .. } => Err(Violation::RequestLineTooLong),
            _ if self.section.may_grow(line_bytes) => Ok(()),
            _ => Err(Violation::HeadTooLarge),
        }
    }

    /// The empty line after fields was read.
    fn end_fields(&mut self) -> Result<(), Violation> {
        if !matches!(self.state, State::Head) {
            self.end_message();
            return Ok(());
        }
        match self.head.end()? {
            Body::None => self.end_message(),
            Body::Length(length) => self.state = State::Length(length),
            Body::Chunked => self.state = State::Chunked(Chunked::default()),
        }
        self.scratch = None;
        Ok(())
    }

    fn end_message(&mut self) {
        self.state = if self.head.wants_upgrade() {
            State::Upgrade
        } else {
            State::Start { empty_lines: 0 }
        };
        self.scratch = None;
    }
}

impl Scratch {
    fn authority(&self) -> Option<(&[u8], u16)> {
        let (authority, port) = self.authority.as_ref()?;
        Some((authority, *port))
    }
}

impl Lines for Scanner {
    fn judge(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        match &self.state {
            State::Start { empty_lines } => {
                let empty_lines = *empty_lines;
                self.request_line(bytes, empty_lines)
            }
            _ => self.field_lines(bytes),
        }
    }

    fn over_limit(&self, line_bytes: usize) -> Option<Violation> {
        self.within_limit(line_bytes).err()
    }

    fn partial(&self) -> &[u8] {
        self.scratch.as_ref().map_or(&[], |scratch| &scratch.partial)
    }

    fn partial_mut(&mut self) -> &mut Vec<u8> {
        &mut self.scratch.get_or_insert_default().partial
    }

    fn give_back(&mut self, buffer: Vec<u8>) {
        if matches!(self.state, State::Start { .. }) {
            // Nothing of a head is left to remember.
            self.scratch = None;
        } else if let Some(scratch) = &mut self.scratch {
            scratch.partial = buffer;
        }
    }
}
