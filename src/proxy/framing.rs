//! A scanner over the raw bytes that a client sends on an HTTP/1.1 connection.
//!
//! hyper parses after us, and forgives what must not be forgiven in front of other parsers: a
//! Content-Length beside a Transfer-Encoding, equal duplicates, a bare LF as a line end. Once it
//! has parsed, those are no longer to be seen. So the IO wrapper shows every byte to a [`Scanner`]
//! before hyper gets it. The scanner follows the message boundaries itself (head, body by length or
//! by chunks, next head), so that it knows at every byte whether it looks at a head, also when
//! requests are pipelined and however reads split them.
//!
//! The answer does not hang on how the bytes were split, and a request that arrives in one read
//! costs no copy: see `crate::framing`.

mod head;
mod request_line;
#[cfg(test)]
mod tests;

pub(crate) use self::head::is_upgradable;
use self::head::{Body, Head};
pub(crate) use self::request_line::check_path;
use crate::framing::chunked::{Chunked, Outcome};
use crate::framing::line::Lines;
use crate::framing::{Limits, Violation, field};

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
    /// After an upgrade.
    Tunnel,
    /// After a violation.
    Refused,
}

/// What [`Scanner::feed`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// How many of the bytes may be passed on. Less than all without a violation only in
    /// [`Phase::Upgrade`]: keep the rest and feed it again after [`Scanner::tunnel`] or
    /// [`Scanner::resume`].
    pub accepted: usize,
    /// What stands after the accepted bytes. Nothing more is accepted from then on.
    pub violation: Option<Violation>,
}

/// Follows one client connection. Small when idle: no heap.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    heads_completed: u64,
    limits: Limits,
    head_bytes: u32,
    fields: u16,
    wants_upgrade: bool,
    /// Which head is the latest of OPTIONS for the server as a whole, counted from 1.
    for_server: u64,
    refused_in_head: bool,
    scratch: Option<Box<Scratch>>,
}

