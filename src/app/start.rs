//! The order of a start: what can fail without having touched anything comes first, and nobody is
//! served before everything is there.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use super::admin_api::AdminApi;
use super::running::ControlPlane;
use super::{Options, Running, StartError};
use crate::admin::{self, AdminState};
use crate::balance::affinity::Key;
use crate::config::model::{BindAddress, Server};
use crate::control::governor::{Setting, read_config};
use crate::control::state_dir::random_key;
use crate::control::{Governor, StateDir, Store, notify, ticket_keys};
use crate::proxy::worker::{self, Settings};
use crate::state::{Shared, Snapshot, WorkerId};
use crate::telemetry::AccessLog;

/// Starts a whole proxy and returns when it accepts.
///
/// # Errors
/// If anything is missing for it; then nothing is left behind.
pub fn start(options: Options) -> Result<Running, StartError> {
    let parsed = read_config(&options.config_path)?;
    let open_files = raise_open_files();
    let state_dir = match &parsed.config.server.state_dir {
        Some(path) => Some(Arc::new(StateDir::open(path)?)),
        None => None,
    };
    let affinity_key = match &state_dir {
        Some(state_dir) => Key::new(&state_dir.affinity_key()?),
        None => Key::new(&random_key()?),
    };
    let access_log = AccessLog::new()?;
    let admin_socket = admin::bind(&admin_address(&parsed.config.admin.bind.value))?;
    let workers = workers(&parsed.config.server);
    let (shared, mailboxes) = Shared::new(workers, instance()?, Snapshot::empty(), open_files);
    let runtime = control_runtime()?;

    let entered = runtime.enter();
    let setting = Setting {
        path: options.config_path,
        workers,
        affinity_key,
        open_files,
        log: options.log,
        access_log: access_log.clone(),
        store: Store::new(state_dir.clone()),
    };
    let mut governor = Governor::new(&shared, setting, mailboxes.notices);
    let handle = governor.handle();
    governor.begin(parsed)?;
    tokio::spawn(notify::run(Arc::clone(&shared), handle.clone()));
    tokio::spawn(ticket_keys::run(Arc::clone(&shared)));
    let governor = runtime.spawn(governor.run());
    let state = AdminState {
        control: handle.clone(),
        shared: Arc::clone(&shared),
        access_log: access_log.clone(),
    };
    let admin = AdminApi::start(admin_socket, state);
    drop(entered);

    let control = ControlPlane { runtime, handle, governor, admin };
    let mut running = Running::new(shared, control, access_log.clone(), state_dir);
    for (index, mail) in mailboxes.workers.into_iter().enumerate() {
        let shared = Arc::clone(running.shared());
        let settings = Settings { access_log: access_log.clone(), park_after: options.park_after };
        running.adopt(worker::spawn(WorkerId::new(index), shared, mail, settings)?);
    }
    running.open_admin();
    Ok(running)
}

fn control_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
}

/// As many files as the system lets us have; gives that number.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let mut raised = limit;
    raised.current = limit.maximum;
    let in_force = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            limit
        }
    };
    in_force.current.unwrap_or(u64::MAX)
}

/// What the machine, or the cgroup that we run in, allows.
fn workers(server: &Server) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    server.workers.unwrap_or_else(available)
}

fn admin_address(bind: &BindAddress) -> admin::Address {
    match bind {
        BindAddress::Tcp(address) => admin::Address::Tcp(*address),
        BindAddress::Unix(path) => admin::Address::Unix(path.clone()),
    }
}

fn instance() -> std::io::Result<Arc<str>> {
    let random = random_key()?;
    Ok(random.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>().into())
}
