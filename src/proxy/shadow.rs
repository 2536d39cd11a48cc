//! Copies of live requests to a version that is to serve: their answers are compared and thrown away.
//!
//! A copy is a task of its own on the worker of its original, and nobody waits for it: neither the
//! client nor the worker's end. The two meet in a [`Pair`], to which each tells its answer in its own
//! time; who tells second compares. A client that leaves takes its end of the pair along, and the copy
//! is left alone. Copies show in no count but those of [`ShadowCells`](crate::state::shadow), and in
//! the slots of the backends that they are sent to.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::ACCEPT;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;

use super::body::RequestBody;
use super::headers::SHADOW;
use super::headers::survey::Survey;
use super::outgoing::Outgoing;
use super::worker::Worker;
use crate::framing::plain::values;
use crate::state::pool::PickWish;
use crate::state::shadow::{Answered, Copying, NoAnswer, Shadow, ShadowCells, ShadowRun};
use crate::state::{NotPicked, Picked, Pool, Slot};
use crate::upstream::{Error, Failed, Lease, RequestHead};

/// No copy lives longer than this, its answer's body included.
const PATIENCE: Duration = Duration::from_secs(10);
/// As much of the body is read; more of it costs a connection.
const ANSWER_BYTES: usize = 256 * 1024;
/// Connections that are tried, where backends have closed unused ones meanwhile.
const CONNECTIONS: u32 = 3;

/// A request and its copy.
#[derive(Debug)]
pub struct Pair {
    worker: Rc<Worker>,
    pool: Arc<Pool>,
    run: Arc<ShadowRun>,
    /// Whether their times count.
    timed: bool,
    original: Cell<Option<Answered>>,
    copy: OnceCell<Copied>,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug)]
enum Copied {
    /// It was sent, or should have been.
    Asked(Result<Answered, NoAnswer>),
    /// It was not sent, for want of room or of files of our own, or given up by us.
    Unasked,
}

/// Sends a copy of a request that is about to be sent in the attempt of this number, if it was drawn
/// and is one that may be copied, and there is room. Later attempts are not copied, nor compared with
/// anything but the copy of the first.
pub fn copy(
    worker: &Rc<Worker>,
    pool: &Arc<Pool>,
    picked: &Picked,
    outgoing: &mut Outgoing,
    attempt: u32,
) {
    if let Some(shadow) = &picked.shadow
        && attempt == 1
        && may_be_copied(outgoing)
    {
        outgoing.pair = send(worker, pool, shadow, outgoing);
    }
}

fn send(
    worker: &Rc<Worker>,
    pool: &Arc<Pool>,
    shadow: &Shadow,
    outgoing: &Outgoing,
) -> Option<Rc<Pair>> {
    let Some(place) = shadow.run.begin() else {
        pool.state.cells.cell(worker.id).shadow.skipped();
        return None;
    };
    let pair = Rc::new(Pair {
        worker: Rc::clone(worker),
        pool: Arc::clone(pool),
        run: Arc::clone(&shadow.run),
        timed: worker.uptime_at(worker.now()) >= shadow.run.timed_from,
        original: Cell::new(None),
        copy: OnceCell::new(),
    });
    let mut head = outgoing.head.clone();
    head.added.push((SHADOW.clone(), HeaderValue::from_static("1")));
    let (version, hash) = (Arc::clone(&shadow.version), outgoing.client_hash);
    let copied = Rc::clone(&pair);
    tokio::task::spawn_local(async move {
        let wish = PickWish { hash, ..PickWish::default() };
        let picked = copied.worker.with_rng(|rng| version.pick(&wish, rng));
        let outcome = match picked {
            Ok(picked) => {
                let outcome = copied.ask(&picked.slot, &head).await;
                let (backend, target) = (&*picked.slot.backend().label, &head.target);
                tracing::debug!(backend, %target, ?outcome, "a copy ended");
                outcome
            }
            Err(NotPicked::Nobody) => Copied::Asked(Err(NoAnswer::Failed)),
            Err(NotPicked::Full | NotPicked::BoundIsFull) => Copied::Unasked,
        };
        copied.copy_ended(outcome, place);
    });
    Some(pair)
}

/// A request was answered with this status, after so long, and that goes to its client.
pub fn answered(outgoing: &mut Outgoing, status: StatusCode, after: impl FnOnce() -> Duration) {
    if let Some(pair) = outgoing.pair.take() {
        pair.original.set(Some(Answered { status: status.as_u16(), after: after() }));
        pair.compare();
    }
}

