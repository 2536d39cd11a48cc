//! What kinds of fields a head has, found in one pass, so that nothing is looked up, or taken out,
//! that is not there.

use http::{HeaderMap, header};

use super::hop::is_hop_by_hop;
use super::{HOPS, X_REQUEST_ID, is_forwarding};

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
            match *name {
                header::ACCEPT => found.json |= mentions_json(value.as_bytes()),
                header::COOKIE => found.cookies += 1,
                header::CONTENT_LENGTH => found.content_length = true,
                header::CONTENT_TYPE => {
                    found.grpc = is_grpc(value.as_bytes());
                    found.event_stream = is_stream(value.as_bytes());
                }
                header::EXPECT => found.expect = true,
                header::UPGRADE => (found.upgrade, found.hop_by_hop) = (true, true),
                _ => match name.as_str() {
                    text if is_hop_by_hop(text) => found.hop_by_hop = true,
                    text if is_forwarding(text) => found.forwarding = true,
                    text if text == X_REQUEST_ID.as_str() => found.request_id = true,
                    text if text == HOPS.as_str() => found.hops = true,
                    _ => {}
                },
            }
        }
        found
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type.starts_with(b"application/grpc")
}

/// Whether a content type is that of a stream: see [`Survey::event_stream`].
pub(super) fn is_stream(content_type: &[u8]) -> bool {
    is_grpc(content_type) || content_type.starts_with(b"text/event-stream")
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
