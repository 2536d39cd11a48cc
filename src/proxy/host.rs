//! The grammar of `host[:port]`, in one place for everyone who must agree on it: the scanner of
//! raw heads, the choice of a route, and the check against the handshake's server name.
//!
//! It is narrower than RFC 3986 section 3.2.2: no user info, no percent-encoding, no sub-delims, no
//! empty host, no empty port. None of these occur in names that people serve, and each has been
//! read differently by two parsers on one path.

use std::net::Ipv6Addr;

use http::header::HOST;
use http::{HeaderValue, Version, request};

use crate::framing::bytes::{HOST as HOST_BYTES, outside};

/// A valid `host[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Bytes of the host, the brackets of an IPv6 address among them.
    pub name_len: usize,
    /// The port, if there is one.
    pub port: Option<u16>,
}

/// Reads `host[:port]`. `None` if it is anything else; valid ones are ASCII.
pub fn parse(bytes: &[u8]) -> Option<Host> {
    let name_len = if bytes.first() == Some(&b'[') {
        let end = bytes.iter().position(|&byte| byte == b']')?;
        let address = std::str::from_utf8(&bytes[1..end]).ok()?;
        address.parse::<Ipv6Addr>().ok()?;
        end + 1
    } else {
        let end = outside(&HOST_BYTES, bytes, 0).unwrap_or(bytes.len());
        if end == 0 {
            return None;
        }
        end
    };
    let port = match &bytes[name_len..] {
        [] => None,
        [b':', digits @ ..] => Some(parse_port(digits)?),
        _ => return None,
    };
    Some(Host { name_len, port })
}

/// Why a request names no host that we can go by. All are 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// None, where the version asks for one.
    #[error("the request names no host; send Host (HTTP/1.1) or :authority (HTTP/2)")]
    Missing,
    /// More than one Host field.
    #[error("the request has more than one Host field; send one")]
    Repeated,
    /// Not `host[:port]`.
    #[error("the request's host is not host[:port]")]
    Invalid,
    /// Host and the target, or `:authority`, differ.
    #[error("Host differs from the request's target; send the same in both")]
    Mismatch,
}

/// The `host[:port]` that a request is for: the target's authority (absolute form, or `:authority`
/// of HTTP/2) or else its Host. Empty only under HTTP/1.0, which need not say. `checked` is a Host that
/// the scanner has found to be in order, and that the map may not have.
///
/// # Errors
/// If it cannot be known for sure (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
pub fn of<'a>(
    parts: &'a request::Parts,
    checked: Option<&'a HeaderValue>,
) -> Result<&'a str, BadHost> {
    if let (Some(host), None) = (checked, parts.uri.authority()) {
        return str::from_utf8(host.as_bytes()).map_err(|_| BadHost::Invalid);
    }
    let mut fields = parts.headers.get_all(HOST).iter();
    let (field, next) = (fields.next(), fields.next());
    if next.is_some() {
        return Err(BadHost::Repeated);
    }
    let field = match field {
        Some(value) => Some(value.to_str().map_err(|_| BadHost::Invalid)?),
        None => None,
    };
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let Some(host) = authority.or(field) else {
        let silent = matches!(parts.version, Version::HTTP_10 | Version::HTTP_09);
        return if silent { Ok("") } else { Err(BadHost::Missing) };
    };
    if parse(host.as_bytes()).is_none() {
        return Err(BadHost::Invalid);
    }
    if let (Some(authority), Some(field)) = (authority, field) {
        let default_port = if parts.uri.scheme_str() == Some("https") { 443 } else { 80 };
        if !agree(authority.as_bytes(), field.as_bytes(), default_port) {
            return Err(BadHost::Mismatch);
        }
    }
    Ok(host)
}

/// The host without its port and without a root dot at its end, as routes and certificates know it.
/// Case is left as it is.
pub fn name(host: &str) -> &str {
    let name = parse(host.as_bytes()).and_then(|parsed| host.get(..parsed.name_len));
    let name = name.unwrap_or(host);
    name.strip_suffix('.').unwrap_or(name)
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if !(1..=5).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let port = digits.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0'));
    port.try_into().ok()
}

