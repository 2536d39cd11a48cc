//! The composition root: starts both planes, and orders the shutdown.
//!
//! [`start`] gives a whole proxy inside this process, for tests and demonstrations; [`run`] is
//! that, with signals and the log, until a signal ends it.

mod admin_api;
mod running;
mod signals;
mod start;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::admin;
use crate::balance::affinity::Key;
use crate::config::{Diagnostic, Parsed};
use crate::control::compile::{Context, Generation};
use crate::control::governor::read_config;
use crate::control::state_dir::random_key;
use crate::control::{Prepared, StateDirError};
use crate::telemetry::Log;

pub use crate::control::ReloadError;
pub use running::Running;
pub use signals::{Ended, run};
pub use start::start;

/// What a start needs to know.
#[derive(Debug)]
pub struct Options {
    /// The configuration file.
    pub config_path: PathBuf,
    /// The log of the process, if a reload may change its level and format.
    pub log: Option<Log>,
    /// How long a client's connection is idle before it gives its buffers back. A second: a busy
    /// client is not to wait for new ones, and an idle one soon costs nothing.
    pub park_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { config_path: PathBuf::new(), log: None, park_after: Duration::from_secs(1) }
    }
}

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be read, is wrong, or names what cannot be used.
    #[error(transparent)]
    Config(#[from] ReloadError),
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The admin API cannot listen.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// The operating system refuses threads, randomness, or the like.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Checks a configuration as far as that is possible without opening a socket or resolving a name:
/// what it says, and the certificates and other files that it names. Gives the warnings.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(path: &Path) -> Result<(Parsed, Vec<Diagnostic>), StartError> {
    let parsed = read_config(path)?;
    let context = Context {
        workers: 1,
        affinity_key: &Key::new(&random_key()?),
        open_files: u64::MAX,
        uptime: Duration::ZERO,
        now: SystemTime::now(),
        read: &|path| std::fs::read(path),
    };
    let prepared = Prepared::new(parsed, &Generation::none(), &context)?;
    Ok((prepared.parsed().clone(), prepared.warnings()))
}

#[cfg(test)]
mod tests;
