//! Outlier detection at work: four times a second, and at once when a worker raises an alarm, the
//! backends of each version are judged by their traffic, and what follows is done.
//!
//! The judgement itself is [`outliers`](crate::health::outliers). A version without traffic costs a
//! look at a few atomics of each backend.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::MissedTickBehavior;

use super::publisher::Publisher;
use super::slices::sliced;
use super::transition::publish;
use super::trial::Trial;
use crate::balance::Condition;
use crate::health::outliers::{
    Action, Alarm, Finding, Peer, Totals, Traffic, all_fail, judge, judge_alarm,
};
use crate::health::suspicion::patience;
use crate::state::{Backend, Member, Pool, Shared, Snapshot, Version};
use crate::telemetry::events::{self, Turn};

/// Between two judgements.
const TICK: Duration = Duration::from_millis(250);
/// Alarms that are judged together.
const BATCH: usize = 64;

/// An alarm of a worker, and the backend that it is about.
pub(super) type Raised = (Arc<Backend>, Alarm);

/// Judges all backends in force.
#[derive(Debug)]
pub(super) struct Outliers {
    shared: Arc<Shared>,
    publisher: Arc<Publisher>,
    generation: u64,
    /// By pool and version.
    sets: HashMap<(Arc<str>, Arc<str>), Set, foldhash::fast::RandomState>,
}

/// What is known of the backends of one version.
#[derive(Debug)]
struct Set {
    version: Arc<Version>,
    /// In the order of its members.
    watched: Vec<Watched>,
    all_fail: bool,
}

/// What is known of the traffic of one backend.
#[derive(Debug)]
struct Watched {
    backend: Arc<Backend>,
    /// `None` until it has some: most backends of large configurations never do.
    seen: Option<Box<Seen>>,
    in_service: bool,
    trial: Trial,
}

#[derive(Debug)]
struct Seen {
    traffic: Traffic,
    activity: u64,
    totals: Totals,
}

impl Outliers {
    /// Judges from now on; what is sent is judged at once. Needs the control runtime around it.
    pub(super) fn start(
        shared: &Arc<Shared>,
        publisher: &Arc<Publisher>,
    ) -> UnboundedSender<Raised> {
        let (raise, raised) = unbounded_channel();
        let outliers = Outliers::new(shared, publisher);
        tokio::spawn(outliers.run(raised));
        raise
    }

    fn new(shared: &Arc<Shared>, publisher: &Arc<Publisher>) -> Self {
        Outliers {
            shared: Arc::clone(shared),
            publisher: Arc::clone(publisher),
            generation: 0,
            sets: HashMap::default(),
        }
    }

