//! What a swap tells to do, done. What takes time is done by tasks, which answer with events.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::guarded::{Guarded, Kind};
use super::questions;
use super::traffic::is_out_by_hand;
use crate::balance::Condition;
use crate::control::probers::Probers;
use crate::deploy::{Check, Checked, Command, Event, Order};
use crate::state::{Backend, CloseTunnels, Mail, Pace, Shared, Split, WarmUp};

/// The old version is asked no longer than this before going back to it.
const OLD_PROBE: Duration = Duration::from_secs(1);

/// No worker needs longer to open a few connections, and one that panicked meanwhile never answers.
const WARM_UP: Duration = Duration::from_secs(10);

/// What commands are carried out with.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) shared: Arc<Shared>,
    pub(super) probers: Arc<Probers>,
    pub(super) answers: mpsc::UnboundedSender<Answer>,
}

/// What a task found out for a swap.
#[derive(Debug)]
pub(in crate::control) struct Answer {
    pub(super) pool: Arc<str>,
    pub(super) swap: u64,
    pub(super) event: Event,
}

impl Tools {
    fn answer(&self, pool: &Arc<str>, swap: u64, event: Event) {
        // The governor has ended with the process.
        let _ = self.answers.send(Answer { pool: Arc::clone(pool), swap, event });
    }
}

impl Guarded {
    /// Carries out a command of the swap with this order. Persisting, telling and finishing concern
    /// more than one pool: the caller does those.
    pub(super) fn obey(&mut self, order: &Order, command: Command, tools: &Tools) {
        match command {
            Command::ForgetTraffic => self.forget_traffic(order, tools),
            Command::Check { round, backend, check } => {
                self.check(order, (round, backend, check), tools);
            }
            Command::Shadow(plan) => self.begin_copying(order, plan, tools.shared.uptime()),
            Command::StopShadow => self.end_copying(),
            Command::CountSlow(slow) => {
                self.traffic.count_slow(&self.pool.state.split.load(), slow);
            }
            Command::Split(share) => self.split(&order.from, &order.to, share),
            Command::ProbeOld => self.probe_old(order, tools),
            Command::Eject { backend, lasts, why } => {
                let backends = self.backends(&order.to);
                if let Some(found) = backends.iter().find(|known| known.label == backend) {
                    tools.probers.eject(found, lasts, why);
                }
            }
            Command::Drain(side) => {
                let split = self.pool.state.split.load_full();
                self.pool.state.set_split(split.without_refuge());
                for backend in self.backends_of(order, side) {
                    tools.shared.broadcast(|| Mail::BackendDown(backend.id));
                }
            }
            Command::CutRequests(side) => {
                for backend in self.backends_of(order, side) {
                    backend.cut.store(true, Ordering::Relaxed);
                    tools.shared.broadcast(|| Mail::CutRequests(backend.id));
                }
            }
            Command::CloseTunnels { side, per_second } => {
                let backends = self.backends_of(order, side).iter().map(|b| b.id).collect();
                let pace = Arc::new(Pace::new(Instant::now(), per_second));
                let order = CloseTunnels { backends, pace };
                tools.shared.broadcast(|| Mail::CloseTunnels(order.clone()));
            }
            Command::Persist | Command::Tell(..) | Command::Finished(_) => {}
        }
    }

    /// Gives `to` this share and `from` the rest. If one of them has left the file meanwhile, what is
    /// left has taken its share already.
    pub(super) fn split(&self, from: &str, to: &str, share: f64) {
        let takes =
            [(from, 1.0 - share), (to, share)].into_iter().filter(|(_, share)| *share > 0.0);
        if takes.map(|(name, _)| self.version(name)).any(|version| version.is_none()) {
            return;
        }
        let before: Arc<Split> = self.pool.state.split.load_full();
        self.pool.state.set_split(before.between(from, to, share));
    }

    /// Has the gate be the only judge of the new version. If it serves all the same, it is judged by
    /// what it does; and where nothing is checked, nothing is forgotten.
    fn forget_traffic(&self, order: &Order, tools: &Tools) {
        let forced = self.running.as_ref().is_some_and(|running| running.kind == Kind::Forced);
        if forced || self.pool.state.split.load().share_of(&order.to) > 0.0 {
            return;
        }
        for backend in self.backends(&order.to) {
            tools.probers.forget_traffic(&backend);
        }
    }

