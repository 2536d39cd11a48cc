//! One server of a pool with everything that outlives a reload: its condition and its counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;

use super::Address;
use super::attempts::{AttemptCells, Yardstick};
use super::counters::{CodeCounters, Counter, Histogram, PerWorker, TransitionCounters};
use super::findings::Findings;
use super::history::History;
use super::keep_alive::LearnedKeepAlive;
use super::ratio::Ratio;
use super::waiting::WaitingLine;
use crate::balance::{Condition, stable_hash};
use crate::health::outliers::TRIED_AT_ONCE;
use crate::health::{Health, State};

/// Names a backend within this process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(u64);

/// How a condition is held in an atomic: as its index. The first is the one at start.
const CONDITIONS: [Condition; 7] = Condition::ALL;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A backend: identity (pool, address), carried across every reload that keeps it.
#[derive(Debug)]
pub struct Backend {
    /// Key of the workers' connection pools.
    pub id: BackendId,
    /// The pool that it belongs to.
    pub pool: Arc<str>,
    /// Where it is.
    pub address: Address,
    /// The address as text, made once for labels, log lines and errors.
    pub label: Arc<str>,
    /// Of the address, for hashing policies: the same on every balancer and after a restart.
    pub hash: u64,
    /// What `address` resolves to; empty while a name was never resolved. For Unix sockets unused.
    pub resolved: ArcSwapOption<SocketAddr>,
    /// What the workers count.
    pub cells: PerWorker<BackendCells>,
    /// What the probes count.
    pub probes: ProbeCounters,
    /// How often its health changed, and how.
    pub transitions: TransitionCounters,
    /// It may be ill: set by a worker, cleared by the probe that it causes. Others are preferred.
    pub suspected: AtomicBool,
    /// It is back from an ejection and has to show that it is well: one request at a time, as long as
    /// others can serve. Set by outlier detection.
    pub on_trial: AtomicBool,
    /// It was found to be slow and is being tried out; see [`load`](Self::load). Set by outlier
    /// detection.
    pub needs_trials: AtomicBool,
    /// What its traffic has shown so far is not to be held against it any more. Set by the governor, and
    /// taken back by outlier detection, which heeds it.
    pub forget_traffic: AtomicBool,
    /// The time of its requests is over: what is left of them is cut. Set and taken back by the
    /// governor only.
    pub cut: AtomicBool,
    /// It has left the configuration; only what began before may still come to it. Set by the governor,
    /// before it tells the workers.
    pub gone: AtomicBool,
    /// What happened to it last.
    pub history: History,
    /// What speaks against it and led to nothing.
    pub findings: Findings,
    /// How long it keeps an unused connection open, as far as that was learned.
    pub keep_alive: LearnedKeepAlive,
    /// By what its attempts are measured.
    pub yardstick: Yardstick,
    slow_start: Ratio,
    pace: Ratio,
    /// Where requests wait for a slot on it or its siblings.
    line: Arc<WaitingLine>,
    in_flight: AtomicU32,
    /// The most requests in flight.
    limit: AtomicU32,
    condition: AtomicU8,
    health: Mutex<Health>,
}

/// What one worker counts for one backend.
#[derive(Debug, Default)]
pub struct BackendCells {
    /// Answers by status; for failed attempts the status that the failure became.
    pub codes: CodeCounters,
    /// Time from the pick to the last byte.
    pub duration: Histogram,
    /// Time from the request's last byte to the response head.
    pub head: Histogram,
    /// Connections that could not be opened.
    pub connect_errors: Counter,
    /// Connections opened.
    pub connects: Counter,
    /// Connections closed.
    pub closes: Counter,
    /// Connections that lie unused now: in minus out.
    pub idle_in: Counter,
    /// See `idle_in`.
    pub idle_out: Counter,
    /// Requests of clients for which a connection was taken that had served another before.
    pub reuses: Counter,
    /// Reused connections that turned out to be closed by the backend.
    pub stale: Counter,
    /// Connections on which it broke the rules of HTTP.
    pub malformed: Counter,
    /// Attempts on this backend that followed a failed one, by the reason of that failure.
    pub retries: RetryCounters,
    /// Body bytes received from the backend.
    pub bytes_in: Counter,
    /// Body bytes sent to the backend.
    pub bytes_out: Counter,
    /// Tunnels opened.
    pub tunnels_opened: Counter,
    /// Tunnels closed.
    pub tunnels_closed: Counter,
    /// What its attempts came to.
    pub attempts: AttemptCells,
    /// What was waited for too long.
    pub timeouts: TimeoutCounters,
}

/// What was waited for too long, by the setting that says so.
#[derive(Debug, Default)]
pub struct TimeoutCounters {
    /// `connect_timeout`.
    pub connect: Counter,
    /// `response_timeout`.
    pub response: Counter,
    /// `body_idle_timeout`, either way.
    pub body_idle: Counter,
    /// `tunnel_idle_timeout`.
    pub tunnel_idle: Counter,
    /// The route's `timeout`, while the request was here.
    pub route: Counter,
}

