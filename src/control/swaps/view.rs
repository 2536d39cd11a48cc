//! Swaps as others see them: plain data, ready to be serialised.
//!
//! Times of day are seconds since the Unix epoch. What a swap comes to is told in the feed
//! ([`SwapEvent`](crate::state::SwapEvent)), its report by [`Report::json`](crate::deploy::Report).

use std::fmt;

use serde::Serialize;

use crate::deploy::Held;

/// Number of a swap and of its report; never used twice within a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SwapId(pub u64);

impl fmt::Display for SwapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a swap is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwapOptions {
    /// Cancel a swap of the pool that runs, instead of being refused.
    pub replace: bool,
    /// Who asks, in words: "`tidegate swap` from 127.0.0.1".
    pub asked_by: String,
}

/// Why a swap or a rollback was not begun. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapRefused {
    /// No such pool.
    #[error("there is no pool `{pool}`; there are: {known}")]
    UnknownPool {
        /// What was asked for.
        pool: String,
        /// What there is, in words.
        known: String,
    },
    /// It has no versions.
    #[error(
        "pool `{0}` has no versions to swap between; give it `versions` in place of `backends`"
    )]
    NoVersions(String),
    /// No such version.
    #[error("pool `{pool}` has no version `{version}`; it has: {known}")]
    UnknownVersion {
        /// The pool.
        pool: String,
        /// What was asked for.
        version: String,
        /// What there is, in words.
        known: String,
    },
    /// It serves already.
    #[error("{version} serves pool `{pool}` already")]
    Serves {
        /// The pool.
        pool: String,
        /// The version.
        version: String,
    },
    /// A swap of the pool runs.
    #[error(
        "{state}; wait for it, or cancel it and begin this one with --replace (in the API: \
         \"replace\": true)"
    )]
    Running {
        /// That swap.
        id: SwapId,
        /// Where it is, in words.
        state: String,
    },
    /// That was done.
    #[error("{serving} serves pool `{pool}` since the rollback of report {report}{next}")]
    RolledBack {
        /// The pool.
        pool: String,
        /// What serves.
        serving: String,
        /// The swap that was rolled back, or went back.
        report: SwapId,
        /// What to type, in words.
        next: String,
    },
    /// There was nothing to go back from: the version never came into force, or was taken back.
    #[error("swap {report} to {version} was {cause}, {serving} serves pool `{pool}`{next}")]
    CameToNothing {
        /// The pool.
        pool: String,
        /// What serves.
        serving: String,
        /// Where the swap was to lead.
        version: String,
        /// `refused` or `cancelled`.
        cause: &'static str,
        /// That swap.
        report: SwapId,
        /// It was to lead to the version before: what serves is not what is wanted.
        was_back: bool,
        /// What to type, in words.
        next: String,
    },
    /// Nothing served before.
    #[error(
        "pool `{0}` has no version to go back to: no other is known to have served and not to have \
         failed since; `tidegate swap` goes to any"
    )]
    NothingBefore(String),
    /// The process is about to end.
    #[error("tidegate is stopping")]
    Stopping,
}

/// What concerns swaps of a pool with versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PoolSwaps {
    /// `active` of the file.
    pub wanted: String,
    /// What serves, or will if the swap that runs comes to nothing.
    pub serving: String,
    /// Why another version serves than the file wants.
    #[serde(rename = "override")]
    pub override_: Option<OverrideStatus>,
    /// The version before, to which `rollback` goes back; with `--force`, if the latest swap came to
    /// nothing.
    pub before: Option<String>,
    /// The swap that runs.
    pub running: Option<RunningSwap>,
    /// The latest swap, running or not.
    pub last: Option<SwapId>,
}

/// Why another version serves than the file wants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OverrideStatus {
    /// In words, with what to type.
    pub words: String,
    /// `swap`, `rollback`, `refused` or `cancelled`.
    pub cause: &'static str,
    /// The report of it.
    pub report: SwapId,
    /// Since when.
    pub since: f64,
}

/// A swap that runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunningSwap {
    /// Its number.
    pub id: SwapId,
    /// The version that served.
    pub from: String,
    /// The version that is to serve.
    pub to: String,
    /// Who asked.
    pub asked_by: String,
    /// `gate`, `ramp`, `watch` or `drain`.
    pub phase: &'static str,
    /// Share of the new version now, 0 to 1.
    pub share: f64,
    /// How it will end, if that is decided: `kept`, `undecided`, `rolled_back`, `refused` or
    /// `cancelled`.
    pub outcome: Option<&'static str>,
    /// Where it is, in words.
    pub words: String,
}

/// What a version holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeldView {
    /// Requests in flight, without tunnels.
    pub requests: u64,
    /// Upgraded connections.
    pub tunnels: u64,
}

impl From<Held> for HeldView {
    fn from(held: Held) -> Self {
        HeldView { requests: held.requests, tunnels: held.tunnels }
    }
}
