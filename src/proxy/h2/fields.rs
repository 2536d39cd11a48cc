//! Header blocks (RFC 7541 section 6), followed representation by representation, without decoding a
//! name or a value: enough to know which fields are pseudo-header fields.
//!
//! h2 leaves those out of trailers without a word, where they make a request malformed (RFC 9113
//! section 8.1). A reference to the dynamic table tells nothing by itself, so of each entry it is
//! remembered whether its name begins with a colon: one bit, in the order of the table. What is
//! evicted needs no bookkeeping, since h2 refuses references to it.

use super::FRAME_BYTES;
use crate::framing::frames::{CONTINUATION, END_HEADERS, Frame, HEADERS, PADDED, WITH_PRIORITY};

/// Entries of the static table (RFC 7541 appendix A), the pseudo-header fields first.
const STATIC: u32 = 61;
const STATIC_PSEUDO: u32 = 14;
/// A dynamic table of 4096 bytes has no more, at 32 bytes and more for each (RFC 7541 section 4.1).
const MOST_ENTRIES: u32 = 128;
/// The size that a dynamic table may have at most, in bytes, until our settings say otherwise.
const TABLE_BYTES: u32 = 4096;
/// A colon in the code of RFC 7541 appendix B takes seven bits.
const COLON_BITS: u8 = 0x5c;

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be decoded (RFC 9113 section 4.3).
    Compression,
    /// A pseudo-header field among trailers.
    PseudoTrailer,
}

/// Follows the blocks of one direction of a connection.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    step: Step,
    /// Nothing but size updates has come of this block.
    at_start: bool,
    trailers: bool,
    /// What is still to come of the block in the latest frame, in bytes.
    left: u32,
    /// It ends there.
    last: bool,
    /// Of each entry of the dynamic table, the latest lowest, whether it is a pseudo-header field.
    pseudo: u128,
    entries: u32,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Before a representation.
    Start,
    Number(Number),
    /// Before the length of a name.
    Name {
        indexed: bool,
    },
    /// At the first byte of a name that is so long.
    Colon {
        indexed: bool,
        compressed: bool,
        length: u32,
    },
    /// In the rest of a name.
    SkipName {
        indexed: bool,
        pseudo: bool,
        left: u32,
    },
    /// Before the length of a value.
    Value {
        indexed: bool,
        pseudo: bool,
    },
    SkipValue {
        left: u32,
    },
}

/// A number that goes on (RFC 7541 section 5.1), and what it is.
#[derive(Clone, Copy, Debug)]
struct Number {
    value: u32,
    shift: u8,
    of: Of,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    /// An index of a whole field.
    Field,
    /// An index of a name.
    NameIndex {
        indexed: bool,
    },
    TableSize,
    NameLength {
        indexed: bool,
        compressed: bool,
    },
    ValueLength {
        indexed: bool,
        pseudo: bool,
    },
}

impl Fields {
    pub(super) fn new() -> Fields {
        Fields {
            step: Step::Start,
            at_start: true,
            trailers: false,
            left: 0,
            last: false,
            pseudo: 0,
            entries: 0,
        }
    }

