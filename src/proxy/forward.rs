//! Pick, send, and again if need be: from a prepared request to a backend's answer.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header::{CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::body::{self, EventStream, Hold, Relay, ResponseBody};
use super::error::Failure;
use super::exchange::exchange;
use super::headers::hop;
use super::headers::survey::Survey;
use super::missed::Missed;
use super::outgoing::Outgoing;
use super::queue;
use super::rare::boxed;
use super::record::RequestRecord;
use super::reply::Reply;
use super::retry::{self, Cause};
use super::service::{Answer, unmark};
use super::shadow;
use super::switch;
use super::waiting::Place;
use crate::state::attempts::Head;
use crate::state::pool::SecureCookie;
use crate::state::{Backend, BackendId, Choice, Picked, Pool};
use crate::upstream::{Answered, Incoming, Lane, ResponseHead};

/// Sends a request to a backend of the pool, and to another if that fails and may be repeated.
///
/// # Errors
/// The failure of the last attempt, or that nobody could be asked.
pub async fn forward(
    pool: &Arc<Pool>,
    outgoing: &mut Outgoing,
    record: &mut RequestRecord,
) -> Result<Answer, Failure> {
    let worker = Rc::clone(&record.connection.worker);
    let mut tried: SmallVec<[BackendId; 3]> = SmallVec::new();
    let mut cause: Option<Cause> = None;
    loop {
        let picked = queue::pick(pool, outgoing, &tried, record).await?;
        if let Some(cause) = cause {
            cause.counter(&picked.slot.backend().cells.cell(worker.id).retries).add(1);
        }
        let lane = worker.upstreams.lane(picked.slot.backend(), &pool.upstream);
        record.picked(&picked, &lane);
        let answer = pin!(attempt(pool, outgoing, (picked, &lane), &tried, record)).await;
        let missed = match answer {
            Ok(answer) => return Ok(answer),
            Err(missed) => missed,
        };
        let backend = lane.backend();
        if let Some(outcome) = missed.outcome() {
            worker.attempt_ended(backend, outcome, missed.status());
        }
        missed.count_timeout(&backend.cells.cell(worker.id).timeouts);
        let (missed, failure, decided) = match missed {
            Missed::Final(failure) => return Err(failure),
            Missed::Again(cause, failure) => (cause, failure, false),
            Missed::Answered(status) => (Cause::Status(status), Failure::Deadline, true),
        };
        if matches!(missed, Cause::Connect | Cause::Reset | Cause::Timeout) {
            worker.suspect(backend);
        }
        if missed == Cause::Stale {
            // Its siblings are probably as dead, and each would cost an attempt to find out.
            worker.upstreams.close_idle(backend.id);
        } else {
            tried.push(backend.id);
        }
        if !decided && !may_go_on(missed, pool, outgoing, record) {
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

/// Whether an answer with this status is kept from the client and somebody else is asked; takes that
/// out of the budget if so. A backend on its own gets no second question.
fn is_to_be_asked_elsewhere(
    status: StatusCode,
    pool: &Pool,
    picked: &Picked,
    outgoing: &mut Outgoing,
    record: &RequestRecord,
) -> bool {
    let backend = picked.slot.backend();
    let version = &picked.choice.version;
    // A new version is no judge of itself.
    let refuge = status.is_server_error() && pool.has_refuge_from(version);
    let others = || refuge || version.offers_other(backend.id);
    if pool.retries.on_status.contains(&status.as_u16()) {
        return others() && may_go_on(Cause::Status(status), pool, outgoing, record);
    }
    let well = &backend.yardstick.siblings_well;
    let (method, before) = (&outgoing.head.method, outgoing.has_hidden);
    let well = refuge || well.load(Ordering::Relaxed);
    let hidden = retry::is_hidden(status, method, before, well)
        && others()
        && record.attempts < pool.retries.attempts
        && outgoing.is_replayable()
        && spend(pool, record);
    outgoing.has_hidden |= hidden;
    hidden
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

/// One attempt on one backend; `tried` are those that have failed the request.
async fn attempt(
    pool: &Arc<Pool>,
    outgoing: &mut Outgoing,
    (picked, lane): (Picked, &Rc<Lane>),
    tried: &[BackendId],
    record: &mut RequestRecord,
) -> Result<Answer, Missed> {
    let worker = &record.connection.worker;
    let began = worker.now();
    let place = Place::take(worker, lane, outgoing.upload.as_ref(), began);
    shadow::copy(worker, pool, &picked, outgoing, record.attempts);
    if outgoing.wish.is_some() {
        let watch = (lane, &place);
        // Boxed, since every other request would have room for it.
        let asked = boxed(|| switch::ask(pool, outgoing, watch, record)).await?;
        if let Some(asked) = asked {
            return switch::answered(pool, outgoing, picked, asked, (place, began), record);
        }
    }
    let backend = picked.slot.backend();
    let waiting = (lane, &place);
    let answered = pin!(exchange(pool, outgoing, backend, waiting, tried, record)).await?;
    // Where a request holds the most: a test sees what becomes of that.
    #[cfg(test)]
    assert_ne!(outgoing.head.target, "/panic", "a test asked for it");
    let Answered { head, body, lease } = answered;
    let status = head.status;
    count_answer(picked.slot.backend(), status, place, began, record);
    if is_to_be_asked_elsewhere(status, pool, &picked, outgoing, record) {
        return Err(Missed::Answered(status));
    }
    shadow::answered(outgoing, status, || record.connection.worker.now() - began);
    let worker = Rc::clone(&record.connection.worker);
    // Nobody sends them again.
    worker.upstreams.spare.keep(&mut outgoing.head.headers);
    let answer = body::Answer::of(status);
    let (slot, lease) = (picked.slot, Some(lease));
    let hold = Hold { slot, lease, gauge: None, picked: began, answer, worker };
    Ok(Answer::Backend(relay(pool, outgoing, hold, &picked.choice, (head, body), record)))
}

/// A head has come; with it the place among those who wait is left.
pub(super) fn count_answer(
    backend: &Backend,
    status: StatusCode,
    place: Place,
    began: Instant,
    record: &RequestRecord,
) {
    let worker = &record.connection.worker;
    let cells = backend.cells.cell(worker.id);
    cells.codes.count(status);
    let sent = record.upload.as_ref().and_then(|upload| upload.finished());
    let now = worker.tick();
    let age = now.saturating_duration_since(sent.map_or(began, |sent| sent.max(began)));
    cells.head.observe(age);
    let head = Head { at: worker.uptime_at(now), age, status: status.as_u16() };
    backend.note_head(worker.id, head, place.marks());
}

/// Turns a backend's response into the client's.
pub(super) fn relay(
    pool: &Pool,
    outgoing: &Outgoing,
    mut hold: Hold,
    choice: &Choice,
    (mut head, incoming): (Box<ResponseHead>, Incoming),
    record: &mut RequestRecord,
) -> Reply {
    let worker = Rc::clone(&record.connection.worker);
    record.answered(head.status);
    let survey = Survey::of(&head.headers);
    if survey.hop_by_hop {
        hold.note_keep_alive(&head.headers);
        if head.headers.contains_key(TRANSFER_ENCODING) {
            // Beside a coding the length means nothing (RFC 9112 section 6.3), and behind us there
            // is no coding to say so.
            head.headers.remove(CONTENT_LENGTH);
        }
        hop::strip_from_answer(head.status, &mut head.headers);
    }
    bind(pool, choice, &mut head.headers, record);
    unmark(&mut head.headers, survey);
    if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6.
        head.headers.remove(CONTENT_LENGTH);
    }
    let mut stream = None;
    let pause = if survey.event_stream {
        if !incoming.is_end_stream() {
            let grpc = survey.grpc;
            stream = Some(Box::new(EventStream::new(&worker, hold.backend(), grpc)));
        }
        hold.answer.grpc_failed = body::tells_grpc_failure(&head.headers);
        // It may last for days; what it says of the pool is said with its head.
        record.pass.iter_mut().for_each(|pass| pass.success = Some(head.status.is_success()));
        drop(record.pass.take());
        pool.upstream.tunnel_idle_timeout
    } else {
        pool.upstream.body_idle_timeout
    };
    let body = ResponseBody::relay(Box::new(Relay {
        incoming,
        upload: outgoing.upload.clone(),
        timer: worker.wheel.timer(),
        pause,
        deadline: outgoing.deadline,
        stream,
        blocked: record.connection.io.last_blocked.get(),
        hold: Some(hold),
        closed: None,
    }));
    Reply { head, body }
}

/// Tells the client which backend it is bound to, if that has changed.
pub(super) fn bind(pool: &Pool, choice: &Choice, headers: &mut HeaderMap, record: &RequestRecord) {
    if !choice.rebind {
        return;
    }
    let secure = match pool.secure_cookie {
        SecureCookie::Auto => record.connection.tls.get().is_some(),
        SecureCookie::Always => true,
        SecureCookie::Never => false,
    };
    let affinity = choice.version.affinity.as_ref();
    let cookie = affinity.and_then(|affinity| affinity.set_cookie(choice.member, secure));
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        headers.append(SET_COOKIE, value);
    }
}
