//! What the fields of one request head say about where it ends and whether it may pass.

use crate::framing::Violation;
use crate::framing::bytes::trim;
use crate::framing::field::same_but_underscores;
use crate::framing::length::Length;
use crate::proxy::host;

/// A request head, as far as it was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    length: Length,
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
                b'-' => self.length.content_length(trim(value)),
                _ => Err(Violation::ObscuredFraming),
            },
            17 if same_but_underscores(name, "transfer-encoding") => match name[8] {
                b'-' => self.length.transfer_encoding(trim(value), self.http10),
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

    /// The head is complete: tells what follows.
    pub(super) fn end(&self) -> Result<Body, Violation> {
        if !self.host && !self.http10 {
            return Err(Violation::MissingHost);
        }
        Ok(match (self.length.is_chunked(), self.length.bytes()) {
            (true, _) => Body::Chunked,
            (false, None | Some(0)) => Body::None,
            (false, Some(length)) => Body::Length(length),
        })
    }

    /// True if the client asks to go on in another protocol. HTTP/1.0 cannot (RFC 9110
    /// section 7.8).
    pub(super) fn wants_upgrade(&self) -> bool {
        self.asks_upgrade && self.names_protocol && !self.http10
    }
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
