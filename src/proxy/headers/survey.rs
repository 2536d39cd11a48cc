//! What kinds of fields a head has, found in one pass, so that nothing is looked up, or taken out,
//! that is not there.

use http::HeaderMap;

use super::kind::Kind;
use crate::framing::bytes::trim;

/// The kinds of fields that decide what is to be done about a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Fields that end here: see [`super::hop::strip_hop_by_hop`].
    pub hop_by_hop: bool,
    /// `Upgrade`.
    pub upgrade: bool,
    /// Fields that tell where a request comes from.
    pub forwarding: bool,
    /// `Expect`.
    pub expect: bool,
    /// `Content-Length`.
    pub content_length: bool,
    /// Its body is a stream of events that may be far apart, rather than a document: server-sent
    /// events, or the messages of gRPC. Their pauses are those of a tunnel.
    pub event_stream: bool,
    /// It is gRPC.
    pub grpc: bool,
    /// `Accept` speaks of JSON, somehow.
    pub json: bool,
    /// Lines of `Cookie`.
    pub cookies: u32,
    /// Our own trace of a request's way.
    pub hops: bool,
    /// `X-Request-Id`.
    pub request_id: bool,
}

impl Survey {
    /// Looks at every field once.
    pub fn of(headers: &HeaderMap) -> Survey {
        let mut found = Survey::default();
        for (name, value) in headers {
            found.note(Kind::of(name.as_str().as_bytes()), value.as_bytes());
        }
        found
    }

    /// Takes in one field.
    pub(super) fn note(&mut self, kind: Kind, value: &[u8]) {
        match kind {
            Kind::Accept => self.json |= mentions_json(value),
            Kind::Connection | Kind::HopByHop => self.hop_by_hop = true,
            Kind::ContentLength => self.content_length = true,
            Kind::ContentType => {
                self.grpc = is_grpc(value);
                self.event_stream = is_stream(value);
            }
            Kind::Cookie => self.cookies += 1,
            Kind::Expect => self.expect = true,
            Kind::Forwarding => self.forwarding = true,
            Kind::Hops => self.hops = true,
            Kind::RequestId => self.request_id = true,
            Kind::Upgrade => (self.upgrade, self.hop_by_hop) = (true, true),
            Kind::Date
            | Kind::GrpcStatus
            | Kind::Host
            | Kind::MaxForwards
            | Kind::Trailer
            | Kind::Other => {}
        }
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    trim(content_type).starts_with(b"application/grpc")
}

/// Whether a content type is that of a stream: see [`Survey::event_stream`].
pub(super) fn is_stream(content_type: &[u8]) -> bool {
    is_grpc(content_type) || trim(content_type).starts_with(b"text/event-stream")
}

fn mentions_json(accept: &[u8]) -> bool {
    memchr::memchr2_iter(b'j', b'J', accept)
        .any(|at| accept[at..].get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"json")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    #[test]
    fn nothing_is_found_in_plain_fields() {
        let headers = map(&[("accept", "*/*"), ("user-agent", "x"), ("x-custom", "1")]);
        assert_eq!(Survey::of(&headers), Survey::default());
    }

    #[test]
    fn values_that_matter_are_read() {
        let table = [
            ("content-type", "text/event-stream; charset=utf-8", true, false),
            ("content-type", "application/grpc+proto", true, false),
            ("content-type", "application/json", false, false),
            ("accept", "text/html, application/vnd.api+JSON", false, true),
            ("accept", "image/jpeg, */*", false, false),
        ];
        for (name, value, event_stream, json) in table {
            let grpc = value.contains("grpc");
            let wanted = Survey { event_stream, grpc, json, ..Survey::default() };
            assert_eq!(Survey::of(&map(&[(name, value)])), wanted, "{name}: {value}");
        }
    }

    #[test]
    fn every_kind_is_found() {
        let none = Survey::default();
        let table = [
            ("connection", Survey { hop_by_hop: true, ..none }),
            ("transfer-encoding", Survey { hop_by_hop: true, ..none }),
            ("upgrade", Survey { hop_by_hop: true, upgrade: true, ..none }),
            ("x_forwarded_for", Survey { forwarding: true, ..none }),
            ("forwarded", Survey { forwarding: true, ..none }),
            ("expect", Survey { expect: true, ..none }),
            ("content-length", Survey { content_length: true, ..none }),
            ("tidegate-hops", Survey { hops: true, ..none }),
            ("x-request-id", Survey { request_id: true, ..none }),
        ];
        for (name, wanted) in table {
            assert_eq!(Survey::of(&map(&[(name, "x")])), wanted, "{name}");
        }
        let cookies = map(&[("cookie", "a=b"), ("cookie", "c=d")]);
        assert_eq!(Survey::of(&cookies).cookies, 2);
    }
}
