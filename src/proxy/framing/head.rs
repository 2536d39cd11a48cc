//! What the fields of one request head say about where it ends and whether it may pass.

use super::request_line::RequestLine;
use crate::framing::Violation;
use crate::framing::bytes::trim;
use crate::framing::field::same_but_underscores;
use crate::framing::known::is;
use crate::framing::length::Length;
use crate::proxy::host;

/// A request head, as far as it was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    /// Bytes of the method, with which the head begins.
    pub(crate) method_bytes: u32,
    /// Bytes of the target, which stands one space behind it.
    pub(crate) target_bytes: u32,
    pub(crate) http10: bool,
    /// OPTIONS for the server as a whole, in absolute form: there is no path (RFC 9112 section 3.2.4).
    pub(crate) for_server: bool,
    /// `100-continue` is expected.
    pub(crate) expects: bool,
    /// The client takes trailers.
    pub(crate) te_trailers: bool,
    length: Length,
    host: bool,
    /// Among the options of Connection.
    close: bool,
    keep_alive: bool,
    asks_upgrade: bool,
    names_protocol: bool,
    complete: bool,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked,
}

impl Head {
    pub(super) fn new(line: &RequestLine<'_>) -> Head {
        Head {
            method_bytes: line.method_bytes as u32,
            target_bytes: line.target_bytes as u32,
            http10: line.http10,
            for_server: line.for_server,
            ..Head::default()
        }
    }

    /// Takes in one field; what it refuses leaves no trace. `authority` is that of a target in absolute
    /// form, with its default port.
    pub(super) fn field(
        &mut self,
        name: &[u8],
        value: &[u8],
        authority: Option<(&[u8], u16)>,
    ) -> Result<(), Violation> {
        // By length first: most fields of a request end here.
        match name.len() {
            4 if is(name, b"host") => self.host(trim(value), authority),
            2 if is(name, b"te") => {
                self.te_trailers |= has_token(value, b"trailers");
                Ok(())
            }
            6 if is(name, b"expect") => {
                self.expects = true;
                expect(trim(value))
            }
            7 if is(name, b"upgrade") => {
                self.names_protocol |= names_upgradable(value);
                Ok(())
            }
            10 if is(name, b"connection") => {
                self.connection(value);
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
        if host::parse(value).is_none() {
            return Err(Violation::InvalidHost);
        }
        if authority.is_some_and(|(authority, port)| !host::agree(authority, value, port)) {
            return Err(Violation::HostMismatch);
        }
        self.host = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(trim) {
            self.close |= is(option, b"close");
            self.keep_alive |= is(option, b"keep-alive");
            self.asks_upgrade |= is(option, b"upgrade");
        }
    }

    /// The head is complete: tells what follows.
    pub(super) fn end(&mut self) -> Result<Body, Violation> {
        if !self.host && !self.http10 {
            return Err(Violation::MissingHost);
        }
        self.complete = true;
        Ok(match (self.length.is_chunked(), self.length.bytes()) {
            (true, _) => Body::Chunked,
            (false, None | Some(0)) => Body::None,
            (false, Some(length)) => Body::Length(length),
        })
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the client keeps the connection open for further requests (RFC 9112 section 9.3).
    pub(crate) fn keeps_open(&self) -> bool {
        !self.close && (!self.http10 || self.keep_alive)
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
