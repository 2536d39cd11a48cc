//! A scanner over the raw bytes that a backend sends on an HTTP/1.1 connection.
//!
//! It forgives less than parsers do that serve one application: a Content-Length beside a
//! Transfer-Encoding, equal duplicates, a bare LF as a line end, codings that nobody asked for are
//! refused, since a client behind us may read them differently. The connection tells the [`Scanner`]
//! of each request as it is written. The scanner follows the answer (interim heads, head, body by
//! length, by chunks or to the end) and knows at every byte whether there is anything that it may
//! belong to.
//!
//! The answer does not hang on how the bytes were split, and a head that arrives in one read costs
//! no copy: see `crate::framing`.

mod status_line;
#[cfg(test)]
mod tests;

use crate::framing::bytes::trim;
use crate::framing::chunked::{Chunked, Outcome};
use crate::framing::known::is;
use crate::framing::length::Length;
use crate::framing::line::Lines;
use crate::framing::section::Section;
use crate::framing::{Limits, Span, Violation};

/// Interim answers that may come before the answer. Some backends send one every few seconds to say
/// that they are still at it.
pub(super) const MAX_INTERIM: u8 = 100;

/// What a request says about the form of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Plain,
    /// It is HEAD: the answer has no body, whatever its fields say.
    Head,
    /// It asks for another protocol: the answer may be 101.
    Upgrade,
}

/// What a stretch of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of a head that goes on.
    Head,
    /// The last of an interim head: another one follows.
    InterimEnd,
    /// The last of the head.
    HeadEnd,
    /// Of the body, or behind a switch of protocols.
    Data,
    /// Chunk sizes and the like.
    Framing,
    /// Of the trailers, up to the empty line behind them.
    Trailers,
}

/// Follows one connection. Small, and without heap but in the middle of a line.
#[derive(Clone, Debug)]
pub struct Scanner {
    state: State,
    asked: Asked,
    interim: u8,
    spent: bool,
    keeps_open: bool,
    /// The latest head, or trailers.
    section: Section,
    /// A line without its end.
    partial: Vec<u8>,
}

#[derive(Clone, Debug)]
enum State {
    /// Nothing was asked that has not been answered.
    Idle,
    Start,
    Head(Head),
    Length(u64),
    Chunked(Chunked),
    Trailers,
    /// A body that only the end of the connection ends.
    UntilClose,
    Tunnel,
    Refused(Violation),
}

#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    http10: bool,
    length: Length,
    /// Among the options of Connection.
    close: bool,
    keep_alive: bool,
}

impl Scanner {
    /// A scanner for a fresh connection.
    pub fn new(limits: Limits) -> Scanner {
        Scanner {
            state: State::Idle,
            asked: Asked::Plain,
            interim: 0,
            spent: false,
            keeps_open: true,
            section: Section::new(limits),
            partial: Vec::new(),
        }
    }

    /// A request begins to be written: what comes from now on may be its answer.
    pub fn ask(&mut self, asked: Asked) {
        if matches!(self.state, State::Idle) {
            self.state = State::Start;
            self.asked = asked;
            self.interim = 0;
        }
    }

    /// Looks at the next bytes from the backend, at least one, as far as they are of one kind.
    /// Gives how many are in order, and their kind, or what stands behind them that is not to be
    /// passed on. Nothing more is accepted from then on.
    pub fn next(&mut self, bytes: &[u8]) -> (usize, Result<Part, Violation>) {
        let (passed, part) = self.step(bytes);
        if let Err(violation) = part {
            self.state = State::Refused(violation);
            self.partial = Vec::new();
        }
        (passed, part)
    }

