//! A head, or trailers, while it is read.

use super::field::Field;
use super::{Limits, Span};

/// How long it is so far and where its fields stand, against what a peer may send.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    limits: Limits,
    bytes: u32,
    fields: u16,
    spans: Vec<Span>,
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

    /// Whether there may be no further field.
    pub(crate) fn is_full(&self) -> bool {
        self.fields == self.limits.max_headers
    }

    /// Adds a field. It is within the limits.
    pub(crate) fn push(&mut self, field: &Field<'_>) {
        self.fields += 1;
        let (start, name) = (self.bytes, field.name.len() as u32);
        self.bytes += field.len as u32;
        let end = self.bytes - 2;
        self.spans.push(Span { start, colon: start + name, end });
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
