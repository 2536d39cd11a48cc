//! What only a restart changes, and what a restart forgets.

use std::io;
use std::path::PathBuf;

use crate::config::model::Pool;
use crate::config::{Diagnostic, Located, Parsed};
use crate::control::StateDir;
use crate::control::files::reason;

pub(super) fn restart_only(parsed: &Parsed, key: &str) -> Diagnostic {
    Diagnostic::error(format!("`{key}` cannot change while tidegate runs"))
        .at(parsed.place_of(key))
        .key(key)
        .help("restart tidegate to change it; until then put back what it was".to_owned())
}

/// What would not survive a restart: the state of pools with versions, if there is no place for it, or
/// all that changes from now on, if nothing can be written there.
pub(super) fn forgotten(parsed: &Parsed) -> Vec<Diagnostic> {
    if let Some(directory) = &parsed.config.server.state_dir {
        let obstacle = StateDir::obstacle(&directory.value);
        return obstacle.map(|obstacle| unwritable(directory, &obstacle)).into_iter().collect();
    }
    let pools = parsed.config.pools.iter().filter(|(_, pool)| !pool.versions.contains_key(""));
    let warning = |(name, pool): (&String, &Pool)| {
        let key = format!("pools.{name}.versions");
        Diagnostic::warning(format!(
            "a restart forgets which version of `{name}` serves, and its swaps: there is no \
             `server.state_dir`"
        ))
        .at(pool.active.span)
        .key(key)
        .help("give a directory that tidegate may write to: state_dir = \"state\"".to_owned())
    };
    pools.map(warning).collect()
}

fn unwritable(directory: &Located<PathBuf>, obstacle: &io::Error) -> Diagnostic {
    Diagnostic::warning(format!(
        "a restart forgets what changes from now on (which versions serve, swaps, what is decided by \
         hand): `{}` cannot be written: {}",
        directory.value.display(),
        reason(obstacle)
    ))
    .at(directory.span)
    .key("server.state_dir")
    .help("give the user that tidegate runs as a directory with room to write to".to_owned())
}
