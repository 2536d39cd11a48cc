//! One exchange with a backend: a connection, the request on it, the head of the answer.

use std::pin::pin;
use std::rc::Rc;

use tokio::time::Instant;

use super::missed::Missed;
use super::outgoing::Outgoing;
use super::patience::{Late, Patience, in_time};
use super::rare::boxed;
use super::record::RequestRecord;
use super::retry::{self, Cause};
use super::timer::Timer;
use super::waiting::Place;
use crate::state::{Backend, BackendId, Pool};
use crate::upstream::{self, Answered, Connection, Failed, Lane};

/// Sends the request on a connection and waits for the head of the answer.
///
/// # Errors
/// How the attempt failed.
pub async fn exchange(
    pool: &Pool,
    outgoing: &Outgoing,
    backend: &Backend,
    (lane, place): (&Rc<Lane>, &Place),
    tried: &[BackendId],
    record: &RequestRecord,
) -> Result<Answered, Missed> {
    let worker = &record.connection.worker;
    let timer = worker.wheel.timer();
    // Without somebody else to ask it is better to wait, for whatever comes.
    let may_leave = |cause: Cause| {
        let (idempotent, replayable) = (outgoing.idempotent, outgoing.is_replayable());
        retry::is_due(cause, &pool.retries, record.attempts, idempotent, replayable)
            && pool.has_other(backend.id, tried)
    };
    loop {
        let watch = (&timer, place);
        let connection = match lane.take_unused(worker.now().into_std()) {
            Some(connection) => connection,
            None => {
                let leave = || may_leave(Cause::Connect);
                // Boxed, since it is rare, and every request would have room for it.
                let opened = boxed(|| open(lane, watch, outgoing, worker.now(), leave)).await?;
                worker.tick();
                opened
            }
        };
        let reused = connection.is_reused();
        let sending = pin!(connection.send(&outgoing.head, outgoing.body()));
        let patience = Patience {
            head: pool.upstream.response_timeout,
            upload: pool.upstream.body_idle_timeout,
        };
        let leave = || may_leave(Cause::Rescued);
        match in_time(watch, patience, outgoing, worker.now(), leave, sending).await {
            Ok(Ok(answer)) => return Ok(answer),
            // It was closed before anything was written: not even a stale connection, only an idle
            // one that is gone. The next one is this same attempt.
            Ok(Err(Failed { unsent: true, error })) if reused && Cause::of(&error).is_some() => {}
            Ok(Err(Failed { unsent: true, error })) if Cause::of(&error).is_some() => {
                return Err(Missed::Again(Cause::Connect, error.into()));
            }
            Ok(Err(failed)) => return Err(Missed::by(failed.error, outgoing)),
            Err(late) => return Err(late.into()),
        }
    }
}

/// Opens a connection, as long as there is patience.
async fn open(
    lane: &Rc<Lane>,
    watch: (&Timer, &Place),
    outgoing: &Outgoing,
    now: Instant,
    may_leave: impl Fn() -> bool,
) -> Result<Connection, Missed> {
    let opening = pin!(lane.open());
    match in_time(watch, Patience::ENDLESS, outgoing, now, may_leave, opening).await {
        Err(Late::Unfit) => {
            let error = upstream::Error::ConnectTimeout;
            Err(Missed::Again(Cause::Connect, error.into()))
        }
        opened => opened?.map_err(|error| Missed::by(error, outgoing)),
    }
}
