//! Pick, send, and again if need be: from a prepared request to a backend's answer.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, COOKIE, SEC_WEBSOCKET_KEY, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, response};
use hyper::ext::ReasonPhrase;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::body::{Hold, Relay, RequestBody, ResponseBody};
use super::error::{Failure, upstream_reason};
use super::headers::hop::{self, Keep};
use super::headers::survey::Survey;
use super::outgoing::Outgoing;
use super::patience::{Late, Patience, in_time};
use super::record::RequestRecord;
use super::retry::{self, Cause};
use super::service::{Answer, mark};
use super::upgrade::{Switching, Wish};
use super::websocket;
use crate::state::pool::SecureCookie;
use crate::state::{Backend, BackendId, Choice, Picked, Pool};
use crate::upstream::http1::UpgradeOutcome;
use crate::upstream::{self, Failed, Incoming, Lease};

/// How an attempt failed.
enum Missed {
    /// For a cause that another attempt may not meet.
    Again(Cause, Failure),
    /// By an answer with this status, for which somebody else is to be asked: that was decided, and
    /// paid for, while the answer could still be passed on.
    Answered(StatusCode),
    /// Or in a way that no other attempt would change.
    Final(Failure),
}

impl From<Late> for Missed {
    fn from(late: Late) -> Missed {
        match late {
            Late::Backend => Missed::Again(Cause::Timeout, Failure::ResponseTimeout),
            Late::Deadline => Missed::Final(Failure::Deadline),
        }
    }
}

/// Sends a request to a backend of the pool, and to another if that fails and may be repeated.
///
/// # Errors
/// The failure of the last attempt, or that nobody could be asked.
pub async fn forward(
    pool: &Arc<Pool>,
    mut outgoing: Outgoing,
    record: &mut RequestRecord,
) -> Result<Answer, Failure> {
    let worker = Rc::clone(&record.connection.worker);
    let mut tried: SmallVec<[BackendId; 3]> = SmallVec::new();
    let mut cause: Option<Cause> = None;
    loop {
        let headers = &outgoing.head.headers;
        let cookies = outgoing.has_cookies.then(|| headers.get_all(COOKIE).iter());
        let cookies = cookies.into_iter().flatten().map(HeaderValue::as_bytes);
        let picked = worker
            .with_rng(|rng| pool.pick(cookies, outgoing.client_hash, &tried, rng))
            .ok_or(Failure::NoBackend)?;
        let backend = Arc::clone(picked.slot.backend());
        if let Some(cause) = cause {
            cause.counter(&backend.cells.cell(worker.id).retries).add(1);
        }
        record.attempts += 1;
        record.backend = Some(Arc::clone(&backend));
        record.version = Some(Arc::clone(&picked.choice.version.name));
        let (missed, failure, decided) = match attempt(pool, &mut outgoing, picked, record).await {
            Ok(answer) => return Ok(answer),
            Err(Missed::Final(failure)) => return Err(failure),
            Err(Missed::Again(cause, failure)) => (cause, failure, false),
            Err(Missed::Answered(status)) => (Cause::Status(status), Failure::Deadline, true),
        };
        if matches!(missed, Cause::Connect | Cause::Reset | Cause::Timeout) {
            worker.suspect(&backend);
        }
        if missed == Cause::Stale {
            // Its siblings are probably as dead, and each would cost an attempt to find out.
            worker.upstreams.close_idle(backend.id);
        } else {
            tried.push(backend.id);
        }
        if !decided && !may_go_on(missed, pool, &outgoing, record) {
            return Err(failure);
        }
        record.retry_reasons.push(missed.label());
        cause = Some(missed);
        if let Some(pause) = retry::pause(record.attempts, worker.with_rng(fastrand::Rng::f64)) {
            let until = worker.tick() + pause;
            if outgoing.deadline.is_some_and(|deadline| deadline <= until) {
                return Err(failure);
            }
            // The wheel's ticks are fine enough for a pause.
            let _ = worker.wheel.timer().within(until, std::future::pending::<()>()).await;
        }
        worker.tick();
    }
}

/// Whether another attempt is due; takes it out of the budget if so.
fn may_go_on(cause: Cause, pool: &Pool, outgoing: &Outgoing, record: &RequestRecord) -> bool {
    let (idempotent, replayable) = (outgoing.idempotent, outgoing.is_replayable());
    retry::is_due(cause, &pool.retries, record.attempts, idempotent, replayable)
        && (!cause.is_charged() || spend(pool, record))
}

