//! The life of a request, from its head to the head of its answer, from top to bottom.
//!
//! [`handle`] makes the record before anything can fail and turns a failure into an answer;
//! `set_out` takes the first steps: route, admit, prepare; and then comes
//! [`forward`](mod@super::forward), which picks, sends and tries again, or the route's [`fallback`]
//! where there is nobody to send to.
//!
//! From here to the backend futures are pinned where they are made, and only then awaited: to await
//! a future is to move it first, and these are large, each having room for the next.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_LENGTH, LOCATION};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Response, Version, request};
use http_body::Body;

use super::body::{Incoming, ResponseBody, Upload};
use super::breaker;
use super::connection::ConnectionState;
use super::error::{self, Failure};
use super::fallback;
use super::forward;
use super::headers::accept::wants_json;
use super::headers::hop;
use super::headers::survey::Survey;
use super::headers::{HOPS, X_REQUEST_ID, identity};
use super::host;
use super::outgoing::Outgoing;
use super::prepare::prepare;
use super::rare::boxed;
use super::received::Received;
use super::record::RequestRecord;
use super::reply::Reply;
use super::{http2, upgrade};
use crate::state::{Pool, Redirect, Route, Snapshot, Target};

/// Answers one request. Whatever happens, the record tells of it once, and a failure is an answer.
pub async fn handle(connection: Rc<ConnectionState>, mut received: Box<Received>) -> Reply {
    let snapshot = connection.worker.snapshot();
    let version = received.parts.version;
    let (mut record, wants) = meet(&connection, &snapshot, &mut received);
    let outcome = match set_out(&snapshot, received, &mut record) {
        // Lent and not taken out, which would be a move, and room for it twice.
        Ok(Begun::Going { route, pool, ref mut outgoing }) => {
            pin!(send(route, pool, outgoing, &mut record)).await
        }
        Ok(Begun::Answered(answer)) => Ok(answer),
        Err(failure) => Err(failure),
    };
    let upload_open = record.is_upload_open();
    let mut last = connection.is_aged(connection.worker.now());
    let mut reply = match outcome {
        Ok(Answer::Backend(mut reply)) => {
            reply.body.take_record(record);
            reply
        }
        Ok(Answer::Ours(mut response, reason)) => {
            record.answered_by_us(response.status(), reason);
            response.body_mut().take_record(record);
            response.into()
        }
        // The record goes with the tunnel.
        Ok(Answer::Switching(switching)) => return switching.begin(record).into(),
        Err(failure) => {
            // What may follow a CONNECT is no request.
            last |= version != Version::HTTP_2 && matches!(failure, Failure::Connect);
            error::answer(&failure, wants.json, record).into()
        }
    };
    if version != Version::HTTP_2 {
        if last || ends_connection(version, &reply.body, upload_open) {
            error::close_after(&mut reply.head.headers);
        }
    } else if last {
        connection.drain();
    }
    if wants.head_only
        && let Some(length) = reply.body.omit_own()
    {
        // RFC 9110 section 9.3.2.
        reply.head.headers.insert(CONTENT_LENGTH, length.into());
    }
    reply
}

/// What a client wants of an answer of our own.
#[derive(Clone, Copy)]
struct Wants {
    /// An error as JSON.
    json: bool,
    /// No body.
    head_only: bool,
}

/// Makes the record of a request, and names it.
fn meet(
    connection: &Rc<ConnectionState>,
    snapshot: &Snapshot,
    received: &mut Received,
) -> (Box<RequestRecord>, Wants) {
    connection.keep_up_with(snapshot);
    let mut record = RequestRecord::begin(connection, received);
    let survey = received.survey;
    let headers = &mut received.parts.headers;
    let given = if survey.request_id { identity::take_request_id(headers) } else { None };
    record.request_id = Some(given.unwrap_or_else(|| connection.worker.new_request_id()));
    let wants = Wants {
        json: survey.json && wants_json(received.values(&ACCEPT)),
        head_only: received.parts.method == Method::HEAD,
    };
    (record, wants)
}

/// Whether an HTTP/1 connection cannot go on after this answer.
fn ends_connection(version: Version, body: &ResponseBody, upload_open: bool) -> bool {
    let length_is_known = body.size_hint().exact().is_some();
    if length_is_known {
        // What may still come of the upload is not read as another request. An answer without an
        // end in sight may run beside its upload for as long as both sides like.
        upload_open
    } else {
        // Its end is the connection's.
        version == Version::HTTP_10
    }
}

/// What a request comes to when nothing fails.
pub enum Answer {
    /// A backend's response.
    Backend(Reply),
    /// Our own, and why.
    Ours(Response<ResponseBody>, &'static str),
    /// Another protocol from here on.
    Switching(Box<upgrade::Switching>),
}

/// A request that has taken its first steps.
#[expect(clippy::large_enum_variant, reason = "nearly all are going, and one allocation less")]
enum Begun<'a> {
    /// It is to be forwarded.
    Going { route: &'a Route, pool: &'a Arc<Pool>, outgoing: Outgoing },
    /// It has been answered already.
    Answered(Answer),
}

