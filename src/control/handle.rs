//! How the rest of the process speaks to the control plane.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::compile::{AdminAccess, Generation};
use super::files::reason;
use super::status::Status;
use crate::balance::Condition;
use crate::config::Errors;
use crate::state::{Pool, Shared};

/// What the governor is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Read the configuration again.
    Reload(oneshot::Sender<Result<ReloadReport, Arc<ReloadError>>>),
}

/// A configuration that came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// Its number.
    pub generation: u64,
    /// What it changed, in words; empty if nothing.
    pub changes: Vec<String>,
    /// What is probably not meant, each ready to be shown.
    pub warnings: Vec<String>,
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
    was_ready: AtomicBool,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, received) = mpsc::unbounded_channel();
        let generation = ArcSwap::from_pointee(Generation::none());
        let inner = Inner { commands, shared, generation, was_ready: AtomicBool::new(false) };
        (Handle(Arc::new(inner)), received)
    }

    /// Reads the configuration file again, and puts it in force if it is good. Several at once are
    /// done one after another; those that wait together are served by one.
    ///
    /// # Errors
    /// If it is not: then everything is as before.
    pub async fn reload(&self) -> Result<ReloadReport, Arc<ReloadError>> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Arc::new(ReloadError::Stopping);
        self.0.commands.send(Command::Reload(reply)).map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// What is going on now.
    pub fn status(&self) -> Status {
        Status::of(&self.0.shared)
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