fn spend(pool: &Pool, record: &RequestRecord) -> bool {
    let worker = &record.connection.worker;
    let requests = pool.state.cells.sum(|cells| cells.requests.get());
    let policy = &pool.retries;
    let uptime = worker.shared.uptime();
    let granted = pool.state.budget.try_spend(policy.budget, policy.budget_floor, requests, uptime);
    if !granted {
        pool.state.cells.cell(worker.id).budget_exhausted.add(1);
    }
    granted
}

/// One attempt on one backend.
async fn attempt(
    pool: &Arc<Pool>,
    outgoing: &mut Outgoing,
    picked: Picked,
    record: &mut RequestRecord,
) -> Result<Answer, Missed> {
    let began = record.connection.worker.now();
    if outgoing.wish.is_some() {
        // Boxed, since every other request would have room for it.
        return Box::pin(switch(pool, outgoing, picked, began, record)).await;
    }
    let (response, lease) = exchange(pool, outgoing, &picked, record).await?;
    let status = response.status();
    count_answer(picked.slot.backend(), status, began, record);
    // Only somebody else may know better; a backend on its own gets no second question.
    if pool.retries.on_status.contains(&status.as_u16())
        && picked.choice.version.usable().len() > 1
        && may_go_on(Cause::Status(status), pool, outgoing, record)
    {
        return Err(Missed::Answered(status));
    }
    let worker = Rc::clone(&record.connection.worker);
    // Nobody sends them again.
    worker.upstreams.spare.keep(std::mem::take(&mut outgoing.head.headers));
    let hold = Hold { slot: picked.slot, lease: Some(lease), gauge: None, picked: began, worker };
    Ok(Answer::Backend(relay(pool, outgoing, hold, &picked.choice, response, record)))
}

/// Sends the request on a connection and waits for the head of the answer.
async fn exchange(
    pool: &Arc<Pool>,
    outgoing: &Outgoing,
    picked: &Picked,
    record: &RequestRecord,
) -> Result<(Response<Incoming>, Lease<RequestBody>), Missed> {
    let worker = &record.connection.worker;
    let lane = worker.upstreams.lane(picked.slot.backend(), &pool.upstream);
    let timer = worker.wheel.timer();
    loop {
        let connection = match outgoing.deadline {
            None => lane.checkout().await,
            Some(deadline) => timer
                .within(deadline, lane.checkout())
                .await
                .map_err(|_expired| Missed::Final(Failure::Deadline))?,
        }
        .map_err(|error| missed(error, outgoing))?;
        let reused = connection.is_reused();
        if !reused {
            // It took its time to open.
            worker.tick();
        }
        let sending = connection.send(&outgoing.head, outgoing.body());
        let patience = Patience {
            head: pool.upstream.response_timeout,
            upload: pool.upstream.body_idle_timeout,
        };
        match in_time(&timer, patience, outgoing, worker.now(), sending).await {
            Ok(Ok(answer)) => return Ok(answer),
            // It was closed before anything was written: not even a stale connection, only an idle
            // one that is gone. The next one is this same attempt.
            Ok(Err(Failed { unsent: true, error })) if reused && Cause::of(&error).is_some() => {}
            Ok(Err(Failed { unsent: true, error })) if Cause::of(&error).is_some() => {
                return Err(Missed::Again(Cause::Connect, error.into()));
            }
            Ok(Err(failed)) => return Err(missed(failed.error, outgoing)),
            Err(late) => return Err(late.into()),
        }
    }
}

/// Asks the backend to switch protocols.
async fn switch(
    pool: &Arc<Pool>,
    outgoing: &mut Outgoing,
    picked: Picked,
    began: Instant,
    record: &mut RequestRecord,
) -> Result<Answer, Missed> {
    let worker = Rc::clone(&record.connection.worker);
    let lane = worker.upstreams.lane(picked.slot.backend(), &pool.upstream);
    let timer = worker.wheel.timer();
    let key = matches!(outgoing.wish, Some(Wish::WebSocketOverHttp2 { .. }))
        .then(|| worker.with_rng(websocket::fresh_key));
    if let Some(key) = &key {
        // Over HTTP/2 the client sends none (RFC 8441 section 5).
        outgoing.head.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    }
    // The time to connect has its own limit; it is short against the one for an answer.
    let head = pool.upstream.response_timeout.map(|time| time + pool.upstream.connect_timeout);
    let patience = Patience { head, upload: None };
    let asking = lane.upgrade(&outgoing.head, outgoing.body());
    let answer = in_time(&timer, patience, outgoing, worker.now(), asking)
        .await?
        .map_err(|error| missed(error, outgoing))?;
    let hold = Hold {
        lease: None,
        gauge: Some(answer.gauge),
        picked: began,
        worker: Rc::clone(&worker),
        slot: picked.slot,
    };
    match answer.outcome {
        UpgradeOutcome::Declined(response) => {
            count_answer(hold.slot.backend(), response.status(), began, record);
            let response = response.map(Incoming::Http1);
            Ok(Answer::Backend(relay(pool, outgoing, hold, &picked.choice, response, record)))
        }
        UpgradeOutcome::Switched(mut response, upstream) => {
            let backend = hold.slot.backend();
            backend.cells.cell(worker.id).codes.count(response.status());
            bind(pool, &picked.choice, response.headers_mut(), record);
            let idle_timeout = pool.upstream.tunnel_idle_timeout;
            let Some(wish) = outgoing.wish.take() else {
                return Err(Missed::Final(Failure::Handshake));
            };
            Switching::agreed(response, upstream, hold, idle_timeout, wish, key.as_ref())
                .map(|switching| Answer::Switching(Box::new(switching)))
                .map_err(Missed::Final)
        }
    }
}