/// Whether it is a plain GET, whose answer has an end.
fn may_be_copied(outgoing: &Outgoing) -> bool {
    let mut accepts = values(&outgoing.head.headers, &outgoing.head.plain, &ACCEPT);
    outgoing.head.method == Method::GET
        && outgoing.upload.is_none()
        && outgoing.wish.is_none()
        && !accepts.any(|accept| accept.starts_with(b"text/event-stream"))
}

impl Pair {
    fn copy_ended(&self, outcome: Copied, place: Copying) {
        if matches!(outcome, Copied::Unasked) && !self.run.is_over() {
            self.cells().skipped();
        }
        // It is set here only.
        let _ = self.copy.set(outcome);
        self.compare();
        // Who sees that none is under way is to see what they came to.
        drop(place);
    }

    fn cells(&self) -> &ShadowCells {
        &self.pool.state.cells.cell(self.worker.id).shadow
    }

    fn compare(&self) {
        let (Some(original), Some(copy)) = (self.original.get(), self.copy.get()) else { return };
        if let Copied::Asked(copy) = copy
            && !self.run.is_over()
        {
            self.cells().compared(&self.run, original, *copy, self.timed);
        }
    }

    /// Sends the copy, and reads the answer to its end, or as far as there is patience.
    async fn ask(&self, slot: &Slot, head: &RequestHead) -> Copied {
        let heard = Cell::new(None);
        let timer = self.worker.wheel.timer();
        let until = self.worker.tick() + PATIENCE;
        let exchange = timer.within(until, self.exchange(slot, head, &heard));
        let ended = tokio::select! {
            biased;
            ended = exchange => ended,
            () = self.run.ended() => return Copied::Unasked,
        };
        match (ended, heard.get()) {
            (Ok(Err(copied)), _) => copied,
            (_, Some(answered)) => Copied::Asked(Ok(answered)),
            (_, None) => Copied::Asked(Err(NoAnswer::NotWithin(PATIENCE))),
        }
    }

    /// Asks, tells when a head was `heard`, and reads the body.
    async fn exchange(
        &self,
        slot: &Slot,
        head: &RequestHead,
        heard: &Cell<Option<Answered>>,
    ) -> Result<(), Copied> {
        let worker = &self.worker;
        let began = worker.now();
        let lane = worker.upstreams.lane(slot.backend(), &self.pool.upstream);
        let mut left = CONNECTIONS;
        let answer = loop {
            left -= 1;
            let now = Instant::now();
            let connection = match lane.take_unused(now) {
                Some(connection) => connection,
                None => lane.open().await.map_err(|error| ended_by(&error))?,
            };
            let reused = connection.is_reused();
            match connection.send(head, RequestBody::empty()).await {
                Ok(answer) => break answer,
                Err(Failed { error, unsent }) => {
                    let gone = matches!(error, Error::Stale) || (unsent && reused);
                    if !gone || left == 0 {
                        return Err(ended_by(&error));
                    }
                }
            }
        };
        let after = worker.tick().saturating_duration_since(began);
        heard.set(Some(Answered { status: answer.head.status.as_u16(), after }));
        if Survey::of(&answer.head.headers).event_stream {
            return Ok(());
        }
        read(answer.body, answer.lease)
            .await
            .map_err(|_broken_off| Copied::Asked(Err(NoAnswer::Failed)))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let asked = matches!(self.copy.get(), Some(Copied::Asked(_)));
        if asked && self.original.get().is_none() && !self.run.is_over() {
            self.cells().alone();
        }
    }
}

/// What an error says of the copy.
fn ended_by(error: &Error) -> Copied {
    tracing::debug!(%error, "a copy failed");
    match error {
        // Without files of our own nobody was asked.
        Error::OutOfFiles => Copied::Unasked,
        _ => Copied::Asked(Err(NoAnswer::Failed)),
    }
}

/// Throws an answer away, and gives the connection back if that was all of it.
async fn read(mut body: crate::upstream::Incoming, lease: Lease) -> std::io::Result<()> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, bytes::Bytes::len);
        if read > ANSWER_BYTES {
            return Ok(());
        }
    }
    drop(body);
    lease.give_back(Instant::now());
    Ok(())
}