    fn check(&mut self, order: &Order, asked: (u32, Arc<str>, Check), tools: &Tools) {
        let (round, label, check) = asked;
        let found = self.backends(&order.to).into_iter().find(|backend| backend.label == label);
        let old = self.backends(&order.from);
        let (pool, questions) = (Arc::clone(&self.pool), Arc::clone(&self.questions));
        let (id, tools) = (order.id, tools.clone());
        let Some(running) = &mut self.running else { return };
        running.tasks.spawn(async move {
            let outcome = match found {
                None => Checked::Failed("it is not in the configuration any more".to_owned()),
                Some(backend) => match check {
                    Check::Probe => probe(&backend, &tools).await,
                    Check::Smoke(number) => match questions.smoke.get(number) {
                        Some(check) => questions::smoke(check, &backend).await,
                        None => Checked::Passed,
                    },
                    Check::Version => match &questions.version {
                        Some(version) => version.ask(&backend, &old).await,
                        None => Checked::Passed,
                    },
                    Check::WarmUp => {
                        let settings = &pool.upstream;
                        let connections = questions.connections;
                        let opened = connect(&backend, settings, connections, &tools).await;
                        let warmed = match opened {
                            Ok(()) => questions::warm(&questions, &backend).await,
                            Err(error) => Err(error),
                        };
                        warmed.map_or_else(Checked::Failed, |()| Checked::Passed)
                    }
                },
            };
            let event = Event::Checked { round, backend: label, check, outcome };
            tools.answer(&pool.name, id, event);
        });
    }

    fn probe_old(&mut self, order: &Order, tools: &Tools) {
        let mut backends = self.backends(&order.from);
        backends.retain(|backend| !is_out_by_hand(backend));
        let (pool, id, tools) = (Arc::clone(&self.pool.name), order.id, tools.clone());
        let Some(running) = &mut self.running else { return };
        running.tasks.spawn(async move {
            let asked = backends.len();
            let mut probes = tokio::task::JoinSet::new();
            for backend in backends {
                let probers = Arc::clone(&tools.probers);
                probes.spawn(async move {
                    let outcome = timeout(OLD_PROBE, probers.ask(backend.id)).await;
                    matches!(outcome, Ok(Some(Ok(()))))
                });
            }
            let passed = probes.join_all().await.into_iter().filter(|passed| *passed).count();
            tools.answer(&pool, id, Event::OldProbed { passed, asked });
        });
    }
}

/// A probe as any other, so that a backend that has passed the gate is healthy to all.
async fn probe(backend: &Backend, tools: &Tools) -> Checked {
    match tools.probers.ask(backend.id).await {
        None => Checked::Failed("it is not probed any more".to_owned()),
        Some(Err(failure)) => Checked::Failed(failure.to_string()),
        Some(Ok(())) if backend.condition() == Condition::Healthy => Checked::Passed,
        Some(Ok(())) => {
            let state = backend.condition().label();
            let past = backend.history.latest().map(|past| past.transition.reason.to_string());
            let why = past.map(|why| format!(" ({why})")).unwrap_or_default();
            Checked::Failed(format!("it passed its check, but is still {state}{why}"))
        }
    }
}

/// Opens connections to a backend on every worker.
async fn connect(
    backend: &Arc<Backend>,
    settings: &Arc<crate::state::pool::UpstreamSettings>,
    connections: usize,
    tools: &Tools,
) -> Result<(), String> {
    if connections == 0 {
        return Ok(());
    }
    let (reply, mut replies) = mpsc::unbounded_channel();
    let order = WarmUp {
        backend: Arc::clone(backend),
        settings: Arc::clone(settings),
        connections: connections.div_ceil(tools.shared.workers.len().max(1)),
        reply,
    };
    tools.shared.broadcast(|| Mail::WarmUp(order.clone()));
    drop(order);
    let all = async {
        while let Some(warmed) = replies.recv().await {
            warmed.outcome?;
        }
        Ok(())
    };
    let late = || Err(format!("no connection within {} s", WARM_UP.as_secs()));
    timeout(WARM_UP, all).await.unwrap_or_else(|_elapsed| late())
}
