//! Which fields nobody here looks at, so that they can go from client to backend, or back, as they
//! came.

use http::Version;

use super::kind::Kind;
use super::split;
use super::survey::{Survey, is_stream};
use crate::framing::bytes::trim;
use crate::framing::known::is;
use crate::framing::plain::{Fate, Sieve};

/// The sieve for the fields of one request.
#[derive(Debug, Default)]
pub struct RequestSieve<'a> {
    /// What kinds of fields there are, those that nobody looks at among them.
    pub found: Survey,
    /// The value of Host, which goes its own way.
    pub host: Option<&'a [u8]>,
}

impl<'a> RequestSieve<'a> {
    /// What is to be done with a field; its value is untrimmed.
    pub fn fate(&mut self, name: &[u8], value: &'a [u8]) -> Fate {
        let kind = Kind::of(name);
        self.found.note(kind, value);
        match kind {
            Kind::Host => {
                self.host = Some(trim(value));
                Fate::Drop
            }
            Kind::Connection if is_about_connection(value) => Fate::Drop,
            Kind::Connection => Fate::Telling,
            // Several become one.
            Kind::Cookie if self.found.cookies > 1 => Fate::Telling,
            // Looked for among the plain ones by the few who want them.
            Kind::Accept | Kind::Cookie | Kind::ContentType => Fate::Plain,
            Kind::Date | Kind::GrpcStatus | Kind::Other => Fate::Plain,
            _ => Fate::Known,
        }
    }
}

/// The sieve for the answer to a request of this version; `switches` is whether it asks for another
/// protocol.
pub fn for_answer_to(version: Version, switches: bool) -> Option<Sieve> {
    (version != Version::HTTP_2 && !switches).then_some(of_answer)
}

/// What is to be done with a field of an answer; its value is untrimmed.
fn of_answer(name: &[u8], value: &[u8], length_is_known: bool) -> Fate {
    match Kind::of(name) {
        Kind::Date => Fate::Date,
        Kind::Connection if is_about_connection(value) => Fate::Drop,
        Kind::Connection => Fate::Telling,
        // What frames the body says it again.
        Kind::ContentLength if length_is_known => Fate::Drop,
        Kind::ContentType if is_stream(value) => Fate::Known,
        Kind::ContentLength
        | Kind::GrpcStatus
        | Kind::HopByHop
        | Kind::Hops
        | Kind::RequestId
        | Kind::Trailer
        | Kind::Upgrade => Fate::Known,
        _ => Fate::Plain,
    }
}

/// Whether `Connection` says only whether the connection is kept, which is said anew to whoever is
/// next.
fn is_about_connection(value: &[u8]) -> bool {
    let is_plain = |option: &[u8]| is(option, b"keep-alive") || is(option, b"close");
    split(value).all(is_plain)
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

    fn fates(fields: &[(&str, &'static str)]) -> (Vec<Fate>, Survey) {
        let mut sieve = RequestSieve::default();
        let mut fate =
            |&(name, value): &(&str, &'static str)| sieve.fate(name.as_bytes(), value.as_bytes());
        let fates = fields.iter().map(&mut fate).collect();
        (fates, sieve.found)
    }

    #[test]
    fn whatever_a_request_is_judged_by_is_known() {
        let judged = [
            "Content-Length",
            "expect",
            "TE",
            "Transfer-Encoding",
            "upgrade",
            "Keep-Alive",
            "HTTP2-Settings",
            "Proxy-Authorization",
            "Max-Forwards",
            "Trailer",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_proto",
            "X-Real_IP",
            "X-Request-ID",
            "X_Request_Id",
            "Tidegate-Hops",
            "Tidegate_Hops",
            "tidegate-shadow",
        ];
        for name in judged {
            assert_eq!(fates(&[(name, "1")]).0, [Fate::Known], "{name}");
        }
    }

    #[test]
    fn host_goes_its_own_way() {
        let mut sieve = RequestSieve::default();
        assert_eq!(sieve.fate(b"HOST", b"a.example"), Fate::Drop);
        assert_eq!(sieve.host, Some(&b"a.example"[..]));
    }

    #[test]
    fn what_nobody_looks_at_is_plain_and_noted() {
        let browser = [("User-Agent", "x"), ("Accept", "application/json"), ("Cookie", "a=b")];
        let (fates, found) = fates(&browser);
        assert_eq!(fates, [Fate::Plain; 3]);
        assert_eq!(found, Survey { json: true, cookies: 1, ..Survey::default() });
    }

    #[test]
    fn what_becomes_of_a_request_may_hang_on_several_fields() {
        let plain = [Fate::Plain, Fate::Telling];
        assert_eq!(fates(&[("cookie", "a=b"), ("Cookie", "c=d")]).0, plain, "they are joined");
        for (value, fate) in [("close", Fate::Drop), ("x-secret, close", Fate::Telling)] {
            let (fates, found) = fates(&[("connection", value)]);
            assert_eq!((fates, found.hop_by_hop), (vec![fate], true), "{value}");
        }
    }
}
