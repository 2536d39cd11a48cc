//! The prober of one backend: when it is asked, and what follows from the answers.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::probe::{Answer, Check, probe};
use super::publisher::Publisher;
use super::transition::publish;
use crate::health::{ProbeFailure, State, Transition};
use crate::state::{Address, Backend, Mail, Shared};

/// Between two probes of a backend under suspicion; no two follow each other sooner.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// The next probe of a backend that is disabled comes when somebody asks for it.
const UNTIL_WOKEN: Duration = Duration::from_secs(3600);

/// Those who want to know the outcome of the next probe of a backend.
#[derive(Debug, Default)]
pub(super) struct Curious(Mutex<Vec<oneshot::Sender<Result<(), ProbeFailure>>>>);

impl Curious {
    pub(super) fn add(&self) -> oneshot::Receiver<Result<(), ProbeFailure>> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn take(&self) -> Vec<oneshot::Sender<Result<(), ProbeFailure>>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The first probes of many new backends are so far apart: ten thousand take two seconds.
const STAGGER: Duration = Duration::from_micros(200);

/// When the first probes of a backend come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Begin {
    /// The first one comes after this.
    delay: Duration,
    /// Once there is a verdict, the next one comes after this part of the interval, 0 to 1.
    phase: f64,
}

impl Begin {
    /// Those of so many backends: they are soon judged, and then spread over the interval.
    pub(super) fn of(backends: usize) -> impl Iterator<Item = Begin> {
        (1..).zip(1..=backends).map(move |(nth, place)| Begin {
            delay: STAGGER * nth,
            phase: place as f64 / backends as f64,
        })
    }
}

/// How a pause between two probes has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pause {
    /// The next one is due.
    Over,
    /// The definition of the check has changed.
    Changed,
}

/// Probes one backend for as long as it is in force.
#[derive(Debug)]
pub(super) struct Prober {
    pub(super) backend: Arc<Backend>,
    pub(super) check: watch::Receiver<Arc<Check>>,
    /// Rung when the backend came under suspicion, and when somebody asks.
    pub(super) wake: Arc<Notify>,
    /// Who wants to know the outcome of the next probe.
    pub(super) curious: Arc<Curious>,
    pub(super) shared: Arc<Shared>,
    pub(super) publisher: Arc<Publisher>,
}

impl Prober {
    /// Probes until it is dropped.
    pub(super) async fn run(mut self, begin: Begin) {
        let mut addresses = Vec::new();
        let (mut delay, mut phase) = (begin.delay, Some(begin.phase));
        loop {
            if self.pause(delay).await == Pause::Changed {
                // A reload may have changed the checks of all at once.
                (delay, phase) = (begin.delay, Some(begin.phase));
                continue;
            }
            if self.backend.health().state() == State::Disabled {
                drop(self.curious.take());
                delay = UNTIL_WOKEN;
                continue;
            }
            let check = Arc::clone(&self.check.borrow_and_update());
            // Who asks from here on wants to know of a probe that begins later.
            let curious = self.curious.take();
            let started = Instant::now();
            let outcome = self.ask(&check, &mut addresses).await.map(drop);
            // Told after the judgement: who is told of a pass finds the backend in its new state.
            for who in curious {
                // It may have lost interest.
                let _ = who.send(outcome.clone());
            }
            delay = if self.curious.is_empty() {
                let interval = check.interval.mul_f64(self.take_phase(&mut phase));
                self.next_delay(interval).saturating_sub(started.elapsed())
            } else {
                SHORTEST_PAUSE
            };
        }
    }