/// What an upstream error means for the request.
fn missed(error: upstream::Error, outgoing: &Outgoing) -> Missed {
    if let Some(failure) = outgoing.upload.as_ref().and_then(|upload| upload.failure()) {
        return Missed::Final(Failure::Upload(failure));
    }
    tracing::debug!(reason = upstream_reason(&error), %error, "an attempt failed");
    match Cause::of(&error) {
        Some(cause) => Missed::Again(cause, error.into()),
        None => Missed::Final(error.into()),
    }
}

fn count_answer(backend: &Backend, status: StatusCode, began: Instant, record: &RequestRecord) {
    let cells = backend.cells.cell(record.connection.worker.id);
    cells.codes.count(status);
    let sent = record.upload.as_ref().and_then(|upload| upload.finished());
    let now = record.connection.worker.tick();
    cells.head.observe(now.saturating_duration_since(sent.map_or(began, |sent| sent.max(began))));
}

/// Turns a backend's response into the client's.
fn relay(
    pool: &Pool,
    outgoing: &Outgoing,
    hold: Hold,
    choice: &Choice,
    response: Response<Incoming>,
    record: &mut RequestRecord,
) -> Response<ResponseBody> {
    let worker = Rc::clone(&record.connection.worker);
    let (mut parts, incoming) = response.into_parts();
    record.answered(parts.status);
    parts.version = Version::HTTP_11;
    keep_reason(&mut parts);
    let survey = Survey::of(&parts.headers);
    if survey.hop_by_hop {
        if parts.headers.contains_key(TRANSFER_ENCODING) {
            // Beside a coding the length means nothing (RFC 9112 section 6.3), and behind us there
            // is no coding to say so.
            parts.headers.remove(CONTENT_LENGTH);
        }
        hop::strip_hop_by_hop(&mut parts.headers, Keep::default());
    }
    bind(pool, choice, &mut parts.headers, record);
    mark(&mut parts.headers, survey, record);
    if parts.status.is_informational() || parts.status == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6.
        parts.headers.remove(CONTENT_LENGTH);
    }
    let pause = if survey.event_stream {
        pool.upstream.tunnel_idle_timeout
    } else {
        pool.upstream.body_idle_timeout
    };
    let body = ResponseBody::relay(Relay {
        incoming,
        upload: outgoing.upload.clone(),
        timer: worker.wheel.timer(),
        pause,
        deadline: outgoing.deadline,
        waited: false,
        blocked: record.connection.io.last_blocked.get(),
        hold: Some(hold),
    });
    Response::from_parts(parts, body)
}

/// Leaves nothing of a backend's connection on its response but the words for the status. Where there
/// are none, over HTTP/2, and none are common, there are to be none towards HTTP/1.1 too.
fn keep_reason(parts: &mut response::Parts) {
    let reason = parts.extensions.remove::<ReasonPhrase>();
    parts.extensions.clear();
    let none = parts.status.canonical_reason().is_none();
    let reason = reason.or_else(|| none.then(|| ReasonPhrase::from_static(b"")));
    if let Some(reason) = reason {
        parts.extensions.insert(reason);
    }
}

/// Tells the client which backend it is bound to, if that has changed.
fn bind(pool: &Pool, choice: &Choice, headers: &mut HeaderMap, record: &RequestRecord) {
    if !choice.rebind {
        return;
    }
    let secure = match pool.secure_cookie {
        SecureCookie::Auto => record.connection.tls.is_some(),
        SecureCookie::Always => true,
        SecureCookie::Never => false,
    };
    let affinity = choice.version.affinity.as_ref();
    let cookie = affinity.and_then(|affinity| affinity.set_cookie(choice.member, secure));
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        headers.append(SET_COOKIE, value);
    }
}
