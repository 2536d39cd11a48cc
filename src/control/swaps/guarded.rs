//! A pool with versions: which of them serves, which is wanted, and the swap that runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use super::questions::Questions;
use super::shadow::Copies;
use super::traffic::{Traffic, VersionTraffic, is_out_by_hand};
use super::view::{OverrideStatus, PoolSwaps, RunningSwap, SwapId, SwapRefused};
use crate::balance::Condition;
use crate::deploy::{
    Cause, Command, Event, Observation, Order, Outcome, Override, Plan, Side, Standing, Swap,
};
use crate::state::{Backend, Pool, Split, Version};

/// The moment at which something is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Since the process started.
    pub(super) uptime: Duration,
    /// Since the Unix epoch.
    pub(super) epoch: Duration,
}

impl Now {
    pub(super) fn at(uptime: Duration) -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { uptime, epoch }
    }
}

/// A pool with versions.
#[derive(Debug)]
pub(super) struct Guarded {
    /// As the configuration in force has it.
    pub(super) pool: Arc<Pool>,
    /// How it is swapped by that configuration.
    pub(super) plan: Plan,
    pub(super) questions: Arc<Questions>,
    pub(super) standing: Standing,
    /// What served before, and is to be gone back to.
    pub(super) before: Option<String>,
    /// The version that was let go of last, if no other has been let serve since.
    pub(super) left: Option<Left>,
    pub(super) running: Option<Running>,
    /// Swaps that are over but for tunnels that have a deadline.
    pub(super) trailing: Vec<Running>,
    pub(super) traffic: Traffic,
    pub(super) last: Option<SwapId>,
}

/// A version that traffic has come back from, by a rollback of whatever kind, or that a swap which
/// came to nothing was to lead to: whoever goes back after that may well mean this one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Left {
    pub(super) version: String,
    /// The report of it.
    pub(super) report: u64,
    /// What happened.
    #[serde(default = "Left::by_rollback")]
    pub(super) cause: Cause,
}

impl Left {
    fn by_rollback() -> Cause {
        Cause::RollBack
    }
}

/// A swap and what works for it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) swap: Swap,
    pub(super) kind: Kind,
    /// Its outcome has been taken into the standing of the pool.
    pub(super) is_decided: bool,
    /// Checks under way; they end with the swap.
    pub(super) tasks: JoinSet<()>,
    /// Copies of live requests that are being made.
    pub(super) copies: Option<Copies>,
}

/// What a swap is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Kind {
    /// To another version.
    #[default]
    Forward,
    /// Back to one that has served before: after its health checks alone.
    Back,
    /// Back without any check.
    Forced,
}

impl Kind {
    /// The plan of such a swap.
    pub(super) fn plan(self, plan: &Plan) -> Plan {
        match self {
            Kind::Forward => plan.clone(),
            Kind::Back => plan.clone().back(),
            Kind::Forced => plan.clone().back().unchecked(),
        }
    }
}

impl Running {
    pub(super) fn new(swap: Swap, kind: Kind) -> Self {
        Running { swap, kind, is_decided: false, tasks: JoinSet::new(), copies: None }
    }
}

impl Guarded {
    pub(super) fn version(&self, name: &str) -> Option<Arc<Version>> {
        self.pool.state.split.load().version(name).cloned()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let split = self.pool.state.split.load();
        split.shares.iter().map(|share| share.version.name.to_string()).collect()
    }

    /// The backends of a version; none if it is gone.
    pub(super) fn backends(&self, version: &str) -> Vec<Arc<Backend>> {
        let version = self.version(version);
        let members = version.iter().flat_map(|version| &version.members);
        members.map(|member| Arc::clone(&member.backend)).collect()
    }

    pub(super) fn backends_of(&self, order: &Order, side: Side) -> Vec<Arc<Backend>> {
        self.backends(order.version(side))
    }