    /// Whether everything that was asked has been answered in full.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The length of the body that comes now, if it was announced, in bytes.
    pub fn body_length(&self) -> Option<u64> {
        match self.state {
            State::Idle => Some(0),
            State::Length(remaining) => Some(remaining),
            _ => None,
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

    /// Whether the end of the connection is the end of the body.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    /// Where the fields stand of the head, or of the trailers, that were read last.
    pub fn take_spans(&mut self) -> Vec<Span> {
        self.section.take_spans()
    }

    /// Gives their place back, for those of the next.
    pub fn keep_spans(&mut self, spans: Vec<Span>) {
        self.section.keep_spans(spans);
    }

    /// Whether the backend keeps the connection open behind its latest answer.
    pub fn keeps_open(&self) -> bool {
        self.keeps_open
    }

    /// Gives back what an unused connection can do without.
    pub fn release(&mut self) {
        self.section.release();
    }

    /// Whether the connection is not to be used again although nothing was refused: the backend
    /// may believe that its last answer has a body, and would send it in front of the next one.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    fn step(&mut self, bytes: &[u8]) -> (usize, Result<Part, Violation>) {
        match &mut self.state {
            State::Idle => (0, Err(Violation::Unsolicited)),
            State::Start | State::Head(_) => self.lines(bytes, &Part::Head, Self::head_part),
            State::Trailers => match self.line(bytes) {
                Ok(passed) => (passed, Ok(Part::Trailers)),
                Err(violation) => (0, Err(violation)),
            },
            State::Length(remaining) => {
                let passed = (*remaining).min(bytes.len() as u64);
                *remaining -= passed;
                if *remaining == 0 {
                    self.state = State::Idle;
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
            State::UntilClose | State::Tunnel => (bytes.len(), Ok(Part::Data)),
            State::Refused(violation) => (0, Err(*violation)),
        }
    }

    /// What the line was that has been taken in, or is being taken in.
    fn head_part(&self) -> Part {
        match self.state {
            State::Start if self.partial.is_empty() => Part::InterimEnd,
            State::Start | State::Head(_) => Part::Head,
            _ => Part::HeadEnd,
        }
    }

    fn status_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let Some(line) = status_line::parse(bytes)? else {
            return Ok(None);
        };
        self.within_limit(line.len)?;
        if line.status == 101 && self.asked != Asked::Upgrade {
            return Err(Violation::UnaskedSwitch);
        }
        let (status, http10) = (line.status, line.http10);
        let length = Length::default();
        let head = Head { status, http10, length, close: false, keep_alive: false };
        self.state = State::Head(head);
        self.section.begin(line.len);
        Ok(Some(line.len))
    }

    fn field_lines(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let Scanner { state, section, .. } = self;
        // Trailers that may not be there are harmless behind a body that has ended; they are left
        // out when the trailers are passed on.
        let taken = section.take_fields(bytes, |name, value| match state {
            State::Head(head) => head.field(name, value),
            _ => Ok(()),
        })?;
        taken.map_or(Ok(None), |taken| taken.with_end(|| self.end_fields()))
    }

    fn within_limit(&self, line_bytes: usize) -> Result<(), Violation> {
        let may_be = match self.state {
            State::Start => self.section.may_begin(line_bytes),
            _ => self.section.may_grow(line_bytes),
        };
        if may_be { Ok(()) } else { Err(Violation::HeadTooLarge) }
    }

    /// The empty line after fields was read: what follows it (RFC 9112 section 6.3)?
    fn end_fields(&mut self) -> Result<(), Violation> {
        let State::Head(head) = &self.state else {
            self.state = State::Idle;
            return Ok(());
        };
        let (chunked, length) = (head.length.is_chunked(), head.length.bytes());
        // RFC 9112 section 9.3.
        self.keeps_open = !head.close && (!head.http10 || head.keep_alive);
        let announces = chunked || length.is_some_and(|length| length > 0);
        self.state = match head.status {
            100..=199 if announces => return Err(Violation::LengthWithoutBody),
            101 => State::Tunnel,
            100..=199 => {
                self.interim += 1;
                if self.interim > MAX_INTERIM {
                    return Err(Violation::TooManyInterim);
                }
                State::Start
            }
            204 if chunked => return Err(Violation::LengthWithoutBody),
            204 => {
                self.spent |= announces;
                State::Idle
            }
            304 => State::Idle,
            _ if self.asked == Asked::Head => State::Idle,
            _ => match (chunked, length) {
                (true, _) => State::Chunked(Chunked::default()),
                (false, None) => State::UntilClose,
                (false, Some(0)) => State::Idle,
                (false, Some(length)) => State::Length(length),
            },
        };
        if !matches!(self.state, State::Start) {
            self.partial = Vec::new();
        }
        Ok(())
    }
}

impl Lines for Scanner {
    fn judge(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        match &self.state {
            State::Start => self.status_line(bytes),
            _ => self.field_lines(bytes),
        }
    }

    fn over_limit(&self, line_bytes: usize) -> Option<Violation> {
        self.within_limit(line_bytes).err()
    }

    fn partial(&self) -> &[u8] {
        &self.partial
    }

    fn partial_mut(&mut self) -> &mut Vec<u8> {
        &mut self.partial
    }

    fn give_back(&mut self, buffer: Vec<u8>) {
        if matches!(self.state, State::Start | State::Head(_) | State::Trailers) {
            self.partial = buffer;
        }
    }
}

impl Head {
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        // By length first: most fields end here.
        match name.len() {
            10 if is(name, b"connection") => {
                for option in value.split(|&byte| byte == b',').map(trim) {
                    self.close |= is(option, b"close");
                    self.keep_alive |= is(option, b"keep-alive");
                }
                Ok(())
            }
            14 if is(name, b"content-length") => self.length.content_length(trim(value)),
            17 if is(name, b"transfer-encoding") => {
                self.length.transfer_encoding(trim(value), self.http10)
            }
            _ => Ok(()),
        }
    }
}
