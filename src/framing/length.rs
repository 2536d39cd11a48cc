//! What the fields of a head say about the length of the body (RFC 9112 section 6).

use super::Violation;
use super::bytes::{TOKEN, trim};

/// Content-Length and Transfer-Encoding of one head, as far as it was read.
///
/// One of them, once, or none: whatever else there is, two parsers may understand differently.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Length {
    content_length: u64,
    has_length: bool,
    chunked: bool,
}

impl Length {
    /// Takes in the value of a Content-Length.
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.has_length {
            return Err(Violation::RepeatedContentLength);
        }
        if self.chunked {
            return Err(Violation::LengthAndCoding);
        }
        self.content_length = parse_length(value).ok_or(Violation::InvalidContentLength)?;
        self.has_length = true;
        Ok(())
    }

    /// Takes in the value of a Transfer-Encoding.
    pub(crate) fn transfer_encoding(
        &mut self,
        value: &[u8],
        http10: bool,
    ) -> Result<(), Violation> {
        if http10 {
            return Err(Violation::CodingUnderHttp10);
        }
        if self.chunked {
            return Err(Violation::RepeatedTransferEncoding);
        }
        if self.has_length {
            return Err(Violation::LengthAndCoding);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(other_coding(value));
        }
        self.chunked = true;
        Ok(())
    }

    /// Whether the body comes in chunks.
    pub(crate) fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// The length in bytes, if it was given.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.has_length.then_some(self.content_length)
    }
}

/// A Content-Length (RFC 9110 section 8.6). `None` if it is not a number below 2^63.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let length = value.iter().try_fold(0_u64, |length, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })?;
    (length <= i64::MAX as u64).then_some(length)
}

/// `chunked` must come last, once, and without parameters, or nobody knows where the body ends
/// (RFC 9112 section 6.3, item 4); anything in front of it is a coding that we do not have.
#[cold]
fn other_coding(value: &[u8]) -> Violation {
    let mut codings = value.rsplit(|&byte| byte == b',').map(trim);
    if !codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked")) {
        return Violation::InvalidTransferEncoding;
    }
    for coding in codings {
        let name = coding.split(|&byte| byte == b';').next().map_or(coding, trim);
        let token = !name.is_empty() && name.iter().all(|&byte| TOKEN[byte as usize]);
        if !token || name.eq_ignore_ascii_case(b"chunked") {
            return Violation::InvalidTransferEncoding;
        }
    }
    Violation::UnsupportedCoding
}
