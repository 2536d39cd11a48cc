//! Which fields of an answer nobody here looks at, so that they can go from backend to client as they
//! came.

use http::Version;

use super::hop::is_hop_by_hop;
use super::survey::is_stream;
use super::{HOPS, X_REQUEST_ID, split};
use crate::framing::plain::{Fate, Sieve};

/// The sieve for the answer to a request of this version; `switches` is whether it asks for another
/// protocol.
pub fn for_answer_to(version: Version, switches: bool) -> Option<Sieve> {
    (version != Version::HTTP_2 && !switches).then_some(of_answer)
}

/// What is to be done with a field of an answer.
///
/// By length first, since most names end there. Whoever comes to look at a field of an answer lets it
/// be known here.
fn of_answer(name: &[u8], value: &[u8], length_is_known: bool) -> Fate {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match name.len() {
        4 if is("date") => Fate::Date,
        10 if is("connection") => match split(value).all(is_about_connection) {
            true => Fate::Drop,
            false => Fate::Telling,
        },
        // What frames the body says it again.
        14 if is("content-length") && length_is_known => Fate::Drop,
        14 if is("content-length") => Fate::Known,
        12 if is("content-type") && !is_stream(value) => Fate::Plain,
        12 if is("content-type") => Fate::Known,
        7 if is("trailer") => Fate::Known,
        11 if is("grpc-status") => Fate::Known,
        12 if is(X_REQUEST_ID.as_str()) => Fate::Known,
        13 if is(HOPS.as_str()) => Fate::Known,
        2 | 7 | 10 | 14 | 16..=19 if ends_here(name) => Fate::Known,
        _ => Fate::Plain,
    }
}

/// What says only whether the connection is kept, which is said anew to the client.
fn is_about_connection(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
}

/// Whether it speaks of one connection only; for names that are short enough.
fn ends_here(name: &[u8]) -> bool {
    let mut lower = [0; 19];
    let Some(lower) = lower.get_mut(..name.len()) else { return false };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).is_ok_and(is_hop_by_hop)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::proxy::headers::survey::Survey;

    #[test]
    fn whatever_an_answer_is_judged_by_is_known() {
        let judged = [
            "Keep-Alive",
            "HTTP2-Settings",
            "Proxy-Authenticate",
            "proxy-authorization",
            "PROXY-CONNECTION",
            "te",
            "Transfer-Encoding",
            "upgrade",
            "trailer",
            "grpc-status",
            "X-Request-ID",
            "Tidegate-Hops",
        ];
        for name in judged {
            assert_eq!(of_answer(name.as_bytes(), b"x", true), Fate::Known, "{name}");
        }
        assert_eq!(of_answer(b"Content-Length", b"1", true), Fate::Drop);
        assert_eq!(of_answer(b"Content-Length", b"1", false), Fate::Known);
    }

    #[test]
    fn what_is_plain_would_change_nothing() {
        let plain = [
            ("server", "nginx"),
            ("content-type", "text/html"),
            ("content-encoding", "gzip"),
            ("set-cookie", "a=b"),
            ("etag", "x"),
            ("x-forwarded-for", "1"),
            ("accept-ranges", "bytes"),
        ];
        for (name, value) in plain {
            assert_eq!(of_answer(name.as_bytes(), value.as_bytes(), true), Fate::Plain, "{name}");
            let map = [(HeaderName::from_static(name), HeaderValue::from_static(value))];
            let survey = Survey::of(&map.into_iter().collect());
            let wanted = Survey { forwarding: survey.forwarding, ..Survey::default() };
            assert_eq!(survey, wanted, "{name}");
        }
        for stream in ["text/event-stream", "application/grpc+proto"] {
            assert_eq!(of_answer(b"content-type", stream.as_bytes(), true), Fate::Known);
        }
    }

    #[test]
    fn connection_may_tell_of_other_fields() {
        let table = [
            ("keep-alive", Fate::Drop),
            ("Close", Fate::Drop),
            ("close, X-Secret", Fate::Telling),
            ("upgrade", Fate::Telling),
        ];
        for (value, fate) in table {
            assert_eq!(of_answer(b"Connection", value.as_bytes(), true), fate, "{value}");
        }
    }
}