#[derive(Debug)]
enum State {
    Start { empty_lines: u8 },
    Head(Head),
    Length(u64),
    Chunked(Chunked),
    Trailers,
    Upgrade,
    Tunnel,
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
            heads_completed: 0,
            limits,
            head_bytes: 0,
            fields: 0,
            wants_upgrade: false,
            for_server: 0,
            refused_in_head: false,
            scratch: None,
        }
    }

    /// Looks at the next bytes from the client.
    pub fn feed(&mut self, bytes: &[u8]) -> Scan {
        let mut accepted = 0;
        while accepted < bytes.len() {
            let (passed, outcome) = self.step(&bytes[accepted..]);
            accepted += passed;
            match outcome {
                Ok(true) => {}
                Ok(false) => break,
                Err(violation) => {
                    self.refuse(violation);
                    return Scan { accepted, violation: Some(violation) };
                }
            }
        }
        Scan { accepted, violation: None }
    }

    /// What the connection is in the middle of.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Start { .. } if self.partial().is_empty() => Phase::Idle,
            State::Start { .. } | State::Head(_) => Phase::Head,
            State::Length(_) | State::Chunked(_) | State::Trailers => Phase::Body,
            State::Upgrade => Phase::Upgrade,
            State::Tunnel => Phase::Tunnel,
            State::Refused(_) => Phase::Refused,
        }
    }

    /// How many heads were passed on in full. Wraps.
    pub fn heads_completed(&self) -> u64 {
        self.heads_completed
    }

    /// Which head, counted from 1, is the latest of OPTIONS for the server as a whole, in absolute
    /// form: what parses after us cannot tell that from the path `/`. 0 if none is.
    pub fn for_server(&self) -> u64 {
        self.for_server
    }

    /// The connection was upgraded: everything passes from now on.
    pub fn tunnel(&mut self) {
        self.state = State::Tunnel;
        self.scratch = None;
    }

    /// The upgrade that a request asked for was not made: requests go on. Does nothing in any
    /// phase but [`Phase::Upgrade`].
    pub fn resume(&mut self) {
        if matches!(self.state, State::Upgrade) {
            self.state = State::Start { empty_lines: 0 };
        }
    }

    /// Whether what was refused stood in a body or its trailers, so that a request is under way
    /// whose reader must know. Otherwise it stood in place of a head.
    pub fn refused_in_body(&self) -> bool {
        matches!(self.state, State::Refused(_)) && !self.refused_in_head
    }

    fn refuse(&mut self, violation: Violation) {
        if !matches!(self.state, State::Refused(_)) {
            self.refused_in_head = matches!(self.state, State::Start { .. } | State::Head(_));
            self.state = State::Refused(violation);
            self.scratch = None;
        }
    }

    /// Takes in what belongs to the current state. Gives the bytes passed and whether to go on.
    fn step(&mut self, bytes: &[u8]) -> (usize, Result<bool, Violation>) {
        match &mut self.state {
            State::Start { .. } | State::Head(_) | State::Trailers => match self.line(bytes) {
                Ok(passed) => (passed, Ok(true)),
                Err(violation) => (0, Err(violation)),
            },
            State::Length(remaining) => {
                let passed = (*remaining).min(bytes.len() as u64);
                *remaining -= passed;
                if *remaining == 0 {
                    self.end_message();
                }
                (passed as usize, Ok(true))
            }
            State::Chunked(chunked) => match chunked.next(bytes) {
                (passed, Outcome::Framing | Outcome::Data) => (passed, Ok(true)),
                (passed, Outcome::LastChunk) => {
                    self.begin_fields(State::Trailers);
                    (passed, Ok(true))
                }
                (passed, Outcome::Refused(violation)) => (passed, Err(violation)),
            },
            State::Upgrade => (0, Ok(false)),
            State::Tunnel => (bytes.len(), Ok(true)),
            State::Refused(violation) => (0, Err(*violation)),
        }
    }

    fn request_line(&mut self, bytes: &[u8], empty_lines: u8) -> Result<Option<usize>, Violation> {
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
                self.begin_fields(State::Head(Head::new(line.http10)));
                self.head_bytes = line.len as u32;
                if line.for_server {
                    self.for_server = self.heads_completed.wrapping_add(1);
                }
                if let Some((authority, port)) = line.authority {
                    let scratch = self.scratch.get_or_insert_default();
                    scratch.authority = Some((authority.into(), port));
                }
                Ok(Some(line.len))
            }
        }
    }

    fn field_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let field = match field::parse(bytes)? {
            field::Line::Partial => return Ok(None),
            field::Line::End => {
                self.within_limit(2)?;
                self.end_fields()?;
                return Ok(Some(2));
            }
            field::Line::Field(field) => field,
        };
        self.within_limit(field.len)?;
        if self.fields == self.limits.max_headers {
            return Err(Violation::TooManyFields);
        }
        match &mut self.state {
            State::Head(head) => {
                let authority = self.scratch.as_ref().and_then(|scratch| {
                    let (authority, port) = scratch.authority.as_ref()?;
                    Some((&**authority, *port))
                });
                head.field(field.name, field.value, authority)?;
            }
            _ if field::may_be_trailer(field.name) => {}
            _ => return Err(Violation::ForbiddenTrailer),
        }
        self.fields += 1;
        self.head_bytes += field.len as u32;
        Ok(Some(field.len))
    }

    fn within_limit(&self, line_bytes: usize) -> Result<(), Violation> {
        let at_start = matches!(self.state, State::Start { .. });
        let before = if at_start { 0 } else { self.head_bytes as usize };
        if before + line_bytes <= self.limits.max_header_bytes as usize {
            return Ok(());
        }
        Err(if at_start { Violation::RequestLineTooLong } else { Violation::HeadTooLarge })
    }

    fn begin_fields(&mut self, state: State) {
        self.state = state;
        self.head_bytes = 0;
        self.fields = 0;
    }

    /// The empty line after fields was read.
    fn end_fields(&mut self) -> Result<(), Violation> {
        let State::Head(head) = &self.state else {
            self.end_message();
            return Ok(());
        };
        let body = head.end()?;
        self.wants_upgrade = head.wants_upgrade();
        self.heads_completed = self.heads_completed.wrapping_add(1);
        match body {
            Body::None => self.end_message(),
            Body::Length(length) => self.state = State::Length(length),
            Body::Chunked => self.state = State::Chunked(Chunked::default()),
        }
        self.scratch = None;
        Ok(())
    }

    fn end_message(&mut self) {
        self.state =
            if self.wants_upgrade { State::Upgrade } else { State::Start { empty_lines: 0 } };
        self.scratch = None;
    }
}

impl Lines for Scanner {
    fn judge(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        match &self.state {
            State::Start { empty_lines } => {
                let empty_lines = *empty_lines;
                self.request_line(bytes, empty_lines)
            }
            _ => self.field_line(bytes),
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