/// Retries by reason.
#[derive(Debug, Default)]
pub struct RetryCounters {
    /// The connection could not be opened.
    pub connect: Counter,
    /// The connection broke before an answer.
    pub reset: Counter,
    /// The stream was refused unprocessed (HTTP/2).
    pub refused_stream: Counter,
    /// No answer in time.
    pub timeout: Counter,
    /// No answer yet from a backend that was judged unfit meanwhile.
    pub rescued: Counter,
    /// An answer whose status asked for another try.
    pub status: Counter,
}

/// What the prober of one backend counts; it is the only writer.
#[derive(Debug, Default)]
pub struct ProbeCounters {
    /// Probes that passed.
    pub passed: Counter,
    /// Probes that failed.
    pub failed: Counter,
    /// How long probes took.
    pub duration: Histogram,
}

impl Backend {
    /// A backend that nobody has looked at yet: it is `checking`.
    pub fn new(pool: Arc<str>, address: Address, health: Health, workers: usize) -> Self {
        let resolved = match &address {
            Address::Ip(ip) => ArcSwapOption::from_pointee(*ip),
            Address::Name { .. } | Address::Unix(_) => ArcSwapOption::empty(),
        };
        let label: Arc<str> = address.to_string().into();
        Backend {
            id: BackendId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            pool,
            hash: stable_hash(label.as_bytes()),
            label,
            address,
            resolved,
            cells: PerWorker::new(workers),
            probes: ProbeCounters::default(),
            transitions: TransitionCounters::default(),
            suspected: AtomicBool::new(false),
            on_trial: AtomicBool::new(false),
            needs_trials: AtomicBool::new(false),
            forget_traffic: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            history: History::default(),
            findings: Findings::default(),
            keep_alive: LearnedKeepAlive::default(),
            slow_start: Ratio::new(1.0),
            pace: Ratio::new(1.0),
            yardstick: Yardstick::default(),
            line: Arc::default(),
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
            condition: AtomicU8::new(0),
            health: Mutex::new(health),
        }
    }

    /// Requests that hold a slot now, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How busy it is, for picks: its requests in flight. Of one that is slow and to be tried out a few
    /// do not count: least connections would send it nothing as long as others are less busy, and
    /// nobody would know whether it is still slow.
    pub fn load(&self) -> u32 {
        let in_flight = self.in_flight();
        if self.needs_trials.load(Ordering::Relaxed) {
            in_flight.saturating_sub(TRIED_AT_ONCE)
        } else {
            in_flight
        }
    }

    /// What the backend is fit for now.
    pub fn condition(&self) -> Condition {
        let index = usize::from(self.condition.load(Ordering::Relaxed));
        CONDITIONS[index.min(CONDITIONS.len() - 1)]
    }