    /// The addresses that a version is checked at: without what was drained or disabled by hand.
    pub(super) fn candidates(&self, version: &str) -> Vec<Arc<str>> {
        let backends = self.backends(version);
        let fit = backends.iter().filter(|backend| !is_out_by_hand(backend));
        fit.map(|backend| Arc::clone(&backend.label)).collect()
    }

    /// Tells the swap that runs of an event.
    pub(super) fn handle(&mut self, now: Now, event: Event) -> Vec<Command> {
        let Some(running) = &mut self.running else { return Vec::new() };
        let commands = running.swap.handle(now.uptime, event);
        self.note_decision(now);
        commands
    }

    /// Looks at the traffic, and lets the swap that runs look too.
    pub(super) fn look(&mut self, now: Now) -> Vec<Command> {
        let split = self.pool.state.split.load_full();
        self.traffic.look(now.uptime, &split, self.plan.watch);
        let Some(running) = &mut self.running else { return Vec::new() };
        while running.tasks.try_join_next().is_some() {}
        let mut commands = self.look_at_copies(now.uptime);
        let Some(running) = &mut self.running else { return commands };
        commands.extend(tick(&mut running.swap, now.uptime, &self.traffic));
        blame(&mut running.swap, &split);
        self.note_decision(now);
        commands
    }

    /// Lets the swaps look that are over but for their tunnels; each with its order.
    pub(super) fn look_at_trailing(&mut self, now: Now) -> Vec<(Order, Command)> {
        let mut commands = Vec::new();
        for trailing in &mut self.trailing {
            let order = trailing.swap.order().clone();
            let due = tick(&mut trailing.swap, now.uptime, &self.traffic);
            commands.extend(due.into_iter().map(|command| (order.clone(), command)));
        }
        self.trailing.retain(|trailing| !trailing.swap.is_over());
        commands
    }

    /// Takes the outcome of the swap that runs into the standing, once it is there.
    pub(super) fn note_decision(&mut self, now: Now) {
        let Some(running) = self.running.as_mut().filter(|running| !running.is_decided) else {
            return;
        };
        let Some(outcome) = running.swap.outcome() else { return };
        running.is_decided = true;
        let order = running.swap.order();
        let serving = order.version(outcome.serving());
        let cause = cause(running.kind, outcome);
        let other = order.version(outcome.serving().other());
        match cause {
            Cause::Swap => (self.before, self.left) = (Some(other.clone()), None),
            // To go back again would be to go to the version that was left.
            Cause::RollBack => {
                self.before = None;
                self.left = Some(Left { version: other.clone(), report: order.id, cause });
            }
            // To go back once more would be to go back from a version that nobody complained of. And
            // what did not pass its gate as a new version may not be what served before any more.
            Cause::Refused | Cause::Cancelled if running.kind == Kind::Forward => {
                self.left = Some(Left { version: other.clone(), report: order.id, cause });
            }
            Cause::Refused | Cause::Cancelled => {}
        }
        let over = Override { cause, report: order.id, since: now.epoch };
        self.standing.moved(&order.to, serving, over);
    }

    /// What is said to who wants to go back where that has been done, or came to nothing; `None`: there
    /// is more to go back from.
    pub(super) fn done_already(&self, left: &Left, force: bool) -> Option<SwapRefused> {
        let (pool, serving) = (self.pool.name.to_string(), self.standing.serving.clone());
        let (report, version) = (SwapId(left.report), left.version.clone());
        // It may have left the file.
        let is_there = self.version(&version).is_some();
        let again =
            is_there.then(|| format!("`tidegate swap {pool} {version}` tries {version} again"));
        if !matches!(left.cause, Cause::Refused | Cause::Cancelled) {
            let next = again.map(|again| format!("; {again}")).unwrap_or_default();
            return Some(SwapRefused::RolledBack { pool, serving, report, next });
        }
        let before = self.before.as_ref().filter(|before| self.version(before).is_some());
        let was_back = before == Some(&version);
        let further = before.map(|before| match was_back {
            true => format!("`tidegate rollback {pool} --force` goes there without a check"),
            false => {
                format!("`tidegate rollback {pool} --force` goes a step further back, to {before}")
            }
        });
        if force && further.is_some() {
            return None;
        }
        let next = [again, further].into_iter().flatten();
        let next = next.map(|next| format!("; {next}")).collect();
        let cause = left.cause.label();
        Some(SwapRefused::CameToNothing { pool, serving, version, cause, report, was_back, next })
    }

