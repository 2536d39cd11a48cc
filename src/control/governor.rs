//! The governor: the one task that changes snapshots and splits.
//!
//! A reload is made ready beside what is in force ([`Prepared`], off the control runtime, since it
//! reads files, and at low priority), then its sockets are bound, and from there on nothing can fail: one pointer is
//! swapped, then the splits, then everybody is told.

mod access;
mod prepared;
mod restarts;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub use self::prepared::{Prepared, read_config};
use self::prepared::{draw_up, prepare};
use super::beside;
use super::by_hand::Hands;
use super::compile::{Compiled, Effects, Generation, Versions, log_settings};
use super::handle::{Command, Handle, ReloadError, ReloadReport};
use super::health_memory;
use super::outliers::{Outliers, Raised};
use super::plan::{Draft, ReloadPlan};
use super::probers::Probers;
use super::slices::sliced;
use super::sockets::{Opening, SocketChanges, SocketKey, Sockets};
use super::store::Store;
use super::swaps::Swaps;
use crate::balance::affinity::Key;
use crate::config::model;
use crate::config::{Diagnostic, Errors, Parsed};
use crate::state::{Mail, Notice, Pool, Shared, Snapshot, Split};
use crate::telemetry::{AccessLog, Log, events};

/// How often it is looked whether what was in force is still in use.
const LOOK: Duration = Duration::from_secs(1);

/// What stays the same for the life of the process.
#[derive(Debug)]
pub struct Setting {
    /// The configuration file.
    pub path: PathBuf,
    /// Number of workers.
    pub workers: usize,
    /// For affinity cookies of pools without a secret of their own.
    pub affinity_key: Key,
    /// Files that the process may have open.
    pub open_files: u64,
    /// The log, where a change of its level takes effect; absent if it is not ours.
    pub log: Option<Log>,
    /// The access log, which follows the configuration.
    pub access_log: AccessLog,
    /// What survives a restart.
    pub store: Store,
}

/// The governor before it runs.
#[derive(Debug)]
pub struct Governor {
    shared: Arc<Shared>,
    setting: Arc<Setting>,
    sockets: Sockets,
    probers: Arc<Probers>,
    swaps: Swaps,
    handle: Handle,
    commands: UnboundedReceiver<Command>,
    /// What goes on beside it, and ends with it.
    _tasks: JoinSet<()>,
}

impl Governor {
    /// Needs the control runtime around it, like all that follows.
    pub fn new(shared: &Arc<Shared>, setting: Setting, notices: UnboundedReceiver<Notice>) -> Self {
        let probers = Arc::new(Probers::new(shared));
        let hands = Hands::new(shared, &probers, &setting.store);
        let (handle, commands) = Handle::new(Arc::clone(shared), hands);
        let mut tasks = JoinSet::new();
        tasks.spawn(health_memory::keep(Arc::clone(shared), setting.store.clone()));
        let raise = Outliers::start(shared, probers.publisher());
        tokio::spawn(heed(notices, Arc::clone(&probers), raise));
        Governor {
            shared: Arc::clone(shared),
            sockets: Sockets::new(setting.workers),
            swaps: Swaps::new(shared, &probers, &handle, &setting.store),
            setting: Arc::new(setting),
            probers,
            handle,
            commands,
            _tasks: tasks,
        }
    }

    /// To speak to the governor.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Puts the first configuration in force.
    ///
    /// # Errors
    /// If it cannot be; then nothing was started.
    pub fn begin(&mut self, parsed: Parsed) -> Result<ReloadReport, ReloadError> {
        let prepared = prepare(parsed, &self.handle.generation(), &self.setting, &self.shared)?;
        let report = self.put_in_force(prepared)?;
        self.swaps.begin(&self.handle.generation());
        Ok(report)
    }

