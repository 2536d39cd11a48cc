//! What a route's `fallback` answers when its pool has nobody to do it: nobody may be picked or
//! reached, the line for a slot is full or too slow, or the circuit breaker is open. Nothing was sent
//! by then, or only what may be sent twice.

use std::sync::Arc;

use http::HeaderValue;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::body::ResponseBody;
use super::breaker;
use super::error::{self, Failure};
use super::forward::forward;
use super::outgoing::Outgoing;
use super::record::RequestRecord;
use super::service::Answer;
use crate::state::snapshot::{Fallback, StaticAnswer};

/// Answers in place of the pool that failed for this reason.
///
/// # Errors
/// As [`forward`]: another pool may have nobody either, and has no fallback of its own.
pub async fn answer(
    fallback: &Fallback,
    failure: &Failure,
    outgoing: &mut Outgoing,
    record: &mut RequestRecord,
) -> Result<Answer, Failure> {
    let worker = record.connection.worker.id;
    if let Some(pool) = &record.pool {
        pool.state.cells.cell(worker).fallbacks.add(1);
    }
    record.fallback_of = record.pool.clone();
    match fallback {
        Fallback::Static(answer) => Ok(Answer::Ours(of_file(answer, failure), failure.reason())),
        Fallback::Pool(pool) => {
            record.pool = Some(Arc::clone(pool));
            pool.state.cells.cell(worker).requests.add(1);
            breaker::admit(pool, record)?;
            let answer = forward(pool, outgoing, record).await;
            answer.inspect_err(|failure| breaker::failed(failure, record))
        }
    }
}

fn of_file(answer: &StaticAnswer, failure: &Failure) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(answer.body.clone()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, answer.content_type.clone());
    // Whatever its status, it is no page to be kept.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    error::say_when(&mut response, failure);
    response
}
