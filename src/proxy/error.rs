//! The one place where a failure becomes a status, a reason for log and metrics, and an answer.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use thiserror::Error;

use super::body::{ResponseBody, UploadFailure};
use super::host::BadHost;
use super::record::RequestRecord;
use crate::framing::Violation;
use crate::upstream;

/// Why a request has no answer of a backend.
#[derive(Debug, Error)]
pub enum Failure {
    /// It names no host that we can go by.
    #[error("{0}")]
    Host(#[from] BadHost),
    /// Its head is against the rules; found after parsing, under HTTP/2.
    #[error("{}", .0.reason())]
    Head(Violation),
    /// Its target is no path of ours.
    #[error("{0}")]
    Target(&'static str),
    /// No route matches.
    #[error("no route for this host and path")]
    NoRoute,
    /// The host belongs to another certificate than the handshake chose (RFC 9110 section 15.5.20).
    #[error("this connection is for another host")]
    Misdirected,
    /// CONNECT is for forward proxies.
    #[error("CONNECT is not supported")]
    Connect,
    /// TRACE would show a web page the cookies and credentials that it may not see (RFC 9110 section
    /// 9.3.8), and nobody needs it.
    #[error("TRACE is not supported")]
    Trace,
    /// An extended CONNECT for another protocol than WebSocket (RFC 8441 section 5).
    #[error("this protocol is not supported")]
    Protocol,
    /// The body is announced larger than the route allows.
    #[error("the request body is larger than allowed")]
    TooLarge,
    /// The upload failed on the client's side.
    #[error("{0}")]
    Upload(UploadFailure),
    /// The request has been here before.
    #[error("the request runs in a loop of proxies")]
    Loop,
    /// Too many requests are in flight in the process.
    #[error("too many requests at once")]
    Overload,
    /// The pool has nobody to take it.
    #[error("no backend is available")]
    NoBackend,
    /// So many requests have failed that the pool's circuit breaker is open.
    #[error("too many requests have failed lately")]
    CircuitOpen {
        /// When it makes sense to ask again.
        retry_after: Duration,
    },
    /// Every backend is at its limit, and the line for a slot is full.
    #[error("too many requests are waiting")]
    QueueFull,
    /// Every backend was at its limit for too long.
    #[error("no backend had room in time")]
    QueueTimeout,
    /// The route's total time is over.
    #[error("the request took too long")]
    Deadline,
    /// The same, but most of it had gone before the backend that had the rest was asked.
    #[error("the request took too long")]
    LateStart,
    /// The same, while more of it was awaited from the client.
    #[error("the request took too long")]
    SlowRequest,
    /// The backend sent no response head in time.
    #[error("the backend did not answer in time")]
    ResponseTimeout,
    /// The backend took nothing more of the request body for `body_idle_timeout`.
    #[error("the backend stopped taking the request")]
    UploadStalled,
    /// The attempt failed on its way.
    #[error("{}", upstream_text(.0))]
    Upstream(#[from] upstream::Error),
    /// The backend speaks HTTP/2 only, over which we ask for no WebSocket, or answers as if it had been
    /// asked for a page: no fault of its, since any client may ask anybody.
    #[error("the backend takes no WebSocket here")]
    NoWebSocket,
    /// The answer to a WebSocket handshake does not fit its question.
    #[error("the backend answered the handshake wrongly")]
    Handshake,
}

impl Failure {
    /// The status for log and metrics, and for the client, who never sees a 499.
    pub fn status(&self) -> StatusCode {
        match self {
            Failure::Host(_)
            | Failure::Target(_)
            | Failure::Upstream(upstream::Error::Target(_)) => StatusCode::BAD_REQUEST,
            Failure::Head(violation) => violation.status(),
            Failure::NoRoute => StatusCode::NOT_FOUND,
            Failure::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Failure::Connect | Failure::Trace => StatusCode::METHOD_NOT_ALLOWED,
            Failure::Protocol => StatusCode::NOT_IMPLEMENTED,
            Failure::TooLarge | Failure::Upload(UploadFailure::TooLarge) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Failure::Upload(UploadFailure::TooSlow) => StatusCode::REQUEST_TIMEOUT,
            Failure::Upload(UploadFailure::TrailersTooLarge) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Failure::Upload(UploadFailure::Malformed | UploadFailure::GivenUp) => {
                StatusCode::BAD_REQUEST
            }
            Failure::Upload(UploadFailure::Left) => client_left(),
            Failure::Loop => StatusCode::LOOP_DETECTED,
            Failure::Overload
            | Failure::NoBackend
            | Failure::CircuitOpen { .. }
            | Failure::QueueFull
            | Failure::QueueTimeout
            | Failure::Upstream(upstream::Error::OutOfFiles) => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Deadline
            | Failure::LateStart
            | Failure::SlowRequest
            | Failure::ResponseTimeout
            | Failure::UploadStalled => StatusCode::GATEWAY_TIMEOUT,
            Failure::Upstream(upstream::Error::ConnectTimeout) => StatusCode::GATEWAY_TIMEOUT,
            Failure::Upstream(_) | Failure::NoWebSocket | Failure::Handshake => {
                StatusCode::BAD_GATEWAY
            }
        }
    }

    /// A word for log and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Host(_) => "bad_host",
            Failure::Head(violation) => violation.label(),
            Failure::Target(_) => "bad_target",
            Failure::NoRoute => "no_route",
            Failure::Misdirected => "misdirected",
            Failure::Connect => "connect_method",
            Failure::Trace => "trace_method",
            Failure::Protocol => "connect_protocol",
            Failure::TooLarge | Failure::Upload(UploadFailure::TooLarge) => "body_too_large",
            Failure::Upload(UploadFailure::TooSlow) => "body_timeout",
            Failure::Upload(UploadFailure::TrailersTooLarge) => "trailers_too_large",
            Failure::Upload(UploadFailure::Malformed | UploadFailure::GivenUp) => "body_malformed",
            Failure::Upload(UploadFailure::Left) => "client_left",
            Failure::Loop => "loop",
            Failure::Overload => "overload",
            Failure::NoBackend => "no_backend",
            Failure::CircuitOpen { .. } => "circuit_open",
            Failure::QueueFull => "queue_full",
            Failure::QueueTimeout => "queue_timeout",
            Failure::Deadline | Failure::LateStart | Failure::SlowRequest => "timeout",
            Failure::ResponseTimeout => "response_timeout",
            Failure::UploadStalled => "body_idle_timeout",
            Failure::Upstream(error) => upstream_reason(error),
            Failure::NoWebSocket => "no_websocket",
            Failure::Handshake => "bad_handshake",
        }
    }

    /// Whether it is a backend's: it was asked, and cannot be reached, gives no answer or a wrong one.
    pub fn blames_backend(&self) -> bool {
        match self {
            Failure::Upstream(error) => !matches!(
                error,
                upstream::Error::OutOfFiles
                    | upstream::Error::NoHttp1
                    | upstream::Error::Target(_)
                    | upstream::Error::RequestBody
            ),
            Failure::ResponseTimeout
            | Failure::UploadStalled
            | Failure::Handshake
            | Failure::Deadline => true,
            _ => false,
        }
    }

    /// Whether there was nobody in the pool to be asked, rather than somebody who failed: what a
    /// route's `fallback` is for.
    pub fn is_for_want_of_backends(&self) -> bool {
        match self {
            Failure::NoBackend
            | Failure::CircuitOpen { .. }
            | Failure::QueueFull
            | Failure::QueueTimeout => true,
            Failure::Upstream(error) => matches!(
                error,
                upstream::Error::Unresolved
                    | upstream::Error::Connect(_)
                    | upstream::Error::ConnectTimeout
                    | upstream::Error::Tls(_)
            ),
            _ => false,
        }
    }
}

/// Methods that everybody knows; others pass too.
const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// The status for a head that did not come in time.
pub const SLOW_HEAD: StatusCode = StatusCode::REQUEST_TIMEOUT;

/// The status, in log and metrics, of what was against the rules of HTTP/2.
pub const AGAINST_PROTOCOL: StatusCode = StatusCode::BAD_REQUEST;

/// 499, which stands in log and metrics for a client that left before there was a status.
pub fn client_left() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// A word for what went wrong at a backend.
pub fn upstream_reason(error: &upstream::Error) -> &'static str {
    match error {
        upstream::Error::Unresolved => "unresolved",
        upstream::Error::Connect(_) => "connect",
        upstream::Error::ConnectTimeout => "connect_timeout",
        upstream::Error::OutOfFiles => "out_of_files",
        upstream::Error::Tls(_) => "upstream_tls",
        upstream::Error::NoHttp1 => "no_http1",
        upstream::Error::Stale => "stale",
        upstream::Error::Reset(_) => "reset",
        upstream::Error::RefusedStream => "refused_stream",
        upstream::Error::Malformed(_) => "malformed_response",
        upstream::Error::Target(_) => "bad_target",
        upstream::Error::RequestBody => "body_broken",
    }
}