    /// Looks at a frame, and at the start of its payload. `trailers` is whether its stream has had its
    /// head.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, trailers: bool) -> Result<(), Fault> {
        self.left = 0;
        self.last = false;
        // Other frames, and those that are wrong in themselves, are for h2 to refuse.
        let Some((block, padding)) = block_in(frame) else { return Ok(()) };
        let before = (frame.start.len() - block.len()) as u32;
        let Some(left) = frame.length.checked_sub(before + padding) else { return Ok(()) };
        if frame.kind == HEADERS {
            self.begin(trailers);
        }
        self.left = left;
        self.last = frame.has(END_HEADERS);
        self.payload(block)
    }

    /// Looks at what follows that start, up to the padding.
    pub(super) fn payload(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let block = &bytes[..bytes.len().min(self.left as usize)];
        self.left -= block.len() as u32;
        self.feed(block)?;
        if self.left == 0 && self.last { self.end() } else { Ok(()) }
    }

    fn begin(&mut self, trailers: bool) {
        self.step = Step::Start;
        self.at_start = true;
        self.trailers = trailers;
    }

    fn end(&self) -> Result<(), Fault> {
        if matches!(self.step, Step::Start) { Ok(()) } else { Err(Fault::Compression) }
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while let [byte, rest @ ..] = bytes {
            let skipped = match &mut self.step {
                Step::SkipName { left, .. } | Step::SkipValue { left } => {
                    let skipped = bytes.len().min(*left as usize);
                    *left -= skipped as u32;
                    skipped
                }
                _ => {
                    self.step_over(*byte)?;
                    bytes = rest;
                    0
                }
            };
            bytes = &bytes[skipped..];
            self.pass();
        }
        Ok(())
    }

    /// Leaves names and values that have come in full.
    fn pass(&mut self) {
        if let Step::SkipName { indexed, pseudo, left: 0 } = self.step {
            self.step = Step::Value { indexed, pseudo };
        }
        if let Step::SkipValue { left: 0 } = self.step {
            self.step = Step::Start;
        }
    }

    fn step_over(&mut self, byte: u8) -> Result<(), Fault> {
        match self.step {
            Step::Start => self.representation(byte),
            Step::Number(number) => {
                let bits = u32::from(byte & 0x7f);
                // Five bytes are more than any number of ours needs.
                if number.shift > 21 {
                    return Err(Fault::Compression);
                }
                let value = number.value + (bits << number.shift);
                if byte & 0x80 == 0 {
                    return self.number(value, number.of);
                }
                self.step = Step::Number(Number { value, shift: number.shift + 7, ..number });
                Ok(())
            }
            Step::Name { indexed } => {
                let of = Of::NameLength { indexed, compressed: byte & 0x80 != 0 };
                self.prefix(byte, 0x7f, of)
            }
            Step::Colon { indexed, compressed, length } => {
                let pseudo = if compressed { byte >> 1 == COLON_BITS } else { byte == b':' };
                self.refuse_in_trailers(pseudo)?;
                self.step = Step::SkipName { indexed, pseudo, left: length - 1 };
                Ok(())
            }
            Step::Value { indexed, pseudo } => {
                self.prefix(byte, 0x7f, Of::ValueLength { indexed, pseudo })
            }
            Step::SkipName { .. } | Step::SkipValue { .. } => Ok(()),
        }
    }

    /// RFC 7541 section 6.
    fn representation(&mut self, byte: u8) -> Result<(), Fault> {
        let (mask, of) = match byte {
            0x80.. => (0x7f, Of::Field),
            0x40.. => (0x3f, Of::NameIndex { indexed: true }),
            0x20.. if !self.at_start => return Err(Fault::Compression),
            0x20.. => (0x1f, Of::TableSize),
            _ => (0x0f, Of::NameIndex { indexed: false }),
        };
        self.at_start = matches!(of, Of::TableSize);
        self.prefix(byte, mask, of)
    }

    /// The first byte of a number.
    fn prefix(&mut self, byte: u8, mask: u8, of: Of) -> Result<(), Fault> {
        let value = u32::from(byte & mask);
        if byte & mask != mask {
            return self.number(value, of);
        }
        self.step = Step::Number(Number { value, shift: 0, of });
        Ok(())
    }

    /// A number has come.
    fn number(&mut self, value: u32, of: Of) -> Result<(), Fault> {
        self.step = match of {
            Of::Field => {
                let pseudo = self.is_pseudo(value)?;
                self.refuse_in_trailers(pseudo)?;
                Step::Start
            }
            Of::NameIndex { indexed } if value == 0 => Step::Name { indexed },
            Of::NameIndex { indexed } => {
                let pseudo = self.is_pseudo(value)?;
                self.refuse_in_trailers(pseudo)?;
                Step::Value { indexed, pseudo }
            }
            Of::TableSize if value > TABLE_BYTES => return Err(Fault::Compression),
            Of::TableSize => Step::Start,
            // No name at all: h2 refuses it.
            Of::NameLength { indexed, .. } if value == 0 => Step::Value { indexed, pseudo: false },
            Of::NameLength { indexed, compressed } => {
                Step::Colon { indexed, compressed, length: value }
            }
            Of::ValueLength { indexed, pseudo } => {
                if indexed {
                    self.pseudo = self.pseudo << 1 | u128::from(pseudo);
                    self.entries = (self.entries + 1).min(MOST_ENTRIES);
                }
                Step::SkipValue { left: value }
            }
        };
        Ok(())
    }

    /// Whether the name at this index is that of a pseudo-header field.
    fn is_pseudo(&self, index: u32) -> Result<bool, Fault> {
        match index {
            0 => Err(Fault::Compression),
            1..=STATIC => Ok(index <= STATIC_PSEUDO),
            _ if index - STATIC > self.entries => Err(Fault::Compression),
            _ => Ok(self.pseudo >> (index - STATIC - 1) & 1 == 1),
        }
    }

    fn refuse_in_trailers(&self, pseudo: bool) -> Result<(), Fault> {
        if pseudo && self.trailers { Err(Fault::PseudoTrailer) } else { Ok(()) }
    }
}