    async fn run(mut self, mut raised: UnboundedReceiver<Raised>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = raised.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    // A backend that breaks off everything says so with every answer.
                    let mut last: Option<Raised> = None;
                    for raised in batch.drain(..) {
                        let again = last.as_ref().is_some_and(|(backend, alarm)| {
                            Arc::ptr_eq(backend, &raised.0) && *alarm == raised.1
                        });
                        if !again {
                            self.heed(&raised.0, raised.1);
                        }
                        last = Some(raised);
                    }
                }
                _ = tick.tick() => self.tick(),
            }
        }
    }

    fn tick(&mut self) {
        let snapshot = self.shared.snapshot.load_full();
        let fresh = snapshot.generation != self.generation;
        if fresh {
            self.generation = snapshot.generation;
            self.follow(&snapshot);
        }
        let now = self.shared.uptime();
        for pool in sliced(snapshot.pools.values()) {
            for share in &pool.state.split.load().shares {
                self.judge(now, pool, &share.version, fresh);
            }
        }
    }

    /// Forgets what is gone, and has the workers measure by what is configured now.
    fn follow(&mut self, snapshot: &Snapshot) {
        self.sets.retain(|(pool, version), _| {
            let pool = snapshot.pools.get(pool);
            pool.is_some_and(|pool| pool.state.split.load().version(version).is_some())
        });
        for pool in sliced(snapshot.pools.values()) {
            for share in &pool.state.split.load().shares {
                for Member { backend, .. } in &share.version.members {
                    let yardstick = &backend.yardstick;
                    yardstick.set_consecutive_failures(pool.outliers.consecutive_failures);
                    yardstick.set_patience(pool.stall.unwrap_or(Duration::MAX));
                }
            }
        }
    }

    fn judge(&mut self, now: Duration, pool: &Pool, version: &Arc<Version>, fresh: bool) {
        self.end_ejections(now, version);
        let set = self.set(pool, version);
        let forgot = set.forget();
        if set.is_untouched() || (set.is_settled() && !fresh && !forgot) {
            return;
        }
        set.observe(now, pool.outliers.window);
        let found = set.judged(|peers| judge(now, &pool.outliers, peers));
        set.try_out(pool.outliers.consecutive_failures);
        let spared_changed = set.pass_on(pool);
        let said = set.say_if_all_fail(now, pool);
        if spared_changed {
            self.publisher.changed(&pool.name);
        }
        self.act(now, version, found);
        if let Some((turn, words)) = said {
            events::pool_turned(&self.shared, &pool.name, &version.name, turn, &words);
        }
    }

    fn heed(&mut self, backend: &Arc<Backend>, alarm: Alarm) {
        if !is_in_service(backend) {
            // Of those who waited on it when it was judged, every few end with an alarm.
            return;
        }
        let snapshot = self.shared.snapshot.load_full();
        let Some(pool) = snapshot.pools.get(&backend.pool) else { return };
        let split = pool.state.split.load();
        let place = split.shares.iter().find_map(|share| {
            let mut members = share.version.members.iter();
            let member = members.position(|member| Arc::ptr_eq(&member.backend, backend))?;
            Some((&share.version, member))
        });
        let Some((version, member)) = place else { return };
        let now = self.shared.uptime();
        let set = self.set(pool, version);
        set.observe(now, pool.outliers.window);
        let found = set.judged(|peers| judge_alarm(now, &pool.outliers, peers, member, alarm));
        let on_trial = backend.on_trial.load(Ordering::Relaxed);
        let found = found.map(|found| match on_trial {
            true => Finding { reason: found.reason.on_trial(), ..found },
            false => found,
        });
        self.act(now, version, found);
    }

    /// What is known of a version's backends, as it is now.
    fn set(&mut self, pool: &Pool, version: &Arc<Version>) -> &mut Set {
        let key = (Arc::clone(&pool.name), Arc::clone(&version.name));
        let set = self.sets.entry(key).or_insert_with(|| Set::new(Arc::clone(version)));
        if !Arc::ptr_eq(&set.version, version) {
            set.follow(version);
        }
        set
    }

    /// Brings those back whose time is over.
    fn end_ejections(&self, now: Duration, version: &Version) {
        let backends = version.members.iter().map(|member| &member.backend);
        for backend in backends.filter(|backend| !is_in_service(backend)) {
            let transition = backend.health().on_time(now);
            publish(&self.shared, &self.publisher, backend, transition.as_slice());
        }
    }

    fn act(&self, now: Duration, version: &Version, found: impl IntoIterator<Item = Finding>) {
        for Finding { member, reason, action } in found {
            let backend = &version.members[member].backend;
            if action == Action::Eject {
                backend.yardstick.streak.reset();
                let transition = backend.health().on_ejection(now, reason);
                publish(&self.shared, &self.publisher, backend, transition.as_slice());
            } else {
                events::outlier_found(&self.shared, backend, now, &reason, action);
            }
        }
    }
}

impl Set {
    fn new(version: Arc<Version>) -> Self {
        let backends = version.members.iter().map(|member| Arc::clone(&member.backend));
        let watched = backends.map(Watched::new).collect();
        Set { version, watched, all_fail: false }
    }

    /// Takes over what is known of those who stay.
    fn follow(&mut self, version: &Arc<Version>) {
        let watched = self.watched.iter().map(|watched| watched.backend.id);
        if watched.eq(version.members.iter().map(|member| member.backend.id)) {
            self.version = Arc::clone(version);
            return;
        }
        let before = std::mem::take(&mut self.watched);
        let mut before: HashMap<_, _> =
            before.into_iter().map(|watched| (watched.backend.id, watched)).collect();
        *self = Set { all_fail: self.all_fail, ..Set::new(Arc::clone(version)) };
        for watched in &mut self.watched {
            if let Some(known) = before.remove(&watched.backend.id) {
                *watched = known;
            }
        }
    }

    /// Whether nobody has ever had any traffic.
    fn is_untouched(&self) -> bool {
        self.watched.iter().all(|watched| watched.seen.is_none() && watched.backend.activity() == 0)
    }