/// What the client is told of it: no more than whether there was an answer.
fn upstream_text(error: &upstream::Error) -> &'static str {
    match error {
        upstream::Error::Malformed(_) => "the backend's answer is malformed",
        upstream::Error::Reset(_) | upstream::Error::Stale => {
            "the backend closed the connection without an answer"
        }
        upstream::Error::ConnectTimeout => "the backend could not be reached in time",
        upstream::Error::RequestBody => "the request body broke off",
        upstream::Error::Target(reason) => reason,
        _ => "the backend could not be reached",
    }
}

/// The answer to a request that failed, with its record filled in.
pub fn answer(
    failure: &Failure,
    json: bool,
    mut record: Box<RequestRecord>,
) -> Response<ResponseBody> {
    record.answered_by_us(failure.status(), failure.reason());
    // Should the client be there after all, to it this is a broken request (RFC 9112 section 8).
    let status = Some(failure.status()).filter(|status| *status != client_left());
    let status = status.unwrap_or(StatusCode::BAD_REQUEST);
    let id = record.request_id.clone();
    let id_text = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let text = if json {
        serde_json::json!({
            "error": failure.to_string(),
            "status": status.as_u16(),
            "request_id": id_text,
        })
        .to_string()
            + "\n"
    } else {
        format!("{} {}: {failure}\n", status.as_u16(), status.canonical_reason().unwrap_or(""))
    };
    let mut response = Response::new(ResponseBody::own(Bytes::from(text)));
    response.body_mut().take_record(record);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let media = if json { "application/json" } else { "text/plain; charset=utf-8" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, METHODS);
    }
    say_when(&mut response, failure);
    response
}

