//! How the rest of the process speaks to the control plane.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::by_hand::{Action, HandError, HandReport, Hands};
use super::compile::{AdminAccess, Generation};
use super::explain::{self, Ask, AskError, BackendExplanation, RequestExplanation};
use super::files::reason;
use super::notify::Webhook;
use super::plan::{Draft, ReloadPlan};
use super::status::{BackendStatus, Status};
use super::swaps::{Board, SwapId, SwapOptions, SwapRefused};
use crate::balance::Condition;
use crate::config::Errors;
use crate::deploy::Report;
use crate::state::{Document, Pool, Shared};

/// What the governor is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Read the configuration again.
    Reload(oneshot::Sender<Result<ReloadReport, Arc<ReloadError>>>),
    /// Tell what a reload would do, of this file if one is given.
    Plan(Option<Draft>, oneshot::Sender<Result<ReloadPlan, ReloadError>>),
    /// Begin a swap.
    Swap {
        /// Of this pool ...
        pool: String,
        /// ... to this version.
        version: String,
        /// How.
        options: SwapOptions,
        /// Whom to tell.
        reply: oneshot::Sender<Result<SwapId, SwapRefused>>,
    },
    /// Go back to the version before.
    RollBack {
        /// Of this pool.
        pool: String,
        /// Without its health checks.
        force: bool,
        /// Who asks, in words.
        asked_by: String,
        /// Whom to tell.
        reply: oneshot::Sender<Result<SwapId, SwapRefused>>,
    },
}

/// A configuration that came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// Its number.
    pub generation: u64,
    /// What it changed, in words; empty if nothing.
    pub changes: Vec<String>,
    /// Swaps that it started.
    pub swaps: Vec<StartedSwap>,
    /// Pools where another version serves than the file wants, each in words with what to type.
    pub overrides: Vec<String>,
    /// What is probably not meant, each ready to be shown.
    pub warnings: Vec<String>,
}

/// A swap that a reload started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StartedSwap {
    /// Its number, and that of its report.
    pub id: SwapId,
    /// The pool.
    pub pool: String,
    /// The version that serves.
    pub from: String,
    /// The version that is to serve.
    pub to: String,
}

/// Why a configuration did not come into force. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {}", path.display(), reason(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// What it says is wrong, or cannot be done.
    #[error(transparent)]
    Invalid(#[from] Errors),
    /// A bug of ours.
    #[error(
        "an internal error came up while the configuration was made ready (the log has more); \
         please report it"
    )]
    Internal,
    /// The process is about to end.
    #[error("tidegate is stopping; start it again to use another configuration")]
    Stopping,
}

/// Whether clients should be sent here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// They should.
    Ready,
    /// They should not, and why.
    NotReady(String),
}

/// A handle to the control plane; clones speak to the same.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
    generation: ArcSwap<Generation>,
    swaps: Board,
    was_ready: AtomicBool,
    hands: Arc<Hands>,
}

