//! A probe's request and the judgement of its answer. Redirects are an answer, never followed.

use std::error::Error as _;
use std::io;

use bytes::Bytes;
use http::uri::{Parts, Scheme, Uri};
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::{Answer, Fetched, HttpCheck};
use crate::health::{DrainWish, Expect, ProbeFailure};
use crate::state::Address;
use crate::upstream::dial::Dialled;

/// As much of a body as is looked at.
const MAX_BODY_BYTES: usize = 64 * 1024;

pub(super) const USER_AGENT: HeaderValue = HeaderValue::from_static("tidegate-probe");

/// Asks, and judges the answer.
pub(super) async fn ask(
    check: &HttpCheck,
    wish: &DrainWish,
    dialled: Dialled,
    address: &Address,
    tls: bool,
) -> Result<Answer, ProbeFailure> {
    let (response, _driver) = send(check, dialled, address, tls).await?;
    judge(&check.expect, wish, response).await
}

/// Asks, judges the status, and gives what came.
pub(super) async fn fetch(
    check: &HttpCheck,
    dialled: Dialled,
    address: &Address,
    tls: bool,
) -> Result<Fetched, ProbeFailure> {
    let (response, _driver) = send(check, dialled, address, tls).await?;
    let (parts, body) = response.into_parts();
    check.expect.head(parts.status.as_u16())?;
    Ok(Fetched { headers: parts.headers, body: read(body).await?.into() })
}

/// The answer, and what drives its connection.
async fn send(
    check: &HttpCheck,
    dialled: Dialled,
    address: &Address,
    tls: bool,
) -> Result<(Response<Incoming>, JoinSet<()>), ProbeFailure> {
    let request = request(check, address, tls, dialled.h2)?;
    let io = TokioIo::new(dialled.stream);
    // Ends the connection when the answer is judged or the time is up.
    let mut driver = JoinSet::new();
    let response = if dialled.h2 {
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), io).await.map_err(|error| broken(&error))?;
        driver.spawn(async { drop(connection.await) });
        sender.send_request(request).await
    } else {
        let (mut sender, connection) =
            http1::handshake(io).await.map_err(|error| broken(&error))?;
        driver.spawn(async { drop(connection.await) });
        sender.send_request(request).await
    };
    Ok((response.map_err(|error| broken(&error))?, driver))
}

async fn judge(
    expect: &Expect,
    wish: &DrainWish,
    response: Response<Incoming>,
) -> Result<Answer, ProbeFailure> {
    const LEAVING: Answer = Answer { leaving: true };
    let status = response.status().as_u16();
    if wish.in_head(|name| response.headers().contains_key(name)) {
        return Ok(LEAVING);
    }
    let expected = expect.head(status);
    let wish_in_body = wish.needs_body(status);
    if !wish_in_body && (expected.is_err() || !expect.needs_body()) {
        return expected.map(|()| Answer::default());
    }
    let body = read(response.into_body()).await?;
    if wish_in_body && wish.in_body(&body) {
        return Ok(LEAVING);
    }
    expected?;
    expect.body(&body)?;
    Ok(Answer::default())
}

/// As much of a body as is looked at.
async fn read(mut body: Incoming) -> Result<Vec<u8>, ProbeFailure> {
    let mut read = Vec::new();
    while read.len() < MAX_BODY_BYTES
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() {
            let room = MAX_BODY_BYTES - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(read)
}

fn request(
    check: &HttpCheck,
    address: &Address,
    tls: bool,
    h2: bool,
) -> Result<Request<Empty<Bytes>>, ProbeFailure> {
    let host = check.host.clone().map_or_else(|| own_host(address), Ok)?;
    let mut request = Request::new(Empty::new());
    request.method_mut().clone_from(&check.method);
    let mut uri = Parts::default();
    uri.path_and_query = Some(check.path.clone());
    if h2 {
        uri.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Some(host.as_bytes().try_into().map_err(cannot_ask)?);
    }
    *request.uri_mut() = Uri::from_parts(uri).map_err(cannot_ask)?;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    for name in check.headers.keys() {
        headers.remove(name);
    }
    headers.extend(check.headers.clone());
    if !h2 {
        headers.insert(header::HOST, host);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(request)
}

/// The backend's own name for a Host field.
pub(super) fn own_host(address: &Address) -> Result<HeaderValue, ProbeFailure> {
    match address {
        Address::Unix(_) => Ok(HeaderValue::from_static("localhost")),
        address => HeaderValue::try_from(address.to_string()).map_err(cannot_ask),
    }
}

pub(super) fn cannot_ask(error: impl Into<http::Error>) -> ProbeFailure {
    ProbeFailure::Other(format!("the check cannot be sent: {}", error.into()).into())
}

pub(super) fn broken(error: &hyper::Error) -> ProbeFailure {
    if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() {
        return ProbeFailure::Other(format!("not an HTTP answer: {error}").into());
    }
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let reset = io.is_some_and(|io| {
        let kind = io.kind();
        // The last is what hyper says of a body that is cut short.
        kind == io::ErrorKind::ConnectionReset
            || kind == io::ErrorKind::BrokenPipe
            || kind == io::ErrorKind::UnexpectedEof
    });
    if reset || error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return ProbeFailure::Closed;
    }
    ProbeFailure::Other(error.to_string().into())
}
