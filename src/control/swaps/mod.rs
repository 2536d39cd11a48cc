//! Guarded swaps: what the machine of [`deploy`](crate::deploy) decides is carried out here, and
//! told to whoever asks.
//!
//! `Swaps` belongs to the governor. It never waits for a gate or a watch: it looks at the traffic
//! every 250 ms while a swap runs, and takes the answers of what works beside it. `guarded` is one
//! pool with versions, `carry_out` does what its swap tells to do, `traffic` is what the versions do,
//! `questions` what a new one is asked at the gate, `shadow` the copies of live requests that it gets
//! there, `kept` what survives a restart. Swaps begin in
//! `begin`, by hand or after a restart, and in `reload`. Others read the [`Board`].

mod begin;
pub mod board;
mod carry_out;
mod guarded;
mod kept;
mod plan;
pub mod questions;
mod reload;
mod shadow;
mod traffic;
pub mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub use board::Board;
pub(super) use plan::plan as swap_plan;
pub use questions::Questions;
pub(super) use traffic::held;
pub use view::{OverrideStatus, PoolSwaps, RunningSwap, SwapId, SwapOptions, SwapRefused};

use super::Handle;
use super::probers::Probers;
use super::store::Store;
use carry_out::{Answer, Tools};
use guarded::{Guarded, Now};
use kept::{KeptPool, KeptSwap, KeptSwaps, Writer};

use crate::deploy::{Command, Event, Milestone, Order, Outcome, Report};
use crate::state::{Shared, SwapEvent};
use crate::telemetry::events;

/// From look to look while a swap runs ...
const LOOK: Duration = Duration::from_millis(250);
/// ... and while none does: then it is only for what a version did before.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// How often a running swap is written down, so that what is left of its watch is nearly true.
const SAVE: Duration = Duration::from_secs(5);

/// The swaps of all pools with versions.
#[derive(Debug)]
pub(super) struct Swaps {
    tools: Tools,
    handle: Handle,
    store: Store,
    writer: Writer,
    pools: BTreeMap<Arc<str>, Guarded>,
    next_id: u64,
    answers: mpsc::UnboundedReceiver<Answer>,
    /// What swaps that go on after a restart have to do first.
    resumed: Vec<(Arc<str>, Vec<Command>)>,
    next_look: Instant,
    next_save: Instant,
}

/// What is to be attended to.
#[derive(Debug)]
pub(super) enum Due {
    /// Something was found out.
    Answer(Box<Answer>),
    /// It is time to look.
    Look,
}

