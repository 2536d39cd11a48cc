//! What the fields of one request head say about where it ends and whether it may pass.

use super::Violation;
use super::bytes::trim;
use super::field::same_but_underscores;
use crate::proxy::host;

/// A request head, as far as it was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    content_length: u64,
    has_length: bool,
    chunked: bool,
    host: bool,
    http10: bool,
    asks_upgrade: bool,
    names_protocol: bool,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked,
}

impl Head {
    pub(super) fn new(http10: bool) -> Head {
        Head { http10, ..Head::default() }
    }

    /// Takes in one field. `authority` is that of a target in absolute form, with its default port.
    pub(super) fn field(
        &mut self,
        name: &[u8],
        value: &[u8],
        authority: Option<(&[u8], u16)>,
    ) -> Result<(), Violation> {
        // By length first: most fields of a request end here.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(trim(value), authority),
            6 if name.eq_ignore_ascii_case(b"expect") => expect(trim(value)),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.names_protocol |= names_upgradable(value);
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.asks_upgrade |= has_token(value, b"upgrade");
                Ok(())
            }
            14 if same_but_underscores(name, "content-length") => match name[7] {
                b'-' => self.content_length(trim(value)),
                _ => Err(Violation::ObscuredFraming),
            },
            17 if same_but_underscores(name, "transfer-encoding") => match name[8] {
                b'-' => self.transfer_encoding(trim(value)),
                _ => Err(Violation::ObscuredFraming),
            },
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8], authority: Option<(&[u8], u16)>) -> Result<(), Violation> {
        if self.host {
            return Err(Violation::RepeatedHost);
        }
        self.host = true;
        if host::parse(value).is_none() {
            return Err(Violation::InvalidHost);
        }
        match authority {
            Some((authority, port)) if !host::agree(authority, value, port) => {
                Err(Violation::HostMismatch)
            }
            _ => Ok(()),
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Violation> {
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

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.http10 {
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

    /// The head is complete: tells what follows.
    pub(super) fn end(&self) -> Result<Body, Violation> {
        if !self.host && !self.http10 {
            return Err(Violation::MissingHost);
        }
        Ok(match (self.chunked, self.content_length) {
            (true, _) => Body::Chunked,
            (false, 0) => Body::None,
            (false, length) => Body::Length(length),
        })
    }

    /// True if the client asks to go on in another protocol. HTTP/1.0 cannot (RFC 9110
    /// section 7.8).
    pub(super) fn wants_upgrade(&self) -> bool {
        self.asks_upgrade && self.names_protocol && !self.http10
    }
}

fn parse_length(value: &[u8]) -> Option<u64> {
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
        let token = !name.is_empty() && name.iter().all(|&byte| super::bytes::TOKEN[byte as usize]);
        if !token || name.eq_ignore_ascii_case(b"chunked") {
            return Violation::InvalidTransferEncoding;
        }
    }
    Violation::UnsupportedCoding
}

fn expect(value: &[u8]) -> Result<(), Violation> {
    if value.eq_ignore_ascii_case(b"100-continue") {
        return Ok(());
    }
    Err(Violation::UnsupportedExpectation)
}

/// True if a list (RFC 9110 section 5.6.1) has this member.
fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|member| trim(member).eq_ignore_ascii_case(token))
}

fn names_upgradable(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|member| is_upgradable(trim(member)))
}

/// True for a protocol that an HTTP/1.1 connection may change to through us. Other versions of
/// HTTP, and TLS, are not: further requests would then go past every rule.
pub(crate) fn is_upgradable(protocol: &[u8]) -> bool {
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
    !name.is_empty()
        && ![&b"h2c"[..], b"h2", b"http", b"tls"]
            .iter()
            .any(|refused| name.eq_ignore_ascii_case(refused))
}