    /// Why another version serves than the file wants; no more once a swap has switched to that one.
    pub(super) fn overridden(&self) -> Option<Override> {
        let is_there = self.running.as_ref().is_some_and(|Running { swap, .. }| {
            swap.outcome().is_none()
                && swap.share() > 0.0
                && swap.order().to == self.standing.wanted
        });
        self.standing.override_.filter(|_| !is_there)
    }

    /// The override in words, with what to type unless a swap is on its way there.
    pub(super) fn override_words(&self) -> Option<String> {
        let open = self.running.iter().filter(|running| running.swap.outcome().is_none());
        let mut orders = open.map(|running| running.swap.order());
        let on_its_way = orders.find(|order| order.to == self.standing.wanted);
        self.standing.explain(&self.pool.name, on_its_way.map(|order| order.id))
    }

    /// How it stands, for whoever asks.
    pub(super) fn status(&self, now: Now) -> PoolSwaps {
        let override_ = self.overridden().map(|kept| OverrideStatus {
            words: self.override_words().unwrap_or_default(),
            cause: kept.cause.label(),
            report: SwapId(kept.report),
            since: kept.since.as_secs_f64(),
        });
        // One that is finished is in the way of no other: whoever reads in its report that it is over
        // may go by that.
        let running = self.running.as_ref().filter(|running| !running.swap.is_finished());
        let running = running.map(|Running { swap, .. }| {
            let order = swap.order();
            RunningSwap {
                id: SwapId(order.id),
                from: order.from.clone(),
                to: order.to.clone(),
                asked_by: order.asked_by.clone(),
                phase: swap.phase().label(),
                share: swap.share(),
                outcome: swap.outcome().map(Outcome::label),
                words: swap.describe(now.uptime),
            }
        });
        PoolSwaps {
            wanted: self.standing.wanted.clone(),
            serving: self.standing.serving.clone(),
            override_,
            before: self.before.clone(),
            running,
            last: self.last,
        }
    }
}

/// Names the backends of the new version that something other than the swap has taken out: their
/// checks, or the traffic beside their siblings.
fn blame(swap: &mut Swap, split: &Split) {
    let version = split.version(&swap.order().to);
    for backend in version.iter().flat_map(|version| &version.members).map(|m| &m.backend) {
        if matches!(backend.condition(), Condition::Unhealthy | Condition::Ejected)
            && let Some(latest) = backend.history.latest()
        {
            swap.blame(&backend.label, &latest.transition.reason);
        }
    }
}

/// Going back by hand is a rollback, though it is done by a swap.
fn cause(kind: Kind, outcome: Outcome) -> Cause {
    match (kind, outcome) {
        (Kind::Back | Kind::Forced, Outcome::Kept | Outcome::Undecided) => Cause::RollBack,
        _ => outcome.into(),
    }
}

fn tick(swap: &mut Swap, now: Duration, traffic: &Traffic) -> Vec<Command> {
    let order = swap.order();
    let nothing = VersionTraffic::new(Duration::ZERO);
    let old = traffic.of(&order.from).unwrap_or(&nothing);
    let new = traffic.of(&order.to).unwrap_or(&nothing);
    let seen = Observation {
        new: &new.samples,
        new_latencies: &new.latencies,
        new_waiting: new.waiting,
        old: old.counts,
        old_history: &old.history,
        old_held: old.held,
        new_held: new.held,
    };
    swap.tick(now, &seen)
}