/// Says with a 503 after how many seconds to come back: a moment, unless more is known.
pub fn say_when(response: &mut Response<ResponseBody>, failure: &Failure) {
    if response.status() != StatusCode::SERVICE_UNAVAILABLE {
        return;
    }
    let seconds = match failure {
        Failure::CircuitOpen { retry_after } => retry_after.as_millis().div_ceil(1000).max(1),
        _ => 1,
    };
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
}

/// The answer to an OPTIONS request that is to go no further than us (RFC 9110 section 7.6.2).
pub fn options() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

/// Marks an answer as the last one of an HTTP/1 connection.
pub fn close_after(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The bare answer to bytes that are no request: a status line and nothing that a parser in between
/// could take for more.
pub fn bare(status: StatusCode) -> Rc<[u8]> {
    let reason = status.canonical_reason().unwrap_or("");
    format!(
        "HTTP/1.1 {} {reason}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        status.as_u16()
    )
    .into_bytes()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_to_blame_for_what_it_did_not_do_in_time() {
        for failure in [Failure::ResponseTimeout, Failure::UploadStalled, Failure::Deadline] {
            assert!(failure.blames_backend(), "{failure}");
        }
        for failure in [
            Failure::NoRoute,
            Failure::QueueTimeout,
            Failure::LateStart,
            Failure::SlowRequest,
            Failure::NoWebSocket,
        ] {
            assert!(!failure.blames_backend(), "{failure}");
        }
    }
}