    /// Whether a judgement would find what the last one found: nothing happened since, nor in the
    /// window, nobody has come or gone, and nobody's share is on its way back.
    fn is_settled(&self) -> bool {
        self.watched.iter().all(|watched| {
            watched.in_service == is_in_service(&watched.backend)
                && match &watched.seen {
                    None => watched.backend.activity() == 0,
                    Some(seen) => {
                        seen.activity == watched.backend.activity()
                            && seen.traffic.is_quiet()
                            && seen.traffic.share() >= 1.0
                    }
                }
        })
    }

    /// Begins anew with those whose traffic so far is not to count any more; whether there were any.
    fn forget(&mut self) -> bool {
        let asked = |w: &&mut Watched| w.backend.forget_traffic.swap(false, Ordering::Acquire);
        let mut forgot = false;
        for Watched { backend, seen, in_service, trial } in self.watched.iter_mut().filter(asked) {
            *in_service = is_in_service(backend);
            *trial = Trial::default();
            if let Some(seen) = seen {
                seen.totals = backend.totals();
                seen.traffic = Traffic::new(&seen.totals).taking_part(*in_service);
            }
            backend.yardstick.streak.reset();
            backend.findings.end();
            forgot = true;
        }
        forgot
    }

    fn observe(&mut self, now: Duration, window: Duration) {
        for watched in &mut self.watched {
            watched.in_service = is_in_service(&watched.backend);
            // Before the totals: what is counted in between is seen the next time.
            let activity = watched.backend.activity();
            let takes_part = watched.in_service;
            let seen = watched.seen.get_or_insert_with(|| Box::new(Seen::new(takes_part)));
            if activity != seen.activity {
                seen.activity = activity;
                seen.totals = watched.backend.totals();
            }
            seen.traffic.observe(now, window, &seen.totals);
        }
    }

    /// Begins the trials of those who are back from an ejection, and ends them.
    fn try_out(&mut self, consecutive_failures: u32) {
        for watched in &mut self.watched {
            let Some(seen) = &watched.seen else { continue };
            watched.trial.look(&watched.backend, &seen.totals, consecutive_failures);
        }
    }

    /// Says in the status whether all fail alike, and gives what is to be told when that turns.
    fn say_if_all_fail(&mut self, now: Duration, pool: &Pool) -> Option<(Turn, String)> {
        let before = self.all_fail;
        let found = self.judged(|peers| all_fail(now, &pool.outliers, peers, before));
        self.all_fail = found.is_some();
        let words = found.map(|found| found.to_string());
        self.version.ailment.store(words.clone().map(Arc::new));
        match (before, words) {
            (false, Some(words)) => Some((Turn::Worse, words)),
            (true, None) => Some((Turn::Better, "its backends fail no more".to_owned())),
            _ => None,
        }
    }

    fn judged<T>(&mut self, judge: impl FnOnce(&mut [Peer<'_>]) -> T) -> T {
        let peers = self.watched.iter_mut().filter_map(|watched| {
            let in_service = watched.in_service;
            let traffic = &mut watched.seen.as_mut()?.traffic;
            Some(Peer { traffic, in_service })
        });
        // All were observed, so that the places are those of the members.
        judge(&mut peers.collect::<Vec<_>>())
    }

    /// Tells the workers what follows, short of ejections; `true` if others are to be spared than
    /// before.
    fn pass_on(&self, pool: &Pool) -> bool {
        let mut spared_changed = false;
        for watched in &self.watched {
            let (Some(seen), backend) = (&watched.seen, &watched.backend) else { continue };
            let (traffic, yardstick) = (&seen.traffic, &backend.yardstick);
            yardstick.set_late_after(traffic.late_after());
            backend.needs_trials.store(traffic.needs_trials(), Ordering::Relaxed);
            yardstick.siblings_well.store(traffic.siblings_well(), Ordering::Relaxed);
            if let Some(stall) = pool.stall {
                yardstick.set_patience(patience(stall, traffic.usual_p99()));
            }
            spared_changed |= backend.set_pace(traffic.share());
        }
        spared_changed
    }
}

impl Watched {
    fn new(backend: Arc<Backend>) -> Self {
        Watched { backend, seen: None, in_service: false, trial: Trial::default() }
    }
}

impl Seen {
    /// Of a backend that has had no traffic so far.
    fn new(takes_part: bool) -> Self {
        let totals = Totals::default();
        Seen { traffic: Traffic::new(&totals).taking_part(takes_part), activity: 0, totals }
    }
}

/// It takes requests, or would take them.
fn is_in_service(backend: &Backend) -> bool {
    matches!(backend.condition(), Condition::Healthy | Condition::Checking)
}

#[cfg(test)]
mod tests;