/// Where the block begins in what is there of a frame's payload, and how much padding is behind it
/// (RFC 9113 sections 6.2 and 6.10).
fn block_in<'a>(frame: &Frame<'a>) -> Option<(&'a [u8], u32)> {
    match frame.kind {
        _ if frame.length > FRAME_BYTES => None,
        HEADERS => {
            let (padding, rest) = match frame.start {
                [padding, rest @ ..] if frame.has(PADDED) => (*padding, rest),
                _ if frame.has(PADDED) => return None,
                rest => (0, rest),
            };
            let rest = if frame.has(WITH_PRIORITY) { rest.get(5..)? } else { rest };
            Some((rest, u32::from(padding)))
        }
        CONTINUATION => Some((frame.start, 0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a block in one piece and byte by byte, which must come to the same.
    fn block(fields: &mut Fields, trailers: bool, bytes: &[u8]) -> Result<(), Fault> {
        let mut slow = fields.clone();
        let mut whole = || {
            fields.begin(trailers);
            fields.feed(bytes)?;
            fields.end()
        };
        let mut pieces = || {
            slow.begin(trailers);
            bytes.chunks(1).try_for_each(|byte| slow.feed(byte))?;
            slow.end()
        };
        let verdict = whole();
        assert_eq!(pieces(), verdict, "{bytes:02x?}");
        verdict
    }

    #[test]
    fn pseudo_fields_among_trailers() {
        let refused = Err(Fault::PseudoTrailer);
        for (bytes, verdict) in [
            // `:method GET`, and `accept-charset` (RFC 7541 appendix A).
            (&[0x82][..], refused),
            (&[0x8e], refused),
            (&[0x8f], Ok(())),
            // `:path /a`, indexed, not indexed, never indexed.
            (b"\x44\x02/a", refused),
            (b"\x04\x02/a", refused),
            (b"\x14\x02/a", refused),
            // By name.
            (b"\x00\x02:x\x01y", refused),
            (b"\x40\x02:x\x01y", refused),
            (b"\x00\x01x\x02:y", Ok(())),
            // `:path` and `custom-key` compressed (RFC 7541 appendix C.4).
            (b"\x00\x84\xb9\x58\xd3\x3f\x01y", refused),
            (b"\x00\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x01y", Ok(())),
            (b"", Ok(())),
        ] {
            assert_eq!(block(&mut Fields::new(), true, bytes), verdict, "{bytes:02x?}");
            assert_eq!(block(&mut Fields::new(), false, bytes), Ok(()), "{bytes:02x?}");
        }
    }

    #[test]
    fn what_the_dynamic_table_holds_is_known() {
        let mut fields = Fields::new();
        // `:authority a`, then `x y`: 63 and 62 from then on.
        block(&mut fields, false, b"\x41\x01a\x40\x01x\x01y").unwrap();
        assert_eq!(block(&mut fields, true, &[0xbf]), Err(Fault::PseudoTrailer));
        assert_eq!(block(&mut fields, true, &[0xbe]), Ok(()));
        // As names.
        assert_eq!(block(&mut fields, true, b"\x0f\x30\x01z"), Err(Fault::PseudoTrailer));
        assert_eq!(block(&mut fields, true, b"\x0f\x2f\x01z"), Ok(()));
        // Each further one moves them on.
        block(&mut fields, false, b"\x40\x01x\x01z").unwrap();
        assert_eq!(block(&mut fields, true, &[0xc0]), Err(Fault::PseudoTrailer));
        assert_eq!(block(&mut fields, true, &[0xbf]), Ok(()));
    }

    #[test]
    fn what_cannot_be_decoded() {
        for bytes in [
            // Index 0, and one beyond the table, of a field and of a name.
            &b"\x80"[..],
            b"\xbe",
            b"\xff\x7f",
            b"\x7e\x01x",
            // A table larger than allowed, and a change of it that comes late.
            b"\x3f\xe2\x1f\x82",
            b"\x82\x20",
            // A number too large.
            b"\xff\xff\xff\xff\xff\xff\x7f",
            // Blocks that stop within a field.
            b"\x00",
            b"\x00\x05a",
            b"\x00\x01a",
            b"\x00\x01a\x02b",
            b"\xff",
        ] {
            let verdict = block(&mut Fields::new(), false, bytes);
            assert_eq!(verdict, Err(Fault::Compression), "{bytes:02x?}");
        }
        // The largest table, in two steps.
        assert_eq!(block(&mut Fields::new(), false, b"\x20\x3f\xe1\x1f\x82"), Ok(()));
    }

    #[test]
    fn any_bytes_are_followed_alike_however_they_are_split() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            let _ = block(&mut Fields::new(), random.bool(), &bytes);
        }
    }
}
