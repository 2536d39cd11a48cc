//! Asking a backend to switch protocols, for a client that wishes it.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use http::header::SEC_WEBSOCKET_KEY;
use tokio::time::Instant;

use super::body::{self, Hold};
use super::error::Failure;
use super::forward::{bind, count_answer, relay};
use super::missed::Missed;
use super::outgoing::Outgoing;
use super::patience::{Late, Patience, in_time};
use super::record::RequestRecord;
use super::service::Answer;
use super::upgrade::{Switching, Wish};
use super::waiting::Place;
use super::websocket;
use crate::health::outliers::Outcome;
use crate::state::pool::Protocol;
use crate::state::{Picked, Pool};
use crate::upstream::http1::UpgradeOutcome;
use crate::upstream::{Error, Incoming, Lane, UpgradeAnswer};

/// What became of the wish.
pub struct Asked {
    answer: UpgradeAnswer,
    /// Ours, where the client has none.
    key: Option<HeaderValue>,
}

/// Asks the backend to switch protocols. `None`, if it speaks HTTP/2 only and the client can do without:
/// then it has not been asked anything, and the request goes on without the wish.
///
/// # Errors
/// How the attempt failed.
pub async fn ask(
    pool: &Pool,
    outgoing: &mut Outgoing,
    (lane, place): (&Rc<Lane>, &Place),
    record: &RequestRecord,
) -> Result<Option<Asked>, Missed> {
    let worker = &record.connection.worker;
    let is_optional = outgoing.wish.as_ref().is_none_or(Wish::is_optional);
    if is_optional && pool.upstream.protocol == Protocol::H2 {
        outgoing.waive_wish();
        return Ok(None);
    }
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
    let asked = {
        let asking = pin!(lane.upgrade(&outgoing.head, outgoing.body()));
        let stay = || false;
        in_time((&timer, place), patience, outgoing, worker.now(), stay, asking).await
    };
    let asked = match asked {
        Ok(asked) => asked,
        // Without ALPN, one that speaks HTTP/2 only may say nothing to what it does not know.
        Err(Late::Backend)
            if pool.upstream.protocol == Protocol::H2 && pool.upstream.tls.is_none() =>
        {
            Err(Error::NoHttp1)
        }
        Err(late) => return Err(late.into()),
    };
    match asked {
        Ok(answer) => Ok(Some(Asked { answer, key })),
        Err(Error::NoHttp1) if is_optional => {
            outgoing.waive_wish();
            Ok(None)
        }
        // A pool is of one kind: there is nobody else to ask.
        Err(Error::NoHttp1) => Err(Missed::Final(Failure::NoWebSocket)),
        Err(error) => Err(Missed::by(error, outgoing)),
    }
}

/// Turns a backend's answer to the wish into the client's.
///
/// # Errors
/// If it is none to this wish.
pub fn answered(
    pool: &Arc<Pool>,
    outgoing: &mut Outgoing,
    picked: Picked,
    Asked { answer: asked, key }: Asked,
    (place, began): (Place, Instant),
    record: &mut RequestRecord,
) -> Result<Answer, Missed> {
    let worker = Rc::clone(&record.connection.worker);
    let status = asked.outcome.status();
    count_answer(picked.slot.backend(), status, place, began, record);
    let hold = Hold {
        lease: None,
        gauge: Some(asked.gauge),
        picked: began,
        answer: body::Answer::of(status),
        worker: Rc::clone(&worker),
        slot: picked.slot,
    };
    match asked.outcome {
        // To CONNECT it would say that the socket is open (RFC 8441 section 5).
        UpgradeOutcome::Declined(..) if key.is_some() && status.is_success() => {
            Err(Missed::Final(Failure::NoWebSocket))
        }
        UpgradeOutcome::Declined(head, body) => {
            let answered = (head, Incoming::Http1(body));
            Ok(Answer::Backend(relay(pool, outgoing, hold, &picked.choice, answered, record)))
        }
        UpgradeOutcome::Switched(mut response, upstream) => {
            bind(pool, &picked.choice, response.headers_mut(), record);
            let idle_timeout = pool.upstream.tunnel_idle_timeout;
            let Some(wish) = outgoing.wish.take() else {
                return Err(Missed::Final(Failure::Handshake));
            };
            let backend = Arc::clone(hold.slot.backend());
            let switching =
                Switching::agreed(response, upstream, hold, idle_timeout, wish, key.as_ref())
                    .map_err(Missed::Final)?;
            // What becomes of the tunnel is between its two ends.
            let agreed = Outcome::Success { body: false };
            worker.attempt_ended(&backend, agreed, Some(status.as_u16()));
            Ok(Answer::Switching(Box::new(switching)))
        }
    }
}