    /// Takes commands one after another, until every handle is gone.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    None => return,
                    Some(command) => self.obey(command).await,
                },
                due = self.swaps.due() => self.swaps.attend(due).await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        // Who asked may have left meanwhile.
        match command {
            Command::Reload(reply) => self.reload(reply).await,
            Command::Plan(draft, reply) => self.plan(draft, reply),
            Command::Swap { pool, version, options, reply } => {
                let _ = reply.send(self.swaps.swap(&pool, &version, options).await);
            }
            Command::RollBack { pool, force, asked_by, reply } => {
                let _ = reply.send(self.swaps.roll_back(&pool, force, asked_by).await);
            }
        }
    }

    async fn reload(&mut self, reply: oneshot::Sender<Result<ReloadReport, Arc<ReloadError>>>) {
        let prepared = if self.shared.lifecycle.stopping() {
            Err(ReloadError::Stopping)
        } else {
            self.prepare_beside().await
        };
        let result = match prepared.and_then(|prepared| self.put_in_force(prepared)) {
            Ok(mut report) => {
                let followed = self.swaps.reloaded(&self.handle.generation()).await;
                (report.swaps, report.overrides) = (followed.started, followed.overrides);
                // What went without a gate and a watch first of all.
                report.changes.splice(0..0, followed.lost);
                report.changes.extend(followed.changes);
                // Backends that are gone take what was decided about them along. If that cannot be
                // kept, decisions are left over that speak of nobody.
                drop(self.handle.hands().keep_in_time().await);
                Ok(report)
            }
            Err(error) => Err(Arc::new(error)),
        };
        if let Err(error) = &result {
            events::reload_failed(&self.shared, error);
        }
        // Who asked may have left meanwhile.
        let _ = reply.send(result);
    }

    /// On a thread that may block, and without waiting for it: nothing is changed.
    fn plan(&self, draft: Option<Draft>, reply: oneshot::Sender<Result<ReloadPlan, ReloadError>>) {
        let (old, setting) = (self.handle.generation(), Arc::clone(&self.setting));
        let (shared, handle) = (Arc::clone(&self.shared), self.handle.clone());
        let plan = move || draw_up(draft.as_ref(), &old, &setting, (&shared, &handle));
        tokio::spawn(async move {
            // Who asked may have left meanwhile.
            let _ = reply.send(beside::run(plan).await.unwrap_or(Err(ReloadError::Internal)));
        });
    }

    /// On a thread that may block: files are read. Swaps go on meanwhile.
    async fn prepare_beside(&mut self) -> Result<Prepared, ReloadError> {
        let (old, setting) = (self.handle.generation(), Arc::clone(&self.setting));
        let shared = Arc::clone(&self.shared);
        let mut preparing = pin!(beside::run(move || {
            prepare(read_config(&setting.path)?, &old, &setting, &shared)
        }));
        loop {
            tokio::select! {
                prepared = &mut preparing => return prepared.unwrap_or(Err(ReloadError::Internal)),
                due = self.swaps.due() => self.swaps.attend(due).await,
            }
        }
    }

    fn put_in_force(&mut self, prepared: Prepared) -> Result<ReloadReport, ReloadError> {
        let warnings = prepared.warnings();
        let Prepared { parsed, compiled, changes } = prepared;
        let old = self.handle.generation();
        let access = access::Change::prepare(&parsed, &old.config.log).map_err(|error| vec![error]);
        let (access, opening) = match access.and_then(|it| Ok((it, self.open(&compiled)?))) {
            Ok(ready) => ready,
            Err(errors) => return Err(Errors { source: parsed.source, errors, read: None }.into()),
        };
        let number = old.snapshot.generation + 1;
        let wanted: BTreeSet<SocketKey> = compiled.sockets().map(|key| key.value.clone()).collect();
        let (generation, effects) =
            compiled.into_generation(number, |key| self.sockets.find(&opening, key));
        let sockets = self.sockets.commit(opening, &wanted);
        let splits = self.swap(generation, effects, sockets);
        access.put_in_force(&self.setting.access_log);
        let warnings: Vec<String> =
            warnings.iter().map(|warning| warning.render(&parsed.source, false)).collect();
        warnings.iter().for_each(|warning| tracing::warn!("{}", warning.trim_end()));
        let told = if number == 1 { String::new() } else { changes.join(", ") };
        events::reload_succeeded(&self.shared, number, &told);
        tokio::spawn(let_go(old, (parsed, splits)));
        let (swaps, overrides) = (Vec::new(), Vec::new());
        Ok(ReloadReport { generation: number, changes, swaps, overrides, warnings })
    }

    fn open(&mut self, compiled: &Compiled) -> Result<Opening, Vec<Diagnostic>> {
        let mut opening = Opening::default();
        let mut errors = Vec::new();
        for key in compiled.sockets() {
            if let Err(error) = self.sockets.open(key, &mut opening) {
                errors.push(Diagnostic::error(error.to_string()).at(key.span));
            }
        }
        if errors.is_empty() { Ok(opening) } else { Err(errors) }
    }

    /// Nothing in here can fail. Gives the splits that are not in force any more.
    fn swap(
        &self,
        generation: Generation,
        effects: Effects,
        sockets: SocketChanges,
    ) -> Vec<Arc<Split>> {
        // First of all: what follows is told.
        self.set_log(&generation.config.log);
        let snapshot = Arc::clone(&generation.snapshot);
        sliced(snapshot.pools.values()).for_each(|pool| settle(pool));
        let before = self.shared.snapshot.swap(Arc::clone(&snapshot));
        self.shared.files.allow(effects.connections);
        if snapshot.generation == 1 {
            let (publisher, store) = (self.probers.publisher(), &self.setting.store);
            health_memory::restore(&self.shared, publisher, store, &snapshot);
            self.handle.hands().restore(&snapshot);
        }
        let splits = sliced(effects.versions.into_iter()).map(Versions::put_in_force).collect();
        for (backend, settings) in sliced(effects.reverify.into_iter()) {
            backend.health().reverify(settings);
        }
        // A verdict may have come while the versions were made.
        for pool in sliced(snapshot.pools.values()) {
            pool.state.split.load().shares.iter().for_each(|share| share.version.rebuild());
            // There may be more backends, or a higher limit.
            pool.state.line.hand_over();
        }
        let gone = self.probers.follow(&generation);
        for (id, sockets) in sockets.listen {
            let Some(listener) = snapshot.listener_at(id) else { continue };
            for (worker, socket) in self.shared.workers.iter().zip(sockets) {
                // A worker that has ended accepts nothing.
                let _ = worker.send(Mail::Listen(id, Arc::clone(listener), socket));
            }
        }
        self.shared.broadcast(|| Mail::SnapshotChanged);
        if shortens_keepalive(&before, &snapshot) {
            self.shared.broadcast(|| Mail::KeepaliveShortened);
        }
        for backend in sliced(gone.into_iter()) {
            backend.gone.store(true, Ordering::Relaxed);
            self.shared.broadcast(|| Mail::BackendGone(backend.id));
        }
        for id in sockets.stop {
            self.shared.broadcast(|| Mail::StopListening(id));
        }
        self.handle.set_generation(generation);
        splits
    }

    fn set_log(&self, wanted: &model::Log) {
        if let Some(log) = &self.setting.log {
            let (level, format) = log_settings(wanted);
            log.set(level, format);
        }
    }
}

