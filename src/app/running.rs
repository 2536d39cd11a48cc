//! A proxy that runs inside this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::admin_api::AdminApi;
use crate::admin::Address;
use crate::control::{Handle, StateDir};
use crate::state::{Mail, Shared};
use crate::telemetry::AccessLog;

/// Workers have this long beyond the deadline to let go of what they have.
const GRACE: Duration = Duration::from_secs(1);
/// Nobody waits longer, and any clock can bear it.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How often it is looked whether the workers have ended.
const LOOK: Duration = Duration::from_millis(5);

/// A whole proxy. Dropped without [`shutdown`](Self::shutdown), it is cut off at once.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Absent only while it is being dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    governor: tokio::task::JoinHandle<()>,
    admin: AdminApi,
    access_log: AccessLog,
    _state_dir: Option<Arc<StateDir>>,
}

/// What runs on the control runtime, and that.
pub(super) struct ControlPlane {
    pub(super) runtime: Runtime,
    pub(super) handle: Handle,
    pub(super) governor: tokio::task::JoinHandle<()>,
    pub(super) admin: AdminApi,
}

impl Running {
    pub(super) fn new(
        shared: Arc<Shared>,
        control: ControlPlane,
        access_log: AccessLog,
        state_dir: Option<Arc<StateDir>>,
    ) -> Self {
        Running {
            shared,
            workers: Vec::new(),
            runtime: Some(control.runtime),
            handle: control.handle,
            governor: control.governor,
            admin: control.admin,
            access_log,
            _state_dir: state_dir,
        }
    }

    pub(super) fn adopt(&mut self, worker: JoinHandle<()>) {
        self.workers.push(worker);
    }

    /// All workers accept: the admin API may say so.
    pub(super) fn open_admin(&mut self) {
        self.admin.open();
    }

    pub(super) fn runtime(&self) -> Option<&tokio::runtime::Handle> {
        self.runtime.as_ref().map(Runtime::handle)
    }

    /// The meeting place of the planes.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// To speak to the control plane.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The access log, on or off.
    pub fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// Where the admin API listens, with its real port.
    pub fn admin_address(&self) -> &Address {
        self.admin.address()
    }

    /// The first TCP address that a listener is bound to, with its real port.
    pub fn listener_address(&self, name: &str) -> Option<SocketAddr> {
        let snapshot = self.shared.snapshot.load();
        let listener = snapshot.listeners.iter().find(|listener| *listener.name == *name)?;
        listener.addresses.iter().find_map(|address| address.parse().ok())
    }

    /// Not ready any more, though still accepting.
    pub fn announce_stop(&self) {
        self.shared.lifecycle.set_stopping();
    }

    /// Stops accepting, and lets what is in flight go on until `timeout`.
    pub fn drain(&self, timeout: Duration) {
        self.shared.lifecycle.set_stopping();
        self.shared.lifecycle.set_draining();
        let deadline = Instant::now() + timeout.min(LONGEST);
        self.shared.broadcast(|| Mail::Drain { deadline });
    }

    /// Whether all workers have ended.
    pub fn has_drained(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Waits until all workers have ended, and no longer than a moment beyond `timeout`; then the
    /// governor and the admin API end too, and the files of Unix sockets go.
    pub async fn drained(&self, timeout: Duration) {
        let waiting = async {
            while !self.has_drained() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(timeout.min(LONGEST) + GRACE, waiting).await.is_err() {
            tracing::error!("a worker does not end; leaving it behind");
        }
        let control = async {
            self.handle.keep_health().await;
            self.admin.stop().await;
            self.governor.abort();
            while !self.governor.is_finished() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(GRACE * 2, control).await.is_err() {
            tracing::error!("the control plane does not end; leaving it behind");
        }
    }

    /// Stops gracefully by the times of the configuration, without its `shutdown_delay`.
    pub async fn shutdown(self) {
        let (_, timeout) = self.handle.shutdown_times();
        self.drain(timeout);
        self.drained(timeout).await;
    }

    /// [`shutdown`](Self::shutdown) for callers without a runtime.
    pub fn shutdown_blocking(self) {
        let (_, timeout) = self.handle.shutdown_times();
        self.drain(timeout);
        if let Some(runtime) = self.runtime() {
            runtime.block_on(self.drained(timeout));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_drained() {
            self.drain(Duration::ZERO);
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
