//! The form of a well-formed HTTP/2 request: what goes to a backend as HTTP/1.1
//! is held to the rules that the scanner has for clients who speak HTTP/1.1 themselves.

use http::header::{CONTENT_LENGTH, COOKIE, EXPECT};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, request};

use super::head::Flaw;
use crate::framing::Violation;
use crate::framing::bytes::is_target;
use crate::framing::field::is_obscured_framing;
use crate::framing::length::parse_length;
use crate::proxy::framing::check_path;
use crate::proxy::headers::X_REQUEST_ID;

/// Checks a request that is well-formed.
///
/// # Errors
/// What is wrong with it; the stream alone is refused.
pub fn check(parts: &request::Parts, max_headers: u16) -> Result<(), Violation> {
    if let Some(flaw) = parts.extensions.get::<Flaw>() {
        return Err(flaw.0);
    }
    check_target(parts)?;
    let mut fields = 0_usize;
    for (name, value) in &parts.headers {
        check_field(name, value)?;
        // Clients split cookies for the sake of compression (RFC 9113 section 8.2.3), and the name
        // of the request is there by now, whoever gave it.
        fields += usize::from(*name != COOKIE && *name != X_REQUEST_ID);
    }
    fields += usize::from(parts.headers.contains_key(COOKIE));
    if fields > usize::from(max_headers) {
        return Err(Violation::TooManyFields);
    }
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        parse_length(length.as_bytes()).ok_or(Violation::InvalidContentLength)?;
    }
    // Of several that are equal a backend gets what its parser makes of them.
    if lengths.next().is_some() { Err(Violation::RepeatedContentLength) } else { Ok(()) }
}

/// RFC 9113 section 8.3.1.
fn check_target(parts: &request::Parts) -> Result<(), Violation> {
    let is_known = |scheme: &Scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
    if parts.uri.scheme().is_some_and(|scheme| !is_known(scheme)) {
        return Err(Violation::InvalidTarget);
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes();
    let asterisk = target == b"*" && parts.method == Method::OPTIONS;
    // The visible characters of a URI and no others: no quotes, and no UTF-8.
    if !is_target(target) || (target.first() != Some(&b'/') && !asterisk) {
        return Err(Violation::InvalidTarget);
    }
    check_path(target)
}

fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), Violation> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    // RFC 9113 section 8.2.1.
    if is_space(bytes.first()) || is_space(bytes.last()) {
        return Err(Violation::SpaceAroundValue);
    }
    if is_obscured_framing(name.as_str()) {
        return Err(Violation::ObscuredFraming);
    }
    if *name == EXPECT && !bytes.eq_ignore_ascii_case(b"100-continue") {
        return Err(Violation::UnsupportedExpectation);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Request};

    use super::*;

    fn verdict(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<(), Violation> {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = method.parse().unwrap();
        parts.uri = uri.parse().unwrap();
        let pairs = fields.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        });
        parts.headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            parts.headers.append(name, value);
        });
        check(&parts, 3)
    }

    #[test]
    fn targets() {
        for (method, uri, expected) in [
            ("GET", "https://a/", Ok(())),
            ("GET", "http://a/b?c=%20", Ok(())),
            ("GET", "/b", Ok(())),
            ("OPTIONS", "*", Ok(())),
            ("GET", "*", Err(Violation::InvalidTarget)),
            ("GET", "ftp://a/", Err(Violation::InvalidTarget)),
            ("GET", "https://a/\"", Err(Violation::InvalidTarget)),
            ("GET", "https://a/\u{e4}", Err(Violation::InvalidTarget)),
            ("GET", "https://a/?\u{e4}", Err(Violation::InvalidTarget)),
            ("GET", "https://a/b/../c", Err(Violation::DotSegment)),
        ] {
            assert_eq!(verdict(method, uri, &[]), expected, "{method} {uri}");
        }
    }

    #[test]
    fn fields() {
        for (fields, expected) in [
            (&[("a", "b")][..], Ok(())),
            (&[("a", "")], Ok(())),
            (&[("a", " b")], Err(Violation::SpaceAroundValue)),
            (&[("a", "b\t")], Err(Violation::SpaceAroundValue)),
            (&[("content_length", "1")], Err(Violation::ObscuredFraming)),
            (&[("transfer_encoding", "chunked")], Err(Violation::ObscuredFraming)),
            (&[("content-length", "1")], Ok(())),
            (&[("content-length", "")], Err(Violation::InvalidContentLength)),
            (&[("content-length", "+1")], Err(Violation::InvalidContentLength)),
            (
                &[("content-length", "1"), ("content-length", "1")],
                Err(Violation::RepeatedContentLength),
            ),
            (&[("expect", "100-Continue")], Ok(())),
            (&[("expect", "magic")], Err(Violation::UnsupportedExpectation)),
            (&[("a", "1"), ("b", "2"), ("c", "3")], Ok(())),
            (&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")], Err(Violation::TooManyFields)),
            (&[("a", "1"), ("cookie", "2"), ("cookie", "3"), ("cookie", "4")], Ok(())),
        ] {
            assert_eq!(verdict("POST", "https://a/", fields), expected, "{fields:?}");
        }
    }
}
