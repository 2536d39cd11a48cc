//! Chunk framing (RFC 9112 section 7.1), followed byte by byte but for the data, which is skipped.

use super::Violation;
use super::bytes::{TOKEN, is_control};

/// The most that the extensions of one chunk may be long, in bytes.
const MAX_EXTENSION_BYTES: u16 = 256;

/// The most that all chunk extensions of a body may be long together, in bytes.
const MAX_EXTENSIONS_BYTES: u16 = 16 * 1024;

/// Where in a chunked body we stand, up to the last chunk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunked {
    /// The chunk's size while it is read, then what is left of its data, in bytes.
    remaining: u64,
    extension_bytes: u16,
    extensions_bytes: u16,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Size { digits: u8 },
    SpaceBehindSize,
    BeforeName,
    Name,
    BehindName,
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    EndOfQuoted,
    BehindValue,
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

impl Default for Step {
    fn default() -> Step {
        Step::Size { digits: 0 }
    }
}

/// What [`Chunked::next`] came over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Sizes, extensions, line ends.
    Framing,
    /// Data of a chunk.
    Data,
    /// The last chunk's line ends here; trailers follow.
    LastChunk,
    Refused(Violation),
}

impl Chunked {
    /// Looks at further bytes, at least one, as far as they are of one kind. Gives their number,
    /// and the kind.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> (usize, Outcome) {
        if matches!(self.step, Step::Data) {
            let passed = self.remaining.min(bytes.len() as u64);
            self.remaining -= passed;
            if self.remaining == 0 {
                self.step = Step::DataCr;
            }
            return (passed as usize, Outcome::Data);
        }
        for (at, &byte) in bytes.iter().enumerate() {
            match self.step_over(byte) {
                Ok(next) => self.step = next,
                Err(violation) => return (at, Outcome::Refused(violation)),
            }
            if matches!(self.step, Step::Data) {
                let last = self.remaining == 0;
                return (at + 1, if last { Outcome::LastChunk } else { Outcome::Framing });
            }
        }
        (bytes.len(), Outcome::Framing)
    }

    /// Whether the next byte is data.
    pub(crate) fn is_in_data(&self) -> bool {
        matches!(self.step, Step::Data)
    }

    /// The step after `byte`.
    fn step_over(&mut self, byte: u8) -> Result<Step, Violation> {
        Ok(match (self.step, byte) {
            (Step::Size { digits: digits @ 0..=15 }, _) if byte.is_ascii_hexdigit() => {
                self.digit(digits, byte)
            }
            (Step::Size { digits: 1.. }, b'\r') => Step::SizeLf,
            (Step::Size { digits: 1.. } | Step::SpaceBehindSize, b';') => Step::BeforeName,
            // White space that must not be sent and must be taken, before an extension only
            // (RFC 9112 section 7.1.1).
            (Step::Size { digits: 1.. } | Step::SpaceBehindSize, b' ' | b'\t') => {
                self.extension(Step::SpaceBehindSize)?
            }
            (Step::SizeLf, b'\n') => Step::Data,
            (Step::DataCr, b'\r') => Step::DataLf,
            (Step::DataLf, b'\n') => {
                self.remaining = 0;
                self.extension_bytes = 0;
                Step::Size { digits: 0 }
            }
            (Step::SizeLf, _) => return Err(Violation::BareCarriageReturn),
            (Step::DataCr | Step::DataLf, _) => return Err(Violation::InvalidChunkEnd),
            (_, b'\n') => return Err(Violation::BareLineFeed),
            (Step::Size { .. } | Step::SpaceBehindSize, _) => {
                return Err(Violation::InvalidChunkSize);
            }
            (step, _) => {
                match step_over_extension(step, byte).ok_or(Violation::InvalidChunkExtension)? {
                    Step::SizeLf => Step::SizeLf,
                    next => self.extension(next)?,
                }
            }
        })
    }

    fn digit(&mut self, digits: u8, byte: u8) -> Step {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        // Sixteen digits are 64 bits: nothing is shifted out.
        self.remaining = self.remaining << 4 | u64::from(value);
        Step::Size { digits: digits + 1 }
    }

    fn extension(&mut self, next: Step) -> Result<Step, Violation> {
        self.extension_bytes += 1;
        self.extensions_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES
            || self.extensions_bytes > MAX_EXTENSIONS_BYTES
        {
            return Err(Violation::ChunkExtensionTooLong);
        }
        Ok(next)
    }
}

/// The step after `byte` within extensions: `;`, a name, and mostly `=` and a value (RFC 9112 section
/// 7.1.1). All of them are passed over, but not what could be read in two ways.
fn step_over_extension(step: Step, byte: u8) -> Option<Step> {
    use Step::{
        BeforeName, BeforeValue, BehindName, BehindValue, EndOfQuoted, Name, Quoted, QuotedPair,
        SizeLf, Value,
    };
    Some(match (step, byte) {
        (BeforeName | BeforeValue, b' ' | b'\t') => step,
        (BeforeName | Name, _) if TOKEN[byte as usize] => Name,
        (Name | BehindName, b'=') => BeforeValue,
        (Name | BehindName, b' ' | b'\t') => BehindName,
        (BeforeValue, b'"') => Quoted,
        (BeforeValue | Value, _) if TOKEN[byte as usize] => Value,
        (Quoted, b'"') => EndOfQuoted,
        (Quoted, b'\\') => QuotedPair,
        (Quoted | QuotedPair, _) if !is_control(byte) => Quoted,
        (Value | EndOfQuoted | BehindValue, b' ' | b'\t') => BehindValue,
        (Name | BehindName | Value | EndOfQuoted | BehindValue, b';') => BeforeName,
        (Name | Value | EndOfQuoted, b'\r') => SizeLf,
        _ => return None,
    })
}
