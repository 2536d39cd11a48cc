//! What only a restart changes, and what a restart forgets.

use crate::config::model::Pool;
use crate::config::{Diagnostic, Parsed};

pub(super) fn restart_only(parsed: &Parsed, key: &str) -> Diagnostic {
    Diagnostic::error(format!("`{key}` cannot change while tidegate runs"))
        .at(parsed.place_of(key))
        .key(key)
        .help("restart tidegate to change it; until then put back what it was".to_owned())
}

/// Pools with versions whose state would not survive a restart.
pub(super) fn forgotten(parsed: &Parsed) -> Vec<Diagnostic> {
    if parsed.config.server.state_dir.is_some() {
        return Vec::new();
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