    /// Probes it once; or a second time beside that, if it is under suspicion and leaves the first
    /// probe waiting for half of its time: a verdict on a backend that hangs takes one timeout and a
    /// half then, and not two. Gives the outcome that was judged last.
    async fn ask(
        &self,
        check: &Check,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<Answer, ProbeFailure> {
        let started = Instant::now();
        let mut first = pin!(self.probe(check, addresses));
        tokio::select! {
            biased;
            outcome = &mut first => return self.take(outcome, started),
            () = self.second_is_due(check.timeout / 2) => {}
        }
        let again = Instant::now();
        let mut second = pin!(probe(check, &self.backend));
        // One that passes says enough.
        tokio::select! {
            biased;
            outcome = &mut first => match self.take(outcome, started) {
                Err(_) => self.take(second.await, again),
                passed => passed,
            },
            outcome = &mut second => match self.take(outcome, again) {
                Err(_) => self.take(first.await, started),
                passed => passed,
            },
        }
    }

    /// Waits so long, and then for a suspicion that there is no verdict on.
    async fn second_is_due(&self, after: Duration) {
        tokio::time::sleep(after).await;
        while !self.backend.is_suspect() {
            self.wake.notified().await;
        }
    }

    /// Takes in the outcome of a probe that began then, and gives it back.
    fn take(
        &self,
        outcome: Result<Answer, ProbeFailure>,
        started: Instant,
    ) -> Result<Answer, ProbeFailure> {
        if let Err(ProbeFailure::NotAsked(reason)) = &outcome {
            tracing::debug!(backend = &*self.backend.label, "cannot probe: {reason}");
        } else {
            self.count(&outcome, started.elapsed());
            self.judge(outcome.clone());
        }
        outcome
    }

    async fn pause(&mut self, delay: Duration) -> Pause {
        let earliest = Instant::now() + SHORTEST_PAUSE.min(delay);
        let over = tokio::select! {
            () = tokio::time::sleep(delay) => return Pause::Over,
            () = self.wake.notified() => Pause::Over,
            // An error means that the backend has left: the task is about to be aborted.
            Ok(()) = self.check.changed() => Pause::Changed,
        };
        tokio::time::sleep_until(earliest).await;
        over
    }

    /// The part of an interval to wait: the first time that there is a verdict it is the backend's
    /// place among others, from then on all of it.
    fn take_phase(&self, phase: &mut Option<f64>) -> f64 {
        let is_judged = self.backend.health().state() != State::Checking;
        phase.take_if(|_| is_judged).unwrap_or(1.0)
    }

    fn next_delay(&self, interval: Duration) -> Duration {
        if self.backend.is_suspect() {
            return SHORTEST_PAUSE;
        }
        let health = self.backend.health();
        health.next_probe_delay(interval, fastrand::f64()).max(SHORTEST_PAUSE)
    }

    async fn probe(
        &self,
        check: &Check,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<Answer, ProbeFailure> {
        if let Address::Name { host, port } = &self.backend.address {
            self.resolve((host, *port), check.timeout, addresses).await?;
        }
        let outcome = probe(check, &self.backend).await;
        if outcome.is_err() && addresses.len() > 1 {
            self.try_next_address(addresses);
        }
        outcome
    }

    /// Looks the name up. What is in use stays as long as it is among the addresses found, and
    /// also if nothing was found: a name server that is down is no reason to stop serving.
    async fn resolve(
        &self,
        name: (&str, u16),
        timeout: Duration,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<(), ProbeFailure> {
        let found = tokio::time::timeout(timeout, tokio::net::lookup_host(name)).await;
        let problem = match found {
            Ok(Ok(found)) => {
                *addresses = found.collect();
                addresses.is_empty().then(|| "it has no address".to_owned())
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_elapsed) => Some("the name server does not answer".to_owned()),
        };
        let current = self.backend.resolved.load().as_deref().copied();
        match (problem, current) {
            (None, Some(current)) if addresses.contains(&current) => Ok(()),
            (None, _) => {
                self.use_address(addresses.first().copied());
                Ok(())
            }
            (Some(problem), None) => {
                Err(ProbeFailure::Other(format!("cannot resolve `{}`: {problem}", name.0).into()))
            }
            (Some(problem), Some(current)) => {
                tracing::debug!(backend = &*self.backend.label, %current, "cannot resolve: {problem}");
                Ok(())
            }
        }
    }

    /// A name may stand for several addresses of which only some are served (`localhost` for both
    /// families, say).
    fn try_next_address(&self, addresses: &[SocketAddr]) {
        let current = self.backend.resolved.load().as_deref().copied();
        let position = addresses.iter().position(|address| Some(*address) == current);
        let next = position.map_or(0, |position| (position + 1) % addresses.len());
        self.use_address(addresses.get(next).copied());
    }

    fn use_address(&self, address: Option<SocketAddr>) {
        let before = self.backend.resolved.swap(address.map(Arc::new));
        if before.is_some() {
            // Unused connections lead to where it was before.
            self.shared.broadcast(|| Mail::BackendDown(self.backend.id));
        }
    }

    fn count(&self, outcome: &Result<Answer, ProbeFailure>, elapsed: Duration) {
        let probes = &self.backend.probes;
        let counter = if outcome.is_ok() { &probes.passed } else { &probes.failed };
        counter.add(1);
        probes.duration.observe(elapsed);
    }

    fn judge(&self, outcome: Result<Answer, ProbeFailure>) {
        let now = self.shared.uptime();
        if outcome.is_ok() {
            self.backend.yardstick.set_cleared(now);
            self.backend.suspected.store(false, Ordering::Relaxed);
        }
        self.backend.history.probed(outcome.as_ref().map(drop));
        let wish = outcome.as_ref().ok().map(|answer| answer.leaving);
        let transitions: Vec<Transition> = {
            let mut health = self.backend.health();
            let verdict = health.on_probe(now, outcome.map(drop));
            let wish = wish.and_then(|leaving| health.on_wish(now, leaving));
            verdict.into_iter().chain(wish).collect()
        };
        publish(&self.shared, &self.publisher, &self.backend, &transitions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_of_many_backends_are_spread_and_those_of_one_are_not_moved() {
        let begin = |micros, phase| Begin { delay: Duration::from_micros(micros), phase };
        assert_eq!(Begin::of(1).collect::<Vec<_>>(), [begin(200, 1.0)]);
        let four = [begin(200, 0.25), begin(400, 0.5), begin(600, 0.75), begin(800, 1.0)];
        assert_eq!(Begin::of(4).collect::<Vec<_>>(), four);
    }
}
