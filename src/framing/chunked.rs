//! Chunk framing (RFC 9112 section 7.1), followed byte by byte but for the data, which is skipped.

use super::Violation;
use super::bytes::{TOKEN, is_control};

/// The most that the extensions of one chunk may be long, in bytes.
const MAX_EXTENSION_BYTES: u16 = 256;

/// The most that all chunk extensions of a body may be long together, in bytes.
const MAX_EXTENSIONS_BYTES: u16 = 16 * 1024;

/// Where in a chunked body we stand, up to the last chunk.
#[derive(Debug, Default)]
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
    ExtensionName,
    Extension,
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

/// How far [`Chunked::feed`] came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All bytes belong to the chunks.
    More,
    /// The last chunk's line ends here; trailers follow.
    LastChunk,
    Refused(Violation),
}

impl Chunked {
    /// Looks at further bytes. Gives the number of those that are in order, and what stands then.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> (usize, Outcome) {
        let mut at = 0;
        while at < bytes.len() {
            if matches!(self.step, Step::Data) {
                let left = (bytes.len() - at) as u64;
                let skipped = self.remaining.min(left);
                self.remaining -= skipped;
                at += skipped as usize;
                if self.remaining == 0 {
                    self.step = Step::DataCr;
                }
                continue;
            }
            match self.step_over(bytes[at]) {
                Ok(next) => self.step = next,
                Err(violation) => return (at, Outcome::Refused(violation)),
            }
            at += 1;
            if matches!(self.step, Step::Data) && self.remaining == 0 {
                return (at, Outcome::LastChunk);
            }
        }
        (at, Outcome::More)
    }

    /// The step after `byte`.
    fn step_over(&mut self, byte: u8) -> Result<Step, Violation> {
        Ok(match (self.step, byte) {
            (Step::Size { digits: digits @ 0..=15 }, _) if byte.is_ascii_hexdigit() => {
                self.digit(digits, byte)
            }
            (Step::Size { digits: 1.. }, b'\r') => Step::SizeLf,
            (Step::Size { digits: 1.. }, b';') => {
                self.extension_bytes = 0;
                Step::ExtensionName
            }
            (Step::ExtensionName, b' ' | b'\t') => self.extension(Step::ExtensionName)?,
            (Step::ExtensionName, _) if TOKEN[byte as usize] => self.extension(Step::Extension)?,
            (Step::Extension, b'\r') => Step::SizeLf,
            (Step::Extension, _) if !is_control(byte) => self.extension(Step::Extension)?,
            (Step::SizeLf, b'\n') => Step::Data,
            (Step::DataCr, b'\r') => Step::DataLf,
            (Step::DataLf, b'\n') => {
                self.remaining = 0;
                Step::Size { digits: 0 }
            }
            (Step::SizeLf, _) => return Err(Violation::BareCarriageReturn),
            (Step::DataCr | Step::DataLf, _) => return Err(Violation::InvalidChunkEnd),
            (_, b'\n') => return Err(Violation::BareLineFeed),
            (Step::Size { .. }, _) => return Err(Violation::InvalidChunkSize),
            _ => return Err(Violation::InvalidChunkExtension),
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
