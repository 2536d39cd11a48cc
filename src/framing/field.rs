//! Field lines of heads and trailers.

use super::Violation;
use super::bytes::{is_control, token_end};
use super::line::text_end;

/// What stands at the start of some bytes.
pub(crate) enum Line<'a> {
    /// Less than a line.
    Partial,
    /// The empty line that ends the fields.
    End,
    /// A field.
    Field(Field<'a>),
}

pub(crate) struct Field<'a> {
    pub(crate) name: &'a [u8],
    /// With the white space around it.
    pub(crate) value: &'a [u8],
    /// Bytes of the line with its CRLF.
    pub(crate) len: usize,
}

/// Reads one field line (RFC 9112 section 5).
#[inline(always)]
pub(crate) fn parse(bytes: &[u8]) -> Result<Line<'_>, Violation> {
    let Some(name_end) = token_end(bytes, 0) else {
        return Ok(Line::Partial);
    };
    if bytes[name_end] != b':' || name_end == 0 {
        return without_name(bytes, name_end);
    }
    Ok(match text_end(bytes, name_end + 1)? {
        None => Line::Partial,
        Some(value_end) => Line::Field(Field {
            name: &bytes[..name_end],
            value: &bytes[name_end + 1..value_end],
            len: value_end + 2,
        }),
    })
}

/// A line whose leading token, `name_end` bytes long, is empty or has no colon behind it.
#[cold]
fn without_name(bytes: &[u8], name_end: usize) -> Result<Line<'_>, Violation> {
    Err(match (bytes[name_end], bytes.get(name_end + 1)) {
        (b'\r', None) => return Ok(Line::Partial),
        (b'\r', Some(b'\n')) if name_end == 0 => return Ok(Line::End),
        (b'\r', Some(b'\n')) => Violation::MissingColon,
        (b'\r', Some(_)) => Violation::BareCarriageReturn,
        (b'\n', _) => Violation::BareLineFeed,
        (b':', _) => Violation::EmptyName,
        (b' ' | b'\t', _) if name_end == 0 => Violation::ObsoleteFold,
        (b' ' | b'\t', _) => Violation::SpaceInName,
        (byte, _) if is_control(byte) => Violation::ControlByte,
        _ => Violation::InvalidName,
    })
}

/// Fields that decide about framing, routing, authentication or the content's meaning, which must
/// be known before the content (RFC 9110 section 6.5.1), and those that we set ourselves.
const NOT_IN_TRAILERS: [&str; 24] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-real-ip",
    "x-request-id",
    "proxy-authenticate",
];

/// True if a field may come after the body.
pub(crate) fn may_be_trailer(name: &[u8]) -> bool {
    let forwarded = name.get(..12).is_some_and(|start| same_but_underscores(start, "x-forwarded-"));
    !forwarded && !NOT_IN_TRAILERS.iter().any(|listed| same_but_underscores(name, listed))
}

/// True for names that some backends take for those of the framing fields.
pub(crate) fn is_obscured_framing(name: &str) -> bool {
    matches!(name.len(), 14 | 17)
        && name.contains('_')
        && ["content-length", "transfer-encoding"]
            .iter()
            .any(|framing| same_but_underscores(name.as_bytes(), framing))
}

/// Compares without regard to case, and with `_` for `-`: backends behind CGI-like interfaces
/// cannot tell the two spellings apart.
pub(crate) fn same_but_underscores(name: &[u8], listed: &str) -> bool {
    name.len() == listed.len()
        && name.iter().zip(listed.bytes()).all(|(&byte, wanted)| {
            byte.to_ascii_lowercase() == wanted || (byte == b'_' && wanted == b'-')
        })
}