impl Handle {
    pub(super) fn new(
        shared: Arc<Shared>,
        hands: Hands,
    ) -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, received) = mpsc::unbounded_channel();
        let generation = ArcSwap::from_pointee(Generation::none());
        let (swaps, was_ready) = (Board::default(), AtomicBool::new(false));
        let inner =
            Inner { commands, shared, generation, swaps, was_ready, hands: Arc::new(hands) };
        (Handle(Arc::new(inner)), received)
    }

    /// One without a governor, for tests.
    #[cfg(test)]
    pub(super) fn alone(shared: Arc<Shared>) -> (Self, mpsc::UnboundedReceiver<Command>) {
        let probers = Arc::new(super::probers::Probers::new(&shared));
        let hands = Hands::new(&shared, &probers, &super::Store::default());
        Handle::new(shared, hands)
    }

    /// Reads the configuration file again, and puts it in force if it is good. Several at once are
    /// done one after another.
    ///
    /// # Errors
    /// If it is not: then everything is as before.
    pub async fn reload(&self) -> Result<ReloadReport, Arc<ReloadError>> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Arc::new(ReloadError::Stopping);
        self.0.commands.send(Command::Reload(reply)).map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// What [`reload`](Self::reload) would do now, or would do if the file was this draft. Changes
    /// nothing, and opens no socket.
    ///
    /// # Errors
    /// Those of a reload.
    pub async fn plan(&self, draft: Option<Draft>) -> Result<ReloadPlan, ReloadError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.commands.send(Command::Plan(draft, reply));
        sent.map_err(|_| ReloadError::Stopping)?;
        answer.await.unwrap_or(Err(ReloadError::Stopping))
    }

    /// Begins a swap of a pool to another of its versions, and returns when it has begun: how it
    /// goes on is told by [`report`](Self::report) and in the feed.
    ///
    /// # Errors
    /// If it cannot begin; then nothing was changed.
    pub async fn swap(
        &self,
        pool: &str,
        version: &str,
        options: SwapOptions,
    ) -> Result<SwapId, SwapRefused> {
        let (reply, answer) = oneshot::channel();
        let (pool, version) = (pool.to_owned(), version.to_owned());
        let command = Command::Swap { pool, version, options, reply };
        self.0.commands.send(command).map_err(|_| SwapRefused::Stopping)?;
        answer.await.unwrap_or(Err(SwapRefused::Stopping))
    }

    /// Goes back to the version that served before: at once while a swap is in its ramp or watch,
    /// later after the health checks of that version, with `force` without them. Gives the swap that
    /// was rolled back, or the one that brings the version before back.
    ///
    /// # Errors
    /// If there is nothing to go back to.
    pub async fn rollback(
        &self,
        pool: &str,
        force: bool,
        asked_by: &str,
    ) -> Result<SwapId, SwapRefused> {
        let (reply, answer) = oneshot::channel();
        let (pool, asked_by) = (pool.to_owned(), asked_by.to_owned());
        let command = Command::RollBack { pool, force, asked_by, reply };
        self.0.commands.send(command).map_err(|_| SwapRefused::Stopping)?;
        answer.await.unwrap_or(Err(SwapRefused::Stopping))
    }

    /// The reports of the latest swaps, those that run among them; the latest first.
    pub fn reports(&self) -> Vec<Arc<Report>> {
        self.0.swaps.reports()
    }

    /// The report of one swap, as it stands; `None` if there is none, or none any more.
    pub fn report(&self, id: SwapId) -> Option<Arc<Report>> {
        self.0.swaps.report(id)
    }

    /// That a restart would not know of the latest about swaps, in words, where that is so.
    pub fn unsaved(&self) -> Option<String> {
        self.0.shared.unsaved.words(&[Document::Swaps, Document::Reports]).pop()
    }

    /// Where the swaps stand.
    pub fn board(&self) -> &Board {
        &self.0.swaps
    }

    /// Drains or disables a backend, or takes that back.
    ///
    /// # Errors
    /// If there is no such backend, or another decision stands.
    pub async fn by_hand(
        &self,
        pool: &str,
        backend: &str,
        action: Action,
    ) -> Result<HandReport, HandError> {
        self.0.hands.apply(pool, backend, action).await
    }

    /// How one backend is, if there is such a one.
    pub fn backend_status(&self, pool: &str, backend: &str) -> Option<BackendStatus> {
        BackendStatus::of(&self.0.shared, pool, backend)
    }

    /// Keeps for the next start what is known of the backends' health.
    pub async fn keep_health(&self) {
        self.0.hands.keep_health().await;
    }

    /// What is going on now.
    pub fn status(&self) -> Status {
        Status::of(&self.0.shared, &self.0.swaps)
    }

    /// The live way of a request.
    ///
    /// # Errors
    /// If it cannot be said what the request is.
    pub fn explain_request(&self, ask: &Ask) -> Result<RequestExplanation, AskError> {
        explain::request(&self.0.shared, ask)
    }

    /// What happened to a backend lately, in every pool that has it.
    ///
    /// # Errors
    /// If none has.
    pub fn explain_backend(&self, address: &str) -> Result<Vec<BackendExplanation>, AskError> {
        explain::backend(&self.0.shared, address)
    }

    /// Whether clients should be sent here: once every listener is bound and every pool has had a
    /// verdict, good or bad, and until a stop is asked for. A pool that a reload adds later does
    /// not take readiness back: the other pools serve.
    pub fn readiness(&self) -> Readiness {
        if self.0.shared.lifecycle.stopping() {
            return Readiness::NotReady("stopping".to_owned());
        }
        if self.0.was_ready.load(Ordering::Relaxed) {
            return Readiness::Ready;
        }
        let snapshot = self.0.shared.snapshot.load();
        if snapshot.generation == 0 {
            return Readiness::NotReady("no configuration is in force yet".to_owned());
        }
        if let Some(pool) = snapshot.pools.values().find(|pool| !has_verdict(pool)) {
            return Readiness::NotReady(format!("pool {} has had no verdict yet", pool.name));
        }
        self.0.was_ready.store(true, Ordering::Relaxed);
        Readiness::Ready
    }

    /// Who may use the admin API, by the configuration in force.
    pub fn admin_access(&self) -> Arc<AdminAccess> {
        Arc::clone(&self.0.generation.load().admin)
    }

    /// `shutdown_delay` and `shutdown_timeout` of the configuration in force.
    pub fn shutdown_times(&self) -> (Duration, Duration) {
        let generation = self.0.generation.load();
        (generation.config.server.shutdown_delay, generation.config.server.shutdown_timeout)
    }

    /// Who is told of swaps, by the configuration in force.
    pub(super) fn webhook(&self) -> Option<Arc<Webhook>> {
        self.0.generation.load().webhook.clone()
    }

    pub(super) fn hands(&self) -> &Arc<Hands> {
        &self.0.hands
    }

    pub(super) fn generation(&self) -> Arc<Generation> {
        self.0.generation.load_full()
    }

    pub(super) fn set_generation(&self, generation: Generation) {
        self.0.generation.store(Arc::new(generation));
    }
}

/// One healthy backend is a good verdict; a bad one needs all of them. Only the versions that serve
/// count.
fn has_verdict(pool: &Pool) -> bool {
    let split = pool.state.split.load();
    let serving = split.shares.iter().filter(|share| share.share > 0.0);
    let mut checking = false;
    for member in serving.flat_map(|share| &share.version.members) {
        match member.backend.condition() {
            Condition::Healthy => return true,
            Condition::Checking => checking = true,
            _ => {}
        }
    }
    !checking
}