/// True if both name the same host and port, where `default_port` stands for a missing one.
/// False if either is not valid.
pub fn agree(one: &[u8], other: &[u8], default_port: u16) -> bool {
    let (Some(a), Some(b)) = (parse(one), parse(other)) else {
        return false;
    };
    one[..a.name_len].eq_ignore_ascii_case(&other[..b.name_len])
        && a.port.unwrap_or(default_port) == b.port.unwrap_or(default_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let valid = [
            ("a", 1, None),
            ("example.com", 11, None),
            ("example.com.", 12, None),
            ("EXAMPLE.com:80", 11, Some(80)),
            ("a_b.c-d~e:65535", 9, Some(65535)),
            ("127.0.0.1:0", 9, Some(0)),
            ("[::1]", 5, None),
            ("[2001:db8::1]:8443", 13, Some(8443)),
        ];
        for (text, name_len, port) in valid {
            assert_eq!(parse(text.as_bytes()), Some(Host { name_len, port }), "{text}");
        }
        let invalid = [
            "",
            ":80",
            "a:",
            "a:65536",
            "a:+1",
            "a:1x",
            "a:080808",
            "a b",
            "a/b",
            "a@b",
            "u:p@a",
            "a,b",
            "a%41",
            "::1",
            "[::1",
            "[]",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[::1]:",
            "a?b",
            "a#b",
            "a\0",
            "a\t",
            "\u{e4}",
            "a:b:1",
            "a\\b",
        ];
        for text in invalid {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    fn host_of(version: Version, uri: &str, fields: &[&str]) -> Result<String, BadHost> {
        let mut request = http::Request::builder().version(version).uri(uri);
        for field in fields {
            request = request.header(HOST, *field);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        of(&parts, None).map(str::to_owned)
    }

    #[test]
    fn host_of_requests() {
        let (v10, v11, v2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        type Row<'a> = (Version, &'a str, &'a [&'a str], Result<&'a str, BadHost>);
        let table: [Row<'_>; 19] = [
            (v11, "/", &["a:80"], Ok("a:80")),
            (v11, "/", &[], Err(BadHost::Missing)),
            (v11, "/", &[""], Err(BadHost::Invalid)),
            (v11, "/", &["a", "a"], Err(BadHost::Repeated)),
            (v11, "/", &["a b"], Err(BadHost::Invalid)),
            (v11, "/", &["u@a"], Err(BadHost::Invalid)),
            (v11, "/", &["\u{e4}"], Err(BadHost::Invalid)),
            (v11, "http://a/", &["a"], Ok("a")),
            (v11, "http://a/", &["b"], Err(BadHost::Mismatch)),
            (v11, "http://a/", &["A:80"], Ok("a")),
            (v10, "/", &[], Ok("")),
            (v10, "/", &["a"], Ok("a")),
            (v2, "https://a/", &[], Ok("a")),
            (v2, "https://a/", &["a:443"], Ok("a")),
            (v2, "https://a/", &["b"], Err(BadHost::Mismatch)),
            (v2, "https://a/", &["a", "b"], Err(BadHost::Repeated)),
            (v2, "https://u@a/", &[], Err(BadHost::Invalid)),
            (v2, "/", &["a"], Ok("a")),
            (v2, "/", &[], Err(BadHost::Missing)),
        ];
        for (version, uri, fields, wanted) in table {
            let found = host_of(version, uri, fields);
            assert_eq!(found.as_deref(), wanted.as_ref().copied(), "{version:?} {uri} {fields:?}");
        }
    }

    #[test]
    fn names_without_port_and_root_dot() {
        for (host, wanted) in
            [("a", "a"), ("A.b.:80", "A.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")]
        {
            assert_eq!(name(host), wanted);
        }
    }

    #[test]
    fn agreement() {
        assert!(agree(b"a.example", b"A.Example", 80));
        assert!(agree(b"a.example:80", b"a.example", 80));
        assert!(!agree(b"a.example:80", b"a.example", 443));
        assert!(!agree(b"a.example", b"a.example.", 80));
        assert!(!agree(b"a.example", b"b.example", 80));
        assert!(!agree(b"a.example", b"a.example@b", 80));
    }
}
