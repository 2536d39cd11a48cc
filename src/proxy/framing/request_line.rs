//! The request line: method, target, version.

use memchr::{memchr, memchr2};

use crate::framing::Violation;
use crate::framing::bytes::{PLAIN_PATH, TARGET, TOKEN, is_control, outside};
use crate::proxy::host;

/// What stands at the start of some bytes.
pub(super) enum Line<'a> {
    /// Less than a line.
    Partial,
    /// An empty line.
    Empty,
    /// A request line.
    Request(RequestLine<'a>),
}

pub(super) struct RequestLine<'a> {
    pub(super) method_bytes: usize,
    pub(super) target_bytes: usize,
    /// The authority in the target's absolute form, with the default port of its scheme.
    pub(super) authority: Option<(&'a [u8], u16)>,
    /// OPTIONS for the server as a whole, in absolute form: there is no path (RFC 9112 section 3.2.4).
    pub(super) for_server: bool,
    pub(super) http10: bool,
    /// Bytes of the line with its CRLF.
    pub(super) len: usize,
}

/// Reads one request line (RFC 9112 section 3).
pub(super) fn parse(bytes: &[u8]) -> Result<Line<'_>, Violation> {
    let Some(method_end) = outside(&TOKEN, bytes, 0) else {
        return Ok(Line::Partial);
    };
    if bytes[method_end] != b' ' || method_end == 0 {
        return without_method(bytes, method_end);
    }
    let Some(target_end) = outside(&TARGET, bytes, method_end + 1) else {
        return Ok(Line::Partial);
    };
    let (method, target) = (&bytes[..method_end], &bytes[method_end + 1..target_end]);
    if bytes[target_end] != b' ' || target.is_empty() {
        return without_target(bytes, target_end);
    }
    let version = &bytes[target_end + 1..];
    let http10 = if version.starts_with(b"HTTP/1.1\r\n") {
        false
    } else if version.starts_with(b"HTTP/1.0\r\n") {
        true
    } else {
        return without_version(version);
    };
    let authority = check_target(method, target)?;
    let has_path = |target: &[u8]| memchr2(b'/', b'?', &target[b"https://".len()..]).is_some();
    Ok(Line::Request(RequestLine {
        method_bytes: method.len(),
        target_bytes: target.len(),
        authority,
        for_server: method == b"OPTIONS" && authority.is_some() && !has_path(target),
        http10,
        len: target_end + 1 + b"HTTP/1.1\r\n".len(),
    }))
}

#[cold]
fn without_method(bytes: &[u8], end: usize) -> Result<Line<'_>, Violation> {
    Err(match (bytes[end], bytes.get(end + 1)) {
        (b'\r', None) => return Ok(Line::Partial),
        (b'\r', Some(b'\n')) if end == 0 => return Ok(Line::Empty),
        (b'\r', Some(b'\n')) => Violation::InvalidRequestLine,
        (b'\r', Some(_)) => Violation::BareCarriageReturn,
        (b'\n', _) => Violation::BareLineFeed,
        (byte, _) if is_control(byte) => Violation::ControlByte,
        _ => Violation::InvalidMethod,
    })
}

#[cold]
fn without_target(bytes: &[u8], end: usize) -> Result<Line<'_>, Violation> {
    Err(match (bytes[end], bytes.get(end + 1)) {
        (b'\r', None) => return Ok(Line::Partial),
        // HTTP/0.9 has no version; nothing is left that speaks it.
        (b'\r', Some(b'\n')) => Violation::InvalidRequestLine,
        (b'\r', Some(_)) => Violation::BareCarriageReturn,
        (b'\n', _) => Violation::BareLineFeed,
        (b'#', _) => Violation::FragmentInTarget,
        (b' ', _) => Violation::InvalidRequestLine,
        (byte, _) if is_control(byte) => Violation::ControlByte,
        _ => Violation::InvalidTarget,
    })
}

#[cold]
fn without_version(version: &[u8]) -> Result<Line<'_>, Violation> {
    let Some(end) = memchr(b'\n', version) else {
        return Ok(Line::Partial);
    };
    Err(match &version[..end] {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r']
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Violation::UnsupportedVersion
        }
        [line @ .., b'\r'] if memchr(b'\r', line).is_some() => Violation::BareCarriageReturn,
        [.., b'\r'] => Violation::InvalidRequestLine,
        _ => Violation::BareLineFeed,
    })
}

/// Checks the target's form against the method (RFC 9112 section 3.2). Gives the authority of the
/// absolute form.
fn check_target<'a>(method: &[u8], target: &'a [u8]) -> Result<Option<(&'a [u8], u16)>, Violation> {
    // CONNECT takes the authority form and no other (section 3.2.3), with a port.
    if method == b"CONNECT" {
        return match host::parse(target) {
            Some(host) if host.port.is_some() => Ok(None),
            _ => Err(Violation::InvalidTarget),
        };
    }
    if target[0] == b'/' {
        return check_path(target).map(|()| None);
    }
    if target == b"*" && method == b"OPTIONS" {
        return Ok(None);
    }
    let (rest, port) = if let Some(rest) = after_scheme(target, b"http://") {
        (rest, 80)
    } else if let Some(rest) = after_scheme(target, b"https://") {
        (rest, 443)
    } else {
        return Err(Violation::InvalidTarget);
    };
    let (authority, path) = rest.split_at(memchr2(b'/', b'?', rest).unwrap_or(rest.len()));
    if host::parse(authority).is_none() {
        return Err(Violation::InvalidHost);
    }
    check_path(path)?;
    Ok(Some((authority, port)))
}

fn after_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Refuses what backends may take for another path. Most paths need no second look.
pub(crate) fn check_path(target: &[u8]) -> Result<(), Violation> {
    match outside(&PLAIN_PATH, target, 0).map(|at| target[at]) {
        None | Some(b'?') => Ok(()),
        Some(_) => check_special_path(target),
    }
}

/// Refuses dot segments: routes match the path as received, and a backend that resolves them
/// would serve what the route did not mean.
fn check_special_path(target: &[u8]) -> Result<(), Violation> {
    let path = &target[..memchr(b'?', target).unwrap_or(target.len())];
    // No client that follows the URL standard leaves a backslash in a path, and some backends
    // take it for a slash.
    if memchr(b'\\', path).is_some() {
        return Err(Violation::InvalidTarget);
    }
    if memchr2(b'.', b'%', path).is_none() {
        return Ok(());
    }
    if path.split(|&byte| byte == b'/').any(is_dot_segment) {
        return Err(Violation::DotSegment);
    }
    Ok(())
}

/// True for `.` and `..`, with `%2e` for a dot, and with path parameters (`..;x`), which servlet
/// containers take off before they resolve.
fn is_dot_segment(segment: &[u8]) -> bool {
    let mut rest = segment;
    let mut dots = 0;
    loop {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            [] | [b';', ..] => return dots == 1 || dots == 2,
            _ => return false,
        };
        dots += 1;
    }
}
