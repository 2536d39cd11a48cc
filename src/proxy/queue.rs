//! From a prepared request to a slot on a backend: at once, or in line.

use std::rc::Rc;

use http::header::COOKIE;
use tokio::time::Instant;

use super::error::Failure;
use super::outgoing::Outgoing;
use super::rare::boxed;
use super::record::RequestRecord;
use crate::framing::plain::values;
use crate::state::waiting::Waiter;
use crate::state::{BackendId, NotPicked, Picked, Pool};

/// Picks a backend for one attempt, and waits for a slot if all are at their limit.
///
/// # Errors
/// That nobody can be asked, that the line is full, or that the wait was too long.
pub async fn pick(
    pool: &Pool,
    outgoing: &Outgoing,
    tried: &[BackendId],
    record: &mut RequestRecord,
) -> Result<Picked, Failure> {
    let worker = &record.connection.worker;
    let cookies = || cookies(outgoing);
    let picked = worker.with_rng(|rng| pool.pick(cookies, outgoing.client_hash, tried, rng));
    match picked {
        Ok(picked) => Ok(picked),
        Err(NotPicked::Nobody) => Err(Failure::NoBackend),
        // Boxed, since every other request would have room for it.
        Err(NotPicked::Full | NotPicked::BoundIsFull) => {
            boxed(|| wait(pool, outgoing, tried, record)).await
        }
    }
}

fn cookies(outgoing: &Outgoing) -> impl Iterator<Item = &[u8]> {
    values(&outgoing.head.headers, &outgoing.head.plain, &COOKIE)
}

/// Waits in line. If the client leaves, this is dropped, and with it the place in line and the slot
/// that may just have been given: it goes to the next.
async fn wait(
    pool: &Pool,
    outgoing: &Outgoing,
    tried: &[BackendId],
    record: &mut RequestRecord,
) -> Result<Picked, Failure> {
    let worker = Rc::clone(&record.connection.worker);
    let cells = pool.state.cells.cell(worker.id);
    let (mut waiter, answer) = Waiter::new(&pool.state, worker.with_rng(fastrand::Rng::fork));
    waiter.cookies = cookies(outgoing).map(<[u8]>::to_vec).collect();
    waiter.hash = outgoing.client_hash;
    waiter.tried = tried.into();
    let place = pool.state.line.join(pool.queue.size, waiter).map_err(|_full| {
        cells.queue_full.add(1);
        Failure::QueueFull
    })?;
    cells.queued.add(1);
    let wait = Wait { joined: worker.tick(), pool, record };
    let until = wait.joined + pool.queue.timeout;
    let route_first = outgoing.deadline.filter(|deadline| *deadline < until);
    let answer = worker.wheel.timer().within(route_first.unwrap_or(until), answer).await;
    drop((place, wait));
    match answer {
        Ok(Ok(Ok(picked))) => Ok(picked),
        // The line never lets go of a waiter unanswered.
        Ok(Ok(Err(_)) | Err(_)) => Err(Failure::NoBackend),
        Err(_expired) if route_first.is_some() => Err(Failure::Deadline),
        Err(_expired) => {
            cells.queue_timeouts.add(1);
            Err(Failure::QueueTimeout)
        }
    }
}

/// A wait in line. It is told when it ends, also for a client that leaves meanwhile.
struct Wait<'a> {
    joined: Instant,
    pool: &'a Pool,
    record: &'a mut RequestRecord,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let worker = &self.record.connection.worker;
        let waited = worker.tick().saturating_duration_since(self.joined);
        self.pool.state.cells.cell(worker.id).queue_wait.observe(waited);
        self.record.queued += waited;
    }
}
