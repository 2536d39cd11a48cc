//! The kinds of fields that anybody here looks at, told by name.

use super::{HOPS, SHADOW, X_REQUEST_ID};
use crate::framing::field::same_but_underscores;
use crate::framing::known::is;

/// What a field is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Accept`.
    Accept,
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Content-Type`.
    ContentType,
    /// `Cookie`.
    Cookie,
    /// `Date`.
    Date,
    /// `Expect`.
    Expect,
    /// It tells where a request comes from: see `is_forwarding`.
    Forwarding,
    /// `Grpc-Status`.
    GrpcStatus,
    /// It ends here, as `is_hop_by_hop` has it, and is none of the others.
    HopByHop,
    /// Our own trace of a request's way.
    Hops,
    /// `Host`.
    Host,
    /// `Max-Forwards`.
    MaxForwards,
    /// `X-Request-Id`.
    RequestId,
    /// `Trailer`.
    Trailer,
    /// `Upgrade`.
    Upgrade,
    /// Nothing that anybody looks at. Whoever comes to look at a field gives it a kind.
    Other,
}

impl Kind {
    /// By its name, in any case. By length first, since most names end there.
    pub fn of(name: &[u8]) -> Kind {
        match name.len() {
            4 if is(name, b"host") => Kind::Host,
            4 if is(name, b"date") => Kind::Date,
            6 if is(name, b"accept") => Kind::Accept,
            6 if is(name, b"cookie") => Kind::Cookie,
            6 if is(name, b"expect") => Kind::Expect,
            7 if is(name, b"trailer") => Kind::Trailer,
            7 if is(name, b"upgrade") => Kind::Upgrade,
            10 if is(name, b"connection") => Kind::Connection,
            11 if is(name, b"grpc-status") => Kind::GrpcStatus,
            12 if is(name, b"content-type") => Kind::ContentType,
            12 if is(name, b"max-forwards") => Kind::MaxForwards,
            12 if is(name, b"x-request-id") => Kind::RequestId,
            13 if is(name, b"tidegate-hops") => Kind::Hops,
            14 if is(name, b"content-length") => Kind::ContentLength,
            _ if is_hop_by_hop(name) => Kind::HopByHop,
            _ if is_forwarding(name) => Kind::Forwarding,
            _ => Kind::Other,
        }
    }
}

/// True for fields that speak about one connection only (RFC 9110 section 7.6.1), and for those of
/// proxy authentication.
pub(super) fn is_hop_by_hop(name: &[u8]) -> bool {
    match name.len() {
        2 => is(name, b"te"),
        7 => is(name, b"upgrade"),
        10 => is(name, b"connection") || is(name, b"keep-alive"),
        14 => is(name, b"http2-settings"),
        16 => is(name, b"proxy-connection"),
        17 => is(name, b"transfer-encoding"),
        18 => is(name, b"proxy-authenticate"),
        19 => is(name, b"proxy-authorization"),
        _ => false,
    }
}

/// True for fields that tell where a request comes from, in any spelling that a backend might
/// take for one: CGI-like interfaces read `_` as `-`. Of the request's name and trace only the other
/// spellings: the plain ones are looked at elsewhere.
pub(super) fn is_forwarding(name: &[u8]) -> bool {
    const FAMILY: &str = "x-forwarded-";
    let is_misspelt = |listed: &str| same_but_underscores(name, listed) && name.contains(&b'_');
    match name.first() {
        Some(b'f' | b'F') => is(name, b"forwarded"),
        Some(b'x' | b'X') => {
            same_but_underscores(name, "x-real-ip")
                || is_misspelt(X_REQUEST_ID.as_str())
                || name.get(..FAMILY.len()).is_some_and(|start| same_but_underscores(start, FAMILY))
        }
        Some(b't' | b'T') => {
            is_misspelt(HOPS.as_str()) || same_but_underscores(name, SHADOW.as_str())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_fields_in_every_spelling() {
        for name in [
            "forwarded",
            "Forwarded",
            "X-Forwarded-For",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_ssl",
            "x_real-ip",
            "x_request_id",
            "tidegate_hops",
            "tidegate-shadow",
            "tidegate_shadow",
        ] {
            assert!(is_forwarding(name.as_bytes()), "{name}");
        }
        for name in [
            "from",
            "x-forwarde",
            "x-forward-for",
            "x-real-ipx",
            "x-request-id",
            "tidegate-hops",
            "te",
            "host",
        ] {
            assert!(!is_forwarding(name.as_bytes()), "{name}");
        }
    }
    #[test]
    fn kinds_in_any_case() {
        for (name, kind) in [
            ("Host", Kind::Host),
            ("COOKIE", Kind::Cookie),
            ("connection", Kind::Connection),
            ("Keep-Alive", Kind::HopByHop),
            ("TE", Kind::HopByHop),
            ("X-Request-ID", Kind::RequestId),
            ("x_request_id", Kind::Forwarding),
            ("X-Forwarded-For", Kind::Forwarding),
            ("User-Agent", Kind::Other),
            ("hos", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(Kind::of(name.as_bytes()), kind, "{name}");
        }
    }
}
