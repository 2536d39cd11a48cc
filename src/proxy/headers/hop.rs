//! Hop-by-hop fields (RFC 9110 section 7.6.1) and upgrades (section 7.8).

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, MAX_FORWARDS, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, request};
use smallvec::SmallVec;

use super::kind::{is_forwarding, is_hop_by_hop};
use super::{HOPS, X_REQUEST_ID, members, remove, split};
use crate::framing::field::may_be_trailer;
use crate::proxy::framing::is_upgradable;

/// What is put back after stripping.
#[derive(Debug, Default)]
pub struct Keep {
    /// `te: trailers`, if it was there. Only towards HTTP/2, where it needs no Connection field and
    /// where gRPC servers insist on it.
    pub te_trailers: bool,
    /// The protocol that both sides agreed to change to, or are about to.
    pub upgrade: Option<HeaderValue>,
}

/// Takes out the fields that speak about one connection only, in either direction: those named by
/// RFC 9110, those that `Connection` lists, and the proxy authentication fields, which end at the
/// proxy that the client knows of.
///
/// `Connection` cannot list away what frames and routes the message, nor what we set ourselves.
/// `Trailer` stays: it announces, and only trailers that were announced are sent.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, keep: Keep) {
    let trailers = keep.te_trailers && wants_trailers(headers);
    remove_listed(headers);
    remove(headers, is_hop_by_hop);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = keep.upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Takes them out of an answer, but for the protocols one of which it says is needed (RFC 9110 section
/// 15.5.22): without them that says nothing.
pub fn strip_from_answer(status: StatusCode, headers: &mut HeaderMap) {
    let needed = (status == StatusCode::UPGRADE_REQUIRED)
        .then(|| listed(members(headers, &UPGRADE)))
        .flatten();
    strip_hop_by_hop(headers, Keep::default());
    if let Some(protocols) = needed {
        headers.insert(UPGRADE, protocols);
    }
}

/// Takes out of trailers what must stand in a head (RFC 9110 section 6.5.1).
pub fn strip_forbidden_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| !may_be_trailer(name));
}

fn remove_listed(headers: &mut HeaderMap) {
    // The values are shared, not copied; and those that list no field, nearly all, are not even
    // taken.
    let listing: SmallVec<[HeaderValue; 2]> = headers
        .get_all(CONNECTION)
        .iter()
        .filter(|value| split(value.as_bytes()).any(|option| !is_plain_option(option)))
        .cloned()
        .collect();
    for value in listing {
        for option in split(value.as_bytes()) {
            if let Ok(name) = HeaderName::from_bytes(option)
                && !is_protected(&name)
            {
                headers.remove(name);
            }
        }
    }
}

/// Connection options that are no fields, or that are taken out anyway.
fn is_plain_option(option: &[u8]) -> bool {
    [&b"keep-alive"[..], b"close", b"upgrade", b"te"]
        .iter()
        .any(|plain| option.eq_ignore_ascii_case(plain))
}

fn is_protected(name: &HeaderName) -> bool {
    *name == HOST
        || *name == CONTENT_LENGTH
        || *name == X_REQUEST_ID
        || *name == HOPS
        || is_forwarding(name.as_str().as_bytes())
}

/// Counts a hop of an OPTIONS request down (RFC 9110 section 7.6.2). False if it may go no further.
/// What is no number counts nothing.
pub fn count_down(headers: &mut HeaderMap) -> bool {
    let Some(value) = headers.get_mut(MAX_FORWARDS) else { return true };
    let hops: Option<u64> = value.to_str().ok().and_then(|digits| digits.parse().ok());
    match hops {
        Some(0) => return false,
        Some(hops) => *value = HeaderValue::from(hops - 1),
        None => {}
    }
    true
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    members(headers, &TE).any(|coding| {
        let name = coding.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"trailers")
    })
}

