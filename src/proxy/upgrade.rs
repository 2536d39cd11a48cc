//! Switching protocols: HTTP/1.1 Upgrade (RFC 9110 section 7.8) and WebSocket over HTTP/2 (RFC 8441).
//!
//! Towards the backend both are an HTTP/1.1 request with `Upgrade` on a connection of its own; what
//! differs is how the client asks and how it is answered.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderValue, Method, Response, StatusCode, Version, request};

use super::body::{Hold, Incoming, ResponseBody};
use super::error::Failure;
use super::headers::X_REQUEST_ID;
use super::headers::hop::{self, Keep, upgrade_of};
use super::headers::survey::Survey;
use super::record::RequestRecord;
use super::service::unmark;
use super::tunnel::{self, ClientEnd, Tunnel};
use super::{http2, websocket};
use crate::upstream::http1;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// A client's wish for another protocol.
#[derive(Debug)]
pub enum Wish {
    /// `Upgrade` under HTTP/1.1.
    Http1 {
        /// The value of `Upgrade`.
        protocol: HeaderValue,
    },
    /// Extended CONNECT for a WebSocket under HTTP/2.
    WebSocketOverHttp2 {
        /// `websocket`.
        protocol: HeaderValue,
        /// The stream, once it has been answered.
        stream: http2::Socket,
    },
}

impl Wish {
    /// The protocol to ask the backend for.
    pub fn protocol(&self) -> &HeaderValue {
        match self {
            Wish::Http1 { protocol } | Wish::WebSocketOverHttp2 { protocol, .. } => protocol,
        }
    }

    /// Whether a backend that speaks HTTP/2 only may answer as if it had not been asked (RFC 9110
    /// section 7.8). To who wants a WebSocket any such answer would be a riddle.
    pub fn is_optional(&self) -> bool {
        match self {
            Wish::Http1 { protocol } => !is_member(&WEBSOCKET, protocol),
            Wish::WebSocketOverHttp2 { .. } => false,
        }
    }
}

/// The wish that a request comes with, if any.
///
/// # Errors
/// CONNECT that is not for a WebSocket.
pub fn wish_of(
    parts: &request::Parts,
    body: Option<Incoming>,
    has_body: bool,
) -> Result<Option<Wish>, Failure> {
    if parts.method == Method::CONNECT {
        return extended_connect(body).map(Some);
    }
    // HEAD, or a body ahead of the switch, is allowed and unheard of: such a request goes on without
    // the wish (RFC 9110 section 7.8).
    if !parts.headers.contains_key(UPGRADE) || has_body || parts.method == Method::HEAD {
        return Ok(None);
    }
    Ok(upgrade_of(parts).map(|protocol| Wish::Http1 { protocol }))
}

fn extended_connect(body: Option<Incoming>) -> Result<Wish, Failure> {
    let Some(Incoming::Socket(stream)) = body else { return Err(Failure::Connect) };
    if stream.protocol() != b"websocket" {
        return Err(Failure::Protocol);
    }
    Ok(Wish::WebSocketOverHttp2 { protocol: WEBSOCKET, stream })
}

/// A switch that the backend has agreed to.
#[derive(Debug)]
pub struct Switching {
    response: Response<ResponseBody>,
    upstream: http1::Upgraded,
    hold: Hold,
    idle_timeout: Option<Duration>,
    stream: Option<http2::Socket>,
    websocket: bool,
}

impl Switching {
    /// From the backend's 101 to what the client is told.
    ///
    /// # Errors
    /// If it switches to another protocol than was asked for, or if the answer to our own WebSocket
    /// key is wrong: whoever gave it does not speak WebSocket (RFC 6455 section 4.1).
    pub fn agreed(
        answer: Response<()>,
        upstream: http1::Upgraded,
        hold: Hold,
        idle_timeout: Option<Duration>,
        wish: Wish,
        key: Option<&HeaderValue>,
    ) -> Result<Self, Failure> {
        let (mut parts, ()) = answer.into_parts();
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let protocol = parts.headers.get(UPGRADE).cloned();
        let asked = wish.protocol().as_bytes();
        let websocket = protocol.as_ref().map_or(asked, HeaderValue::as_bytes);
        let websocket = websocket.trim_ascii().eq_ignore_ascii_case(b"websocket");
        let (keep, stream) = match wish {
            Wish::Http1 { protocol: asked } => {
                // RFC 9110 section 7.8: only to what was asked for, and by name.
                let protocol = protocol.filter(|protocol| is_member(protocol, &asked));
                (Some(protocol.ok_or(Failure::Handshake)?), None)
            }
            Wish::WebSocketOverHttp2 { stream, .. } => {
                let accept = parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
                if !key.is_some_and(|key| websocket::is_accepted(key, accept.as_ref())) {
                    return Err(Failure::Handshake);
                }
                parts.status = StatusCode::OK;
                (None, Some(stream))
            }
        };
        hop::strip_hop_by_hop(&mut parts.headers, Keep { te_trailers: false, upgrade: keep });
        // Neither a 101 nor the answer to CONNECT has a body (RFC 9110 section 8.6).
        parts.headers.remove(CONTENT_LENGTH);
        let response = Response::from_parts(parts, ResponseBody::empty());
        Ok(Switching { response, upstream, hold, idle_timeout, stream, websocket })
    }

    /// Gives the answer; behind it the tunnel begins, and the record goes with it.
    pub fn begin(self, mut record: Box<RequestRecord>) -> Response<ResponseBody> {
        let Switching { mut response, upstream, hold, idle_timeout, stream, websocket } = self;
        let survey = Survey::of(response.headers());
        unmark(response.headers_mut(), survey);
        if let Some(id) = record.request_id.clone() {
            response.headers_mut().insert(&X_REQUEST_ID, id);
        }
        record.answered(response.status());
        // A tunnel may last for days; what it says of the pool is said.
        record.pass.iter_mut().for_each(|pass| pass.success = Some(true));
        drop(record.pass.take());
        let connection = Rc::clone(&record.connection);
        let worker = Rc::clone(&connection.worker);
        let http1::Upgraded { stream: upstream, early } = upstream;
        let start =
            tunnel::Start { worker, upstream, early, hold, record, idle_timeout, websocket };
        match stream {
            // The connection itself becomes the tunnel, as soon as the answer has been written.
            None => *connection.tunnel.borrow_mut() = Some(Box::new(start)),
            Some(stream) => {
                stream.open();
                let client = ClientEnd::Http2(stream);
                // It begins when this turn is over, and with it the answer has been given.
                let tunnel = Box::new(Tunnel::new(start, client, Bytes::new()));
                tokio::task::spawn_local(tunnel.run());
            }
        }
        response
    }
}

/// Whether a list has this member.
fn is_member(member: &HeaderValue, list: &HeaderValue) -> bool {
    let mut members = list.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    members.any(|listed| listed.eq_ignore_ascii_case(member.as_bytes().trim_ascii()))
}