/// Lets go of what was in force once no request uses it any more: whoever is the last to hold a
/// configuration of ten thousand backends is busy with it for a while, which a worker must not be.
async fn let_go<T: Send + 'static>(old: Arc<Generation>, made_with_it: T) {
    while Arc::strong_count(&old.snapshot) > 1 {
        tokio::time::sleep(LOOK).await;
    }
    drop(beside::begin(move || drop((old, made_with_it))));
}

/// Whether idle clients of some listener may stay for a shorter time than before.
fn shortens_keepalive(before: &Snapshot, now: &Snapshot) -> bool {
    let mut pairs = now.listeners.iter().flat_map(|listener| {
        let same = before.listeners.iter().find(|old| Arc::ptr_eq(&old.state, &listener.state));
        same.map(|old| (&old.limits, &listener.limits))
    });
    pairs.any(|(old, new)| new.keepalive_timeout < old.keepalive_timeout)
}

/// Brings the settings of a pool to what is carried across reloads. New backends have theirs.
fn settle(pool: &Pool) {
    if let Some(settings) = pool.circuit_breaker {
        pool.state.breaker.configure(settings);
    }
    let split = pool.state.split.load();
    let members = split.shares.iter().flat_map(|share| &share.version.members);
    members.for_each(|member| member.backend.set_limit(pool.queue.max_requests_per_backend));
}

/// Acts on what workers tell, at once and whatever the governor is doing.
async fn heed(
    mut notices: UnboundedReceiver<Notice>,
    probers: Arc<Probers>,
    raise: UnboundedSender<Raised>,
) {
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Suspect(backend) => probers.suspect(backend.id),
            Notice::Alarm(backend, alarm) => {
                // Its receiver ends with the runtime.
                let _ = raise.send((backend, alarm));
            }
            Notice::Drained(worker) => tracing::debug!(%worker, "a worker has ended"),
            // The worker has told of it itself.
            Notice::WorkerRestarted(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