/// The protocols that this request asks to change to, as far as we forward such a wish.
///
/// Only HTTP/1.1 can ask (HTTP/1.0 is to be ignored, HTTP/2 has its own way), with `upgrade` among
/// the Connection options. Other versions of HTTP, and TLS, are left out of the list: over them
/// further requests would go past every rule.
pub fn upgrade_of(parts: &request::Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 {
        return None;
    }
    let first = parts.headers.get(UPGRADE)?;
    if !members(&parts.headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let mut forwarded = members(&parts.headers, &UPGRADE).filter(|member| is_upgradable(member));
    let (only, next) = (forwarded.next()?, forwarded.next());
    if next.is_none() && only == first.as_bytes() {
        return Some(first.clone());
    }
    listed(std::iter::once(only).chain(next).chain(forwarded))
}

/// A list of these members, if there are any.
fn listed<'a>(members: impl Iterator<Item = &'a [u8]>) -> Option<HeaderValue> {
    let list = members.collect::<Vec<_>>().join(&b", "[..]);
    HeaderValue::try_from(list).ok().filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{map, names};
    use super::*;
    use crate::framing::Limits;
    use crate::proxy::framing::{Phase, Scanner};

    fn stripped(lines: &[(&str, &str)], keep: Keep) -> Vec<String> {
        let mut headers = map(lines);
        strip_hop_by_hop(&mut headers, keep);
        names(&headers)
    }

    #[test]
    fn hop_by_hop_fields_go() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
        let table: [Row<'_>; 12] = [
            ("nothing to do", &[("host", "a"), ("accept", "*/*")], &["accept", "host"]),
            ("keep-alive", &[("connection", "keep-alive"), ("keep-alive", "5")], &[]),
            (
                "named by RFC 9110",
                &[
                    ("connection", "close"),
                    ("proxy-connection", "close"),
                    ("te", "trailers"),
                    ("transfer-encoding", "chunked"),
                    ("upgrade", "websocket"),
                    ("proxy-authorization", "Basic x"),
                    ("proxy-authenticate", "Basic"),
                ],
                &[],
            ),
            ("trailer stays", &[("trailer", "x"), ("connection", "te")], &["trailer"]),
            (
                "listed",
                &[("connection", "close, X-One ,x-two"), ("x-one", "1"), ("x-two", "2")],
                &[],
            ),
            (
                "listed on two lines",
                &[
                    ("connection", "x-one"),
                    ("connection", "x-two"),
                    ("x-one", "1"),
                    ("x-two", "2"),
                    ("x-three", "3"),
                ],
                &["x-three"],
            ),
            ("listed, standard name", &[("connection", "Cookie"), ("cookie", "a=b")], &[]),
            (
                "not to be listed away",
                &[
                    (
                        "connection",
                        "host, content-length, x-forwarded-for, forwarded, x-real-ip, \
                                x-request-id, tidegate-hops",
                    ),
                    ("host", "a"),
                    ("content-length", "1"),
                    ("x-forwarded-for", "::1"),
                    ("forwarded", "for=x"),
                    ("x-real-ip", "::1"),
                    ("x-request-id", "1"),
                    ("tidegate-hops", "a"),
                ],
                &[
                    "content-length",
                    "forwarded",
                    "host",
                    "tidegate-hops",
                    "x-forwarded-for",
                    "x-real-ip",
                    "x-request-id",
                ],
            ),
            ("listed, but not there", &[("connection", "x-one"), ("x-two", "2")], &["x-two"]),
            ("no names", &[("connection", ",, @, \"x-two\", ("), ("x-two", "2")], &["x-two"]),
            (
                "all values of a listed field",
                &[("connection", "x-one"), ("x-one", "1"), ("x-one", "2")],
                &[],
            ),
            (
                "h2c",
                &[
                    ("connection", "upgrade, http2-settings"),
                    ("upgrade", "h2c"),
                    ("http2-settings", "x"),
                ],
                &[],
            ),
        ];
        for (name, lines, left) in table {
            assert_eq!(stripped(lines, Keep::default()), left, "{name}");
        }
    }

    #[test]
    fn trailers_that_belong_into_the_head_go() {
        let mut trailers = map(&[
            ("grpc-status", "0"),
            ("content-length", "5"),
            ("set-cookie", "a=b"),
            ("x-sum", "1"),
            ("transfer-encoding", "chunked"),
            ("connection", "x-sum"),
        ]);
        strip_forbidden_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["grpc-status", "x-sum"]);
    }

    #[test]
    fn te_keeps_trailers_only() {
        for (te, kept) in [
            ("trailers", true),
            ("gzip, Trailers;q=0.5", true),
            ("gzip", false),
            ("trailersx", false),
        ] {
            let mut headers = map(&[("connection", "te"), ("te", te)]);
            strip_hop_by_hop(&mut headers, Keep { te_trailers: true, upgrade: None });
            let value = headers.get(TE).map(HeaderValue::as_bytes);
            assert_eq!(value, kept.then_some(&b"trailers"[..]), "{te}");
        }
    }

    #[test]
    fn an_answer_keeps_the_protocols_that_it_needs() {
        let lines =
            [("connection", "upgrade"), ("upgrade", "a/1"), ("upgrade", "b,, c"), ("x", "1")];
        for (status, left) in [(426, &["upgrade", "x"][..]), (200, &["x"]), (400, &["x"])] {
            let mut headers = map(&lines);
            strip_from_answer(StatusCode::from_u16(status).unwrap(), &mut headers);
            assert_eq!(names(&headers), left, "{status}");
            let needed = headers.get(UPGRADE).map(HeaderValue::as_bytes);
            assert_eq!(needed, (status == 426).then_some(&b"a/1, b, c"[..]));
        }
        let mut headers = map(&[("connection", "upgrade")]);
        strip_from_answer(StatusCode::UPGRADE_REQUIRED, &mut headers);
        assert_eq!(names(&headers), [""; 0]);
    }

    #[test]
    fn an_upgrade_is_put_back() {
        let mut headers = map(&[
            ("connection", "keep-alive, upgrade, x-one"),
            ("upgrade", "h2c, websocket"),
            ("x-one", "1"),
        ]);
        let upgrade = Some(HeaderValue::from_static("websocket"));
        strip_hop_by_hop(&mut headers, Keep { te_trailers: false, upgrade });
        assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    /// Whether the scanner of raw heads expects a decision, on which somebody must come.
    fn scanner_waits(version: Version, connection: &str, upgrade: &str) -> bool {
        let mut scanner = Scanner::new(Limits { max_header_bytes: 1024, max_headers: 10 });
        let head = format!(
            "GET / {version:?}\r\nHost: a\r\nConnection: {connection}\r\nUpgrade: {upgrade}\r\n\r\n"
        );
        assert_eq!(scanner.feed(head.as_bytes()).violation, None);
        scanner.phase() == Phase::Upgrade
    }

    #[test]
    fn upgrades_that_are_forwarded() {
        let (v11, v10, v2) = (Version::HTTP_11, Version::HTTP_10, Version::HTTP_2);
        let table = [
            (v11, "upgrade", "websocket", Some("websocket")),
            (v11, "keep-alive, Upgrade", "WebSocket", Some("WebSocket")),
            (v11, "upgrade", "a/1, h2c, b", Some("a/1, b")),
            (v11, "upgrade", "h2c", None),
            (v11, "upgrade", "H2C, h2, HTTP/2.0, TLS/1.2", None),
            (v11, "upgrade", "", None),
            (v11, "keep-alive", "websocket", None),
            (v11, "upgraded", "websocket", None),
            (v10, "upgrade", "websocket", None),
            (v2, "upgrade", "websocket", None),
        ];
        for (version, connection, upgrade, wanted) in table {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            parts.version = version;
            parts.headers = map(&[("connection", connection), ("upgrade", upgrade)]);
            let answer = upgrade_of(&parts);
            let answer = answer.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(answer, wanted, "{version:?} {connection} {upgrade}");
            if version != v2 {
                assert_eq!(scanner_waits(version, connection, upgrade), wanted.is_some());
            }
        }
        let (parts, ()) = http::Request::new(()).into_parts();
        assert_eq!(upgrade_of(&parts), None);
    }
}