    /// What its circuit breaker does, as a word for metrics and answers.
    pub fn circuit(&self) -> &'static str {
        match self.condition() {
            Condition::Ejected => "open",
            _ if self.on_trial.load(Ordering::Relaxed) => "half_open",
            _ => "closed",
        }
    }

    /// It is under suspicion, and its probes have not confirmed that: by their own verdict, whatever
    /// was decided by hand. Takes the lock of its health.
    pub fn is_suspect(&self) -> bool {
        self.suspected.load(Ordering::Relaxed) && self.health().verdict() != Some(false)
    }

    /// Whether others are to be preferred as long as there are any: under suspicion, or on trial with
    /// as much as it may have meanwhile.
    pub fn is_to_be_avoided(&self) -> bool {
        self.suspected.load(Ordering::Relaxed)
            || (self.on_trial.load(Ordering::Relaxed) && self.in_flight() > 0)
    }

    /// Publishes a new condition. The caller rebuilds the usable sets of the backend's versions.
    pub fn set_condition(&self, condition: Condition) {
        let index = CONDITIONS.iter().position(|known| *known == condition).unwrap_or_default();
        self.condition.store(index as u8, Ordering::Relaxed);
    }

    /// The part of its weight that it is to get now, 0 to 1: read by every pick. What keeps it below
    /// 1 is slow start and slowness, and each is set by who judges it.
    pub fn weight_ratio(&self) -> f64 {
        self.slow_start.get() * self.pace.get()
    }

    /// Whether it is to get less than its weight says.
    pub fn is_spared(&self) -> bool {
        self.weight_ratio() < 1.0
    }

    /// How far it is into its slow start, 0 to 1; 1 outside of it. `true` if it is spared now and
    /// was not before, or the other way round: then the caller has its usable sets rebuilt.
    #[must_use]
    pub fn set_slow_start(&self, ratio: f64) -> bool {
        let before = self.is_spared();
        self.slow_start.set(ratio);
        self.is_spared() != before
    }

    /// The share that its slowness leaves it, 0 to 1, as outlier detection has it; 1 if it is not
    /// slow. The result is that of [`set_slow_start`](Self::set_slow_start).
    #[must_use]
    pub fn set_pace(&self, ratio: f64) -> bool {
        let before = self.is_spared();
        self.pace.set(ratio);
        self.is_spared() != before
    }

    /// Publishes what its health says now, to be called by whoever made a transition. The caller
    /// rebuilds the usable sets of the backend's versions.
    pub fn publish_health(&self) -> Condition {
        // Under the lock, so that of two at once the one with the older view is not the last.
        let health = self.health();
        let condition = Condition::from(health.state());
        self.set_condition(condition);
        condition
    }

    /// Tunnels now, over all workers; each is in flight too.
    pub fn tunnels(&self) -> u64 {
        // The two counters of a difference are not read at the same moment.
        let closed = self.cells.sum(|cells| cells.tunnels_closed.get());
        self.cells.sum(|cells| cells.tunnels_opened.get()).saturating_sub(closed)
    }

    /// The health state machine. Held only for the length of one event; the data plane takes it
    /// for failures, never for a request that went well.
    pub fn health(&self) -> MutexGuard<'_, Health> {
        // A panic while it was held cannot leave it half-written: every method returns whole states.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same backend, in a pool whose requests wait in this line.
    pub fn waited_for_in(self, line: &Arc<WaitingLine>) -> Self {
        Backend { line: Arc::clone(line), ..self }
    }

    /// Sets how many requests it may have in flight; `u32::MAX` is no limit. Those in flight stay,
    /// and whoever raises it hands over what there is more.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Whether it has as many requests in flight as it may have.
    pub fn is_full(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit != u32::MAX && self.in_flight.load(Ordering::SeqCst) >= limit
    }

    /// Takes a slot, if one is free: the backend has one more request in flight until the slot is
    /// dropped. The limit is not exceeded even for a moment.
    pub fn take_slot(self: &Arc<Self>) -> Option<Slot> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == u32::MAX {
            self.in_flight.fetch_add(1, Ordering::SeqCst);
        } else {
            // Sequentially consistent, as are the waiters' count and its look: of one who finds no
            // slot and stands in line, and one who frees a slot and finds no line, one must see the
            // other.
            let one_more = |taken: u32| (taken < limit).then(|| taken + 1);
            self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        }
        Some(Slot { backend: Arc::clone(self) })
    }
}

/// What picks make of a verdict.
impl From<State> for Condition {
    fn from(state: State) -> Self {
        match state {
            State::Checking => Condition::Checking,
            State::Healthy => Condition::Healthy,
            State::Unhealthy => Condition::Unhealthy,
            State::Ejected { .. } => Condition::Ejected,
            State::Leaving => Condition::Leaving,
            State::Draining => Condition::Draining,
            State::Disabled => Condition::Disabled,
        }
    }
}

/// One request in flight on a backend: from the pick to the last byte read from it.
#[derive(Debug)]
pub struct Slot {
    backend: Arc<Backend>,
}

impl Slot {
    /// The backend that was picked.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.backend.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.backend.line.hand_over();
    }
}

#[cfg(test)]
impl Backend {
    /// One of the pool `app` for tests, on this port of this machine, served by two workers. One probe is
    /// a verdict.
    pub(crate) fn sample(port: u16) -> Backend {
        use std::time::Duration;

        let second = Duration::from_secs(1);
        let settings = crate::health::Settings {
            rise: 1,
            fall: 1,
            base_ejection: second,
            max_ejection: second,
            flaps: crate::health::FlapSettings::default(),
        };
        let health = Health::new(settings, Duration::ZERO);
        Backend::new("app".into(), Address::Ip(([127, 0, 0, 1], port).into()), health, 2)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::health::ProbeFailure;

    #[test]
    fn who_is_known_to_be_ill_is_suspected_no_more() {
        let backend = Backend::sample(1);
        backend.suspected.store(true, Ordering::Relaxed);
        assert!(backend.is_suspect());
        let _ =
            backend.health().on_probe(Duration::ZERO, Err(ProbeFailure::TimedOut(Duration::ZERO)));
        assert!(!backend.is_suspect());
    }

    #[test]
    fn what_waits_on_one_that_is_tried_out_does_not_count() {
        let backend = Arc::new(Backend::sample(1));
        let slots: Vec<_> = (0..12).map(|_| backend.take_slot()).collect();
        assert_eq!(backend.load(), 12);
        backend.needs_trials.store(true, Ordering::Relaxed);
        assert_eq!(backend.load(), 2);
        drop(slots);
        assert_eq!(backend.load(), 0);
    }
}
