//! Lines in a stream that reads cut anywhere.

use memchr::memchr;

use super::Violation;
use super::bytes::control_byte;

/// Takes a stream in line by line.
///
/// The answer must not hang on how the bytes were split: so a line is judged when its LF has come,
/// and only then. And what arrives in one read, as nearly all heads do, must cost no copy: so lines
/// are judged in place, and only a line that is still without its end is kept.
pub(crate) trait Lines {
    /// Judges the line at the start of `bytes`, and others of the same kind that follow it, and moves
    /// on behind them. `None` if the end of the first is not there. A violation in the first counts
    /// only if the LF is there too; others stop in front of one.
    fn judge(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation>;

    /// The violation of a line that is, or already has, this many bytes, if it is over the limit.
    fn over_limit(&self, line_bytes: usize) -> Option<Violation>;

    /// The line whose end was not there.
    fn partial(&self) -> &[u8];

    /// The same, to be added to.
    fn partial_mut(&mut self) -> &mut Vec<u8>;

    /// Gives an emptied buffer back: where the head goes on, its next line will probably come in
    /// parts too.
    fn give_back(&mut self, buffer: Vec<u8>);

    /// Takes in a line, or the part of it that is there. Gives the number of bytes taken.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        if !self.partial().is_empty() {
            return self.rest_of_line(bytes);
        }
        match self.judge(bytes) {
            Ok(Some(len)) => Ok(len),
            Ok(None) => self.keep(bytes),
            Err(violation) => match memchr(b'\n', bytes) {
                Some(end) => Err(self.over_limit(end + 1).unwrap_or(violation)),
                None => self.keep(bytes),
            },
        }
    }

    /// Takes in lines for as long as they are `more` of the same, by what `part` says of the latest.
    /// Gives the number of bytes taken, and what the last line is.
    fn lines<P: PartialEq>(
        &mut self,
        bytes: &[u8],
        more: &P,
        part: impl Fn(&Self) -> P,
    ) -> (usize, Result<P, Violation>) {
        let mut passed = 0;
        loop {
            match self.line(&bytes[passed..]) {
                Ok(line) => passed += line,
                Err(violation) => return (passed, Err(violation)),
            }
            let part = part(self);
            if part != *more || passed == bytes.len() {
                return (passed, Ok(part));
            }
        }
    }

    /// Goes on with a line that an earlier read began.
    #[cold]
    fn rest_of_line(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let Some(end) = memchr(b'\n', bytes) else {
            return self.keep(bytes);
        };
        self.keep(&bytes[..=end])?;
        let mut line = std::mem::take(self.partial_mut());
        self.judge(&line)?;
        line.clear();
        self.give_back(line);
        Ok(end + 1)
    }

    /// Keeps the beginning of a line.
    #[cold]
    fn keep(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        if let Some(violation) = self.over_limit(self.partial().len() + bytes.len()) {
            return Err(violation);
        }
        self.partial_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// Where the CRLF stands that ends the text of a line, from `from` on; `None` if it is not there.
#[inline]
pub(crate) fn text_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Violation> {
    let Some(end) = control_byte(bytes, from) else {
        return Ok(None);
    };
    match bytes.get(end..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(end)),
        Some([first, rest @ ..]) => no_text_end(*first, rest),
        _ => Ok(None),
    }
}

/// A control byte that no CRLF begins with, and what follows it.
#[cold]
fn no_text_end(byte: u8, rest: &[u8]) -> Result<Option<usize>, Violation> {
    match byte {
        b'\r' if rest.is_empty() => Ok(None),
        b'\r' => Err(Violation::BareCarriageReturn),
        b'\n' => Err(Violation::BareLineFeed),
        _ => Err(Violation::ControlByte),
    }
}