/// Routes, admits and prepares a request. No future: what it moves about is large, and a future
/// would have room for all of it.
fn set_out<'a>(
    snapshot: &'a Snapshot,
    mut received: Box<Received>,
    record: &mut RequestRecord,
) -> Result<Begun<'a>, Failure> {
    let connection = Rc::clone(&record.connection);
    let mut body = Some(std::mem::replace(&mut received.body, Incoming::None));
    if let Some(body) = body.take_if(|body| !body.is_end_stream()) {
        let pause = connection.listener.borrow().limits.body_timeout;
        record.upload = Some(Upload::new(body, pause, &connection.worker.wheel));
    }
    let parts = &mut received.parts;
    if parts.method == Method::TRACE {
        return Err(Failure::Trace);
    }
    let wish = match received.survey.upgrade || parts.method == Method::CONNECT {
        true => upgrade::wish_of(parts, body, record.upload.is_some())?,
        false => None,
    };
    // HTTP/1.1 was checked in its raw form.
    if parts.version == Version::HTTP_2 {
        let max_headers = connection.listener.borrow().limits.max_headers;
        http2::check(parts, max_headers).map_err(Failure::Head)?;
    }

    // Route.
    let route = find_route(snapshot, (parts, received.host.as_ref()), record)?;
    if parts.method == Method::OPTIONS && !hop::count_down(&mut parts.headers) {
        return Ok(Begun::Answered(Answer::Ours(error::options(), "max_forwards")));
    }
    let pool = match &route.target {
        Target::Pool(pool) => pool,
        Target::Redirect(redirect) => {
            let secure = connection.tls.get().is_some();
            let head = (&*parts, received.host.as_ref());
            let answer = Answer::Ours(redirect_response(redirect, head, secure)?, "redirect");
            return Ok(Begun::Answered(answer));
        }
    };
    record.pool = Some(Arc::clone(pool));
    pool.state.cells.cell(connection.worker.id).requests.add(1);

    // Admit.
    if !record.admit(snapshot.max_requests) {
        connection.worker.shared.overload.refuse(connection.worker.shared.uptime());
        return Err(Failure::Overload);
    }
    if let Some(max) = route.max_body
        && announced_length(parts).is_some_and(|length| length > max)
    {
        return Err(Failure::TooLarge);
    }

    // Prepare.
    let outgoing = prepare(snapshot, (route, pool), received, wish, record)?;
    Ok(Begun::Going { route, pool, outgoing })
}

/// To its pool, or where its route says if there is nobody.
async fn send(
    route: &Route,
    pool: &Arc<Pool>,
    outgoing: &mut Outgoing,
    record: &mut RequestRecord,
) -> Result<Answer, Failure> {
    let answer = match breaker::admit(pool, record) {
        Ok(()) => pin!(forward::forward(pool, outgoing, record)).await,
        Err(open) => Err(open),
    };
    let Err(failure) = answer else { return answer };
    // Whoever answers now is no measure for a copy.
    outgoing.pair = None;
    breaker::failed(&failure, record);
    match &route.fallback {
        Some(fallback) if failure.is_for_want_of_backends() && outgoing.is_replayable() => {
            // Boxed, since every other request would have room for it.
            boxed(|| fallback::answer(fallback, &failure, outgoing, record)).await
        }
        _ => Err(failure),
    }
}

fn find_route<'a>(
    snapshot: &'a Snapshot,
    (parts, host): (&request::Parts, Option<&HeaderValue>),
    record: &mut RequestRecord,
) -> Result<&'a Route, Failure> {
    let host = host::of(parts, host)?;
    if let Some(tls) = record.connection.tls.get()
        && !tls.certificates.same_certificate(tls.server_name.as_deref(), host::name(host))
    {
        return Err(Failure::Misdirected);
    }
    let path = parts.uri.path();
    let listener = snapshot.index_of(&record.connection.listener.borrow());
    let route = snapshot.routes.lookup(listener, host, path).ok_or(Failure::NoRoute)?;
    record.routed(route);
    Ok(route)
}

fn announced_length(parts: &request::Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn redirect_response(
    redirect: &Redirect,
    (parts, host): (&request::Parts, Option<&HeaderValue>),
    secure: bool,
) -> Result<Response<ResponseBody>, Failure> {
    let asked = host::of(parts, host)?;
    let own_scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
    let scheme = redirect.scheme.as_ref().unwrap_or(&own_scheme);
    let host = redirect.host.as_deref().unwrap_or(host::name(asked));
    let port = match redirect.port {
        Some(port) => format!(":{port}"),
        // Another scheme has its own port; otherwise the client's stays.
        None if redirect.scheme.is_some() || redirect.host.is_some() => String::new(),
        None => asked
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(String::new(), |(_, port)| format!(":{port}")),
    };
    let query = parts.uri.query().map_or(String::new(), |query| format!("?{query}"));
    let path = redirect.path.as_deref().unwrap_or(parts.uri.path());
    let location = HeaderValue::from_str(&format!("{scheme}://{host}{port}{path}{query}"))
        .map_err(|_| Failure::Target("the target cannot be redirected"))?;
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Takes off an answer what a backend says of the request's name and way. Whoever writes the answer
/// names it.
pub(super) fn unmark(headers: &mut HeaderMap, survey: Survey) {
    if survey.hops {
        headers.remove(&HOPS);
    }
    if survey.request_id {
        headers.remove(&X_REQUEST_ID);
    }
}
