//! A head, or trailers, while it is read.

use super::field::{self, Field, Line};
use super::{Limits, Span, Violation};

/// How long it is so far and where its fields stand, against what a peer may send.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    limits: Limits,
    bytes: u32,
    fields: u16,
    spans: Vec<Span>,
}

/// Of the empty line that ends fields.
const END_BYTES: usize = 2;

/// Field lines that were taken in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    bytes: usize,
    /// The empty line follows.
    ended: bool,
}

impl Taken {
    /// Their bytes, and those of the empty line, if it follows and that is the `end`. If it is not,
    /// that is said where it stands first.
    #[inline]
    pub(crate) fn with_end(
        self,
        end: impl FnOnce() -> Result<(), Violation>,
    ) -> Result<Option<usize>, Violation> {
        if !self.ended {
            return Ok(Some(self.bytes));
        }
        match end() {
            Ok(()) => Ok(Some(self.bytes + END_BYTES)),
            Err(violation) if self.bytes == 0 => Err(violation),
            Err(_) => Ok(Some(self.bytes)),
        }
    }
}

impl Section {
    /// One that has not begun.
    pub(crate) fn new(limits: Limits) -> Section {
        Section { limits, bytes: 0, fields: 0, spans: Vec::new() }
    }

    /// Begins another one, behind a first line of so many bytes. It is within the limit.
    pub(crate) fn begin(&mut self, line_bytes: usize) {
        self.spans.clear();
        self.bytes = line_bytes as u32;
        self.fields = 0;
    }

    /// Whether a first line may have so many bytes.
    pub(crate) fn may_begin(&self, line_bytes: usize) -> bool {
        line_bytes <= self.limits.max_header_bytes as usize
    }

    /// Whether a further line may have so many bytes.
    pub(crate) fn may_grow(&self, line_bytes: usize) -> bool {
        self.may_begin(self.bytes as usize + line_bytes)
    }

    /// Takes in the field lines at the start of some bytes, each of which `judge` is shown, its value
    /// untrimmed, up to the empty line that ends them; `None` if there is not one whole line. Only the
    /// first is refused: another one will be the first, and `judge` is shown it again, so that what it
    /// refuses must leave no trace.
    // Inlined, as what it calls, since each scanner calls it once: what is found of a field stays in
    // registers.
    #[inline(always)]
    pub(crate) fn take_fields(
        &mut self,
        bytes: &[u8],
        mut judge: impl FnMut(&[u8], &[u8]) -> Result<(), Violation>,
    ) -> Result<Option<Taken>, Violation> {
        let mut taken = 0;
        loop {
            let stop = match field::parse(&bytes[taken..]) {
                Ok(Line::Field(field)) => match self.take_field(&field, &mut judge) {
                    Ok(()) => {
                        taken += field.len;
                        continue;
                    }
                    Err(violation) => Err(violation),
                },
                Ok(Line::End) if self.may_grow(END_BYTES) => {
                    return Ok(Some(Taken { bytes: taken, ended: true }));
                }
                Ok(Line::End) => Err(Violation::HeadTooLarge),
                Ok(Line::Partial) => Ok(None),
                Err(violation) => Err(violation),
            };
            return if taken == 0 { stop } else { Ok(Some(Taken { bytes: taken, ended: false })) };
        }
    }

    #[inline(always)]
    fn take_field(
        &mut self,
        field: &Field<'_>,
        judge: impl FnOnce(&[u8], &[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        if !self.may_grow(field.len) {
            return Err(Violation::HeadTooLarge);
        }
        if self.fields == self.limits.max_headers {
            return Err(Violation::TooManyFields);
        }
        judge(field.name, field.value)?;
        self.fields += 1;
        let (start, name) = (self.bytes, field.name.len() as u32);
        self.bytes += field.len as u32;
        let end = self.bytes - 2;
        self.spans.push(Span { start, colon: start + name, end });
        Ok(())
    }

    /// Where its fields stand.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The same, to be kept by whoever asks.
    pub(crate) fn take_spans(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }

    /// Gives their place back, for those of the next.
    pub(crate) fn keep_spans(&mut self, spans: Vec<Span>) {
        self.spans = spans;
    }

    /// Gives back what it can do without until the next one begins.
    pub(crate) fn release(&mut self) {
        self.spans = Vec::new();
    }
}
