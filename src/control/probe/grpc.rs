//! The gRPC health protocol (`grpc.health.v1`): one unary call, and of its protocol buffers no more
//! than the one field of the question and the one of the answer.

use bytes::{BufMut, Bytes};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::http::{USER_AGENT, broken, cannot_ask, own_host};
use crate::health::ProbeFailure;
use crate::state::Address;
use crate::upstream::dial::Dialled;

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// Far more than the one number that an answer has.
const MAX_BODY_BYTES: usize = 4 * 1024;

/// Asks how a service is.
pub(super) async fn ask(
    service: &str,
    dialled: Dialled,
    address: &Address,
    tls: bool,
) -> Result<(), ProbeFailure> {
    if tls && !dialled.h2 {
        return Err(other(
            "the backend does not offer HTTP/2, which gRPC needs; set `upstream.protocol`",
        ));
    }
    let request = request(service, address, tls)?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(dialled.stream))
            .await
            .map_err(|error| broken(&error))?;
    // Ends the connection when the answer is judged or the time is up.
    let mut driver = JoinSet::new();
    driver.spawn(async { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        return Err(other(format!("status {}, and no gRPC", head.status.as_u16())));
    }
    // Without a message, the status is in the head.
    let mut status = grpc_status(&head.headers);
    let mut message = Vec::new();
    while status.is_none()
        && let Some(frame) = body.frame().await
    {
        match frame.map_err(|error| broken(&error))?.into_data() {
            Ok(data) if message.len() + data.len() <= MAX_BODY_BYTES => message.extend(data),
            Ok(_) => return Err(other("the answer is too long for one to this question")),
            Err(frame) => status = frame.trailers_ref().and_then(grpc_status),
        }
    }
    judge(service, status, &message)
}

fn request(
    service: &str,
    address: &Address,
    tls: bool,
) -> Result<Request<Full<Bytes>>, ProbeFailure> {
    let mut request = Request::new(Full::new(framed(&question(service))));
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(own_host(address)?.as_bytes().try_into().map_err(cannot_ask)?);
    uri.path_and_query = Some(PathAndQuery::from_static(METHOD));
    *request.uri_mut() = Uri::from_parts(uri).map_err(cannot_ask)?;
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

fn judge(service: &str, status: Option<Status>, message: &[u8]) -> Result<(), ProbeFailure> {
    match status {
        None => return Err(other("the answer has no gRPC status")),
        Some(Status { code: 0, .. }) => {}
        Some(Status { code: 5, .. }) if !service.is_empty() => {
            return Err(other(format!("the backend knows no gRPC service `{service}`")));
        }
        Some(Status { code: 12, .. }) => {
            return Err(other("the backend does not implement grpc.health.v1"));
        }
        Some(Status { code, words }) => return Err(other(format!("gRPC status {code}{words}"))),
    }
    let message = unframed(message).ok_or_else(|| other("the answer is no gRPC message"))?;
    match serving_status(message) {
        Some(1) => Ok(()),
        Some(2) => Err(other("it says NOT_SERVING")),
        Some(3) => Err(other(format!("the backend knows no gRPC service `{service}`"))),
        Some(0) => Err(other("it says that its status is UNKNOWN")),
        Some(unknown) => Err(other(format!("it says {unknown}, which is no serving status"))),
        None => Err(other("the answer is no HealthCheckResponse")),
    }
}

fn other(words: impl Into<std::sync::Arc<str>>) -> ProbeFailure {
    ProbeFailure::Other(words.into())
}

/// A gRPC status and what was said about it.
struct Status {
    code: u32,
    words: String,
}

fn grpc_status(headers: &HeaderMap) -> Option<Status> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let words = headers.get("grpc-message").and_then(|words| words.to_str().ok());
    Some(Status { code, words: words.map(|words| format!(": {words}")).unwrap_or_default() })
}

/// `HealthCheckRequest { service = 1 }`.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut length = service.len();
        while length > 0x7f {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    message
}

/// A message behind its prefix: not compressed, so many bytes.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.into()
}

/// The one message of an answer; nothing if it is compressed, which we have not offered to read.
fn unframed(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    (prefix[0] == 0 && usize::try_from(length) == Ok(message.len())).then_some(message)
}

/// `HealthCheckResponse { status = 1 }`; 0 where it is left out. Other fields are passed over.
fn serving_status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// A number in base 128, the lowest digit first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u32) -> Option<Status> {
        Some(Status { code, words: String::new() })
    }

    fn outcome(code: u32, message: &[u8]) -> String {
        let judged = judge("shop", status(code), &framed(message));
        judged.map_or_else(|failure| failure.to_string(), |()| "well".to_owned())
    }

    #[test]
    fn only_serving_is_well() {
        for (code, message, words) in [
            (0, &[8, 1][..], "well"),
            (0, &[8, 2], "it says NOT_SERVING"),
            (0, &[8, 3], "the backend knows no gRPC service `shop`"),
            (0, &[], "it says that its status is UNKNOWN"),
            (0, &[8, 9], "it says 9, which is no serving status"),
            (0, &[8], "the answer is no HealthCheckResponse"),
            (5, &[], "the backend knows no gRPC service `shop`"),
            (12, &[], "the backend does not implement grpc.health.v1"),
            (14, &[], "gRPC status 14"),
            // A field of a later version of the protocol.
            (0, &[0x12, 1, 0xff, 8, 1], "well"),
            (
                0,
                &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                "the answer is no HealthCheckResponse",
            ),
        ] {
            assert_eq!(outcome(code, message), words, "{code} {message:?}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told_so() {
        let words = |status, body: &[u8]| judge("", status, body).unwrap_err().to_string();
        assert_eq!(words(None, &[]), "the answer has no gRPC status");
        for body in [&[][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 9, 8, 1], &[1, 0, 0, 0, 2, 8, 1]] {
            assert_eq!(words(status(0), body), "the answer is no gRPC message", "{body:?}");
        }
    }

    #[test]
    fn a_question_names_its_service() {
        assert!(question("").is_empty());
        assert_eq!(question("a.B"), [10, 3, b'a', b'.', b'B']);
        let long = question(&"x".repeat(300));
        assert_eq!(long[..3], [10, 0xac, 2]);
        assert_eq!(long.len(), 303);
        assert_eq!(framed(&[7]).as_ref(), [0, 0, 0, 0, 1, 7]);
    }
}
