//! Connections to backends that are opened before anybody needs them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::USER_AGENT;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt;

use super::body::RequestBody;
use super::worker::Worker;
use crate::balance::Condition;
use crate::framing::plain::PlainLines;
use crate::state::{Address, Backend, Pool, WarmUp, WarmedUp};
use crate::upstream::{Answered, Connection, RequestHead};

/// Connections that a worker opens ahead of need in a second, at most.
const OPENED_A_SECOND: usize = 50;
/// They are spread over so long.
const SPREAD: Duration = Duration::from_millis(900);
/// For a request that keeps a connection from being forgotten.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// As much of its answer as is read.
const ANSWER_BYTES: usize = 64 * 1024;

/// Opens what an order asks for, and tells how it went.
pub fn warm_up(worker: &Rc<Worker>, order: WarmUp) {
    let lane = worker.upstreams.lane(&order.backend, &order.settings);
    let id = worker.id;
    tokio::task::spawn_local(async move {
        let opened = lane.warm_up(order.connections).await;
        let outcome = opened.map_err(|error| error.to_string());
        // Who asked may have lost interest.
        let _ = order.reply.send(WarmedUp { worker: id, outcome });
    });
}

/// Looks after the connections that pools want to be there: opens what is missing to healthy backends,
/// and asks something on those that have rested. To be called every second.
pub fn look_after(worker: &Rc<Worker>, now: Instant) {
    let snapshot = worker.snapshot();
    let mut left = OPENED_A_SECOND;
    for pool in snapshot.pools.values().filter(|pool| pool.upstream.min_idle > 0) {
        let split = pool.state.split.load();
        let serving = split.shares.iter().filter(|share| share.share > 0.0);
        for member in serving.flat_map(|share| &share.version.members) {
            if member.backend.condition() == Condition::Healthy {
                left -= usize::from(look_after_backend(worker, pool, &member.backend, now));
            }
            if left == 0 {
                return;
            }
        }
    }
}

/// Whether a connection is being opened.
fn look_after_backend(
    worker: &Rc<Worker>,
    pool: &Pool,
    backend: &Arc<Backend>,
    now: Instant,
) -> bool {
    let lane = worker.upstreams.lane(backend, &pool.upstream);
    let settings = &pool.upstream;
    if let Some(request) = &settings.keepalive_request
        && let Some(connection) = lane.take_rested(now, settings.keepalive_interval)
    {
        let asking = ask(connection, head(request, backend));
        // A backend that does not answer shows to requests and probes; here it costs a connection.
        let asking = tokio::time::timeout(REQUEST_PATIENCE, asking);
        tokio::task::spawn_local(async move { drop(asking.await) });
    }
    let short = lane.is_short(now);
    if short {
        let delay = SPREAD.mul_f64(worker.with_rng(fastrand::Rng::f64));
        tokio::task::spawn_local(async move { lane.top_up(delay).await });
    }
    short
}

/// Asks, and gives the connection back if it answered in full.
async fn ask(connection: Connection, head: RequestHead) -> Option<()> {
    let Answered { mut body, lease, .. } =
        connection.send(&head, RequestBody::empty()).await.ok()?;
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame.ok()?.data_ref().map_or(0, bytes::Bytes::len);
        if read > ANSWER_BYTES {
            return None;
        }
    }
    lease.give_back(Instant::now());
    Some(())
}

fn head(request: &PathAndQuery, backend: &Backend) -> RequestHead {
    let host = match &backend.address {
        Address::Unix(_) => Ok(HeaderValue::from_static("localhost")),
        _ => HeaderValue::from_str(&backend.label),
    };
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static("tidegate-keepalive"));
    RequestHead {
        method: Method::GET,
        target: request.clone(),
        host: host.unwrap_or(HeaderValue::from_static("localhost")),
        headers,
        plain: PlainLines::default(),
        of_connection: Rc::default(),
        sieve: None,
        added: smallvec::SmallVec::new(),
    }
}
