//! From the request as it came to the request as it goes out: what ends here is taken out, what backends
//! could read in more than one way is made plain, and what they are told about the client is added.

use std::mem::take;
use std::net::IpAddr;
use std::rc::Rc;

use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};
use smallvec::SmallVec;

use super::error::Failure;
use super::headers::forwarded::client_address;
use super::headers::hop::{self, Keep};
use super::headers::survey::Survey;
use super::headers::{X_REQUEST_ID, identity, sieve};
use super::io::IoState;
use super::outgoing::Outgoing;
use super::received::Received;
use super::record::RequestRecord;
use super::retry;
use super::upgrade::Wish;
use crate::balance::{self, Policy};
use crate::state::pool::Protocol;
use crate::state::{Pool, Route, Snapshot};
use crate::upstream::RequestHead;

/// Prepares a request for a pool.
///
/// # Errors
/// If it has been here before.
pub(super) fn prepare(
    snapshot: &Snapshot,
    (route, pool): (&Route, &Pool),
    mut received: Box<Received>,
    wish: Option<Wish>,
    record: &mut RequestRecord,
) -> Result<Outgoing, Failure> {
    let connection = Rc::clone(&record.connection);
    let worker = &connection.worker;
    let (parts, survey) = (&mut received.parts, received.survey);
    let (method, version) = (take(&mut parts.method), parts.version);
    let (uri, mut headers) = (take(&mut parts.uri), take(&mut parts.headers));
    let (host, plain) = (received.host.take(), take(&mut received.plain));
    parts.extensions.clear();
    worker.keep_received(received);
    if survey.hops && identity::is_loop(&headers, &worker.instance) {
        return Err(Failure::Loop);
    }
    let host = host_field(&uri, host, &headers);
    let client_hash = client_hash(snapshot, pool, connection.peer.ip(), &headers);
    tidy(&mut headers, survey, wish.as_ref());
    let mut added = SmallVec::new();
    added.extend(record.request_id.clone().map(|id| (X_REQUEST_ID.clone(), id)));
    let of_connection = connection.headers(snapshot);
    of_connection.apply(&mut headers, survey.forwarding, host.as_ref(), &mut added);
    let target = target_of(&method, uri, &connection.io);
    let method = match &wish {
        Some(Wish::WebSocketOverHttp2 { .. }) => Method::GET,
        _ => method,
    };
    let deadline = route.timeout.map(|timeout| record.began + timeout);
    let idempotent = retry::is_idempotent(&method);
    admit_upload((route, pool), survey, idempotent, record);
    let host = host.unwrap_or(HeaderValue::from_static(""));
    Ok(Outgoing {
        head: RequestHead {
            method,
            target,
            host,
            headers,
            plain,
            of_connection: of_connection.fields(),
            added,
            sieve: sieve::for_answer_to(version, wish.is_some()),
        },
        upload: record.upload.clone(),
        idempotent,
        wish,
        client_hash,
        began: record.began,
        deadline,
        has_hidden: false,
        pair: None,
    })
}

/// Lets the body of the request be read.
fn admit_upload(
    (route, pool): (&Route, &Pool),
    survey: Survey,
    idempotent: bool,
    record: &RequestRecord,
) {
    let Some(upload) = &record.upload else { return };
    let pause = if survey.event_stream {
        pool.upstream.tunnel_idle_timeout
    } else {
        Some(record.connection.listener.borrow().limits.body_timeout)
    };
    // A stream that an HTTP/2 backend refuses may be sent again whatever its method, and by then its
    // body may have been read.
    let replayable = idempotent || pool.upstream.protocol != Protocol::Http1;
    // A second chance is for times when there is memory for it.
    let keeps = replayable && record.connection.io.held.is_little();
    upload.admit(keeps, route.max_body, pause);
}

/// Takes out what ends here, and what backends could read in more than one way.
fn tidy(headers: &mut HeaderMap, survey: Survey, wish: Option<&Wish>) {
    let upgrade = wish.map(|wish| wish.protocol().clone());
    if survey.hop_by_hop || upgrade.is_some() {
        hop::strip_hop_by_hop(headers, Keep { te_trailers: true, upgrade });
    }
    if survey.expect {
        headers.remove(EXPECT);
    }
    if survey.content_length {
        plain_length(headers);
    }
    if survey.cookies > 1 {
        join_cookies(headers);
    }
}

/// What `ip_hash` goes by, and on which side of a divided pool the client stays.
fn client_hash(snapshot: &Snapshot, pool: &Pool, peer: Option<IpAddr>, headers: &HeaderMap) -> u64 {
    let is_wanted = pool.policy == Policy::IpHash || pool.state.is_divided();
    match peer {
        Some(peer) if is_wanted => {
            balance::client_hash(client_address(&snapshot.trusted_proxies, peer, headers))
        }
        _ => 0,
    }
}

/// The Host that backends get: the client's, from wherever its version puts it.
fn host_field(uri: &Uri, host: Option<HeaderValue>, headers: &HeaderMap) -> Option<HeaderValue> {
    match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => host.or_else(|| headers.get(HOST).cloned()),
    }
}

/// In origin form, or `*`.
fn target_of(method: &Method, uri: Uri, io: &IoState) -> PathAndQuery {
    if *method == Method::OPTIONS && io.for_server.get() {
        return PathAndQuery::from_static("*");
    }
    match uri.into_parts().path_and_query {
        // Of an absolute form without a path: it goes out with one (RFC 9112 section 3.2.1).
        Some(target) if target.as_str().starts_with('?') => {
            PathAndQuery::try_from(target.to_string()).unwrap_or(target)
        }
        Some(target) => target,
        None => PathAndQuery::from_static("/"),
    }
}

/// A length with leading zeros is a valid one, and octal to some.
fn plain_length(headers: &mut HeaderMap) {
    if let Some(value) = headers.get_mut(CONTENT_LENGTH)
        && let [b'0', _, ..] = value.as_bytes()
        && let Some(length) = value.to_str().ok().and_then(|digits| digits.parse::<u64>().ok())
    {
        *value = HeaderValue::from(length);
    }
}

/// HTTP/2 may split cookies over several fields; HTTP/1.1 backends are to get one (RFC 9113
/// section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut joined = Vec::new();
    for value in headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(value.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}
