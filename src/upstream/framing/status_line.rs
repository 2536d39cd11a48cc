//! The status line (RFC 9112 section 4).

use memchr::memchr;

use crate::framing::Violation;
use crate::framing::line::text_end;

/// A status line.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatusLine {
    pub(super) status: u16,
    pub(super) http10: bool,
    /// Bytes of the line with its CRLF.
    pub(super) len: usize,
}

/// Reads the status line at the start of some bytes; `None` if its end is not there.
///
/// The space behind the status may be missing where there is no reason: that much is common, and
/// every parser takes it.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<StatusLine>, Violation> {
    let Some(start) = bytes.first_chunk::<13>() else {
        return match memchr(b'\n', bytes) {
            Some(_) => Err(Violation::InvalidStatusLine),
            None => Ok(None),
        };
    };
    let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b' ', hundreds, tens, ones, next] =
        *start
    else {
        return Err(Violation::InvalidStatusLine);
    };
    if ![major, minor, hundreds, tens, ones].iter().all(u8::is_ascii_digit)
        || !matches!(next, b' ' | b'\r' | b'\n')
    {
        return Err(Violation::InvalidStatusLine);
    }
    let Some(end) = text_end(bytes, 12)? else {
        return Ok(None);
    };
    if major != b'1' || minor > b'1' {
        return Err(Violation::UnsupportedVersion);
    }
    let status = [hundreds, tens, ones]
        .iter()
        .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if !(100..=599).contains(&status) {
        return Err(Violation::InvalidStatus);
    }
    Ok(Some(StatusLine { status, http10: minor == b'0', len: end + 2 }))
}