impl Swaps {
    /// None yet. Needs the control runtime around it.
    pub(super) fn new(
        shared: &Arc<Shared>,
        probers: &Arc<Probers>,
        handle: &Handle,
        store: &Store,
    ) -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        let tools =
            Tools { shared: Arc::clone(shared), probers: Arc::clone(probers), answers: sender };
        Swaps {
            tools,
            handle: handle.clone(),
            writer: Writer::new(store, shared),
            store: store.clone(),
            pools: BTreeMap::new(),
            next_id: 1,
            answers,
            resumed: Vec::new(),
            next_look: Instant::now(),
            next_save: Instant::now(),
        }
    }

    /// Waits until there is something to attend to. May be dropped at any time.
    pub(super) async fn due(&mut self) -> Due {
        tokio::select! {
            Some(answer) = self.answers.recv() => Due::Answer(Box::new(answer)),
            () = tokio::time::sleep_until(self.next_look), if !self.pools.is_empty() => Due::Look,
        }
    }

    /// Attends to it.
    pub(super) async fn attend(&mut self, due: Due) {
        match due {
            Due::Answer(answer) => {
                let Answer { pool, swap, event } = *answer;
                let guarded = self.pools.get(&pool);
                let running = guarded.and_then(|guarded| guarded.running.as_ref());
                // What comes for a swap that is over is of no interest.
                if running.is_some_and(|running| running.swap.order().id == swap) {
                    self.happened(&pool, event).await;
                }
            }
            Due::Look => self.look().await,
        }
        self.publish();
    }

    async fn look(&mut self) {
        for (pool, commands) in std::mem::take(&mut self.resumed) {
            self.obey(&pool, commands).await;
        }
        let names: Vec<Arc<str>> = self.pools.keys().cloned().collect();
        for name in &names {
            let now = self.now();
            let Some(guarded) = self.pools.get_mut(name) else { continue };
            let commands = guarded.look(now);
            for (order, command) in guarded.look_at_trailing(now) {
                guarded.obey(&order, command, &self.tools);
            }
            self.obey(name, commands).await;
        }
        let busy = |guarded: &Guarded| guarded.running.is_some() || !guarded.trailing.is_empty();
        let pause = if self.pools.values().any(busy) { LOOK } else { IDLE_LOOK };
        self.next_look = Instant::now() + pause;
        let runs = self.pools.values().any(|guarded| guarded.running.is_some());
        if runs && self.next_save <= Instant::now() {
            self.next_save = Instant::now() + SAVE;
            self.writer.write_later(self.kept());
        }
    }

    /// Tells the swap of a pool of an event, and does what follows.
    async fn happened(&mut self, pool: &Arc<str>, event: Event) {
        let now = self.now();
        let Some(guarded) = self.pools.get_mut(pool) else { return };
        let commands = guarded.handle(now, event);
        self.obey(pool, commands).await;
        self.publish();
    }

    /// Does what the swap of a pool tells to do, one after another.
    async fn obey(&mut self, pool: &Arc<str>, commands: Vec<Command>) {
        for command in commands {
            let Some(guarded) = self.pools.get_mut(pool) else { return };
            let Some(running) = &guarded.running else { return };
            let order = running.swap.order().clone();
            match command {
                Command::Persist => self.writer.write(self.kept(), None).await,
                Command::Tell(milestone, words) => self.tell(&order, milestone, words),
                Command::Finished(outcome) => self.finished(pool, outcome).await,
                command => guarded.obey(&order, command, &self.tools),
            }
        }
    }

    fn tell(&self, order: &Order, milestone: Milestone, words: String) {
        let event = SwapEvent {
            id: order.id,
            pool: order.pool.as_str().into(),
            from: order.from.as_str().into(),
            to: order.to.as_str().into(),
            asked_by: order.asked_by.as_str().into(),
            milestone: milestone.label(),
            words,
        };
        // Who is told looks at the report next.
        self.publish();
        events::swap(&self.tools.shared, event);
    }

    async fn finished(&mut self, pool: &Arc<str>, outcome: Outcome) {
        let Some(guarded) = self.pools.get_mut(pool) else { return };
        let Some(running) = guarded.running.take() else { return };
        guarded.pool.state.swaps.count(outcome);
        self.handle.board().put_report(running.swap.report());
        if !running.swap.is_over() {
            guarded.trailing.push(running);
        }
        let reports = self.handle.board().finished_reports();
        self.writer.write(self.kept(), Some(reports)).await;
        self.publish();
    }

    /// Puts on the board how it stands.
    fn publish(&self) {
        let now = self.now();
        let board = self.handle.board();
        let mut pools = BTreeMap::new();
        for (name, guarded) in &self.pools {
            let overridden = guarded.overridden().is_some();
            guarded.pool.state.swaps.set_overridden(overridden);
            pools.insert(Arc::clone(name), guarded.status(now));
        }
        // First of all: whoever reads in a report that a swap is over finds none that runs.
        board.set_pools(pools);
        for running in self.pools.values().filter_map(|guarded| guarded.running.as_ref()) {
            board.put_report(running.swap.report());
        }
    }

    fn kept(&self) -> KeptSwaps {
        let now = self.tools.shared.uptime();
        let pools = self.pools.iter().map(|(name, guarded)| {
            let running = guarded.running.as_ref().map(|running| KeptSwap {
                kind: running.kind,
                resume: running.swap.resume_form(now),
            });
            let kept = KeptPool {
                standing: guarded.standing.clone(),
                before: guarded.before.clone(),
                left: guarded.left.clone(),
                last: guarded.last.map(|id| id.0),
                running,
            };
            (name.to_string(), kept)
        });
        KeptSwaps { next_id: self.next_id, pools: pools.collect() }
    }

    fn now(&self) -> Now {
        Now::at(self.tools.shared.uptime())
    }
}

/// The reports of swaps that are over.
impl Board {
    fn finished_reports(&self) -> Vec<Report> {
        let reports = self.reports();
        let finished = reports.iter().rev().filter(|report| report.outcome.is_some());
        finished.map(|report| (**report).clone()).collect()
    }
}
