//! What a swap is told, and what it tells to do.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::history::History;
use super::latencies::Latencies;
use super::plan::{Plan, Shadow};
use super::sample::{BackendSample, Counts};
use super::shadow::ShadowTally;

/// One of the two versions of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// That which served.
    Old,
    /// That which is to serve.
    New,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }
}

/// What is asked of a backend at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Check {
    /// Its health check.
    Probe,
    /// A smoke request, by its place in the configuration.
    Smoke(usize),
    /// That it tells the version that is expected.
    Version,
    /// That connections to it can be opened, on every worker.
    WarmUp,
}

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// As expected.
    Passed,
    /// Not so, in words; it may be asked again.
    Failed(String),
    /// Not so, and asking again would not change it.
    Refused(String),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The answer to [`Command::Check`].
    Checked {
        /// That of the command.
        round: u32,
        /// Whose answer.
        backend: Arc<str>,
        /// What was asked.
        check: Check,
        /// How it went.
        outcome: Checked,
    },
    /// How [`Command::Shadow`] goes; to be told at every look.
    Shadowing(ShadowTally),
    /// Its end.
    Shadowed(ShadowTally),
    /// The answer to [`Command::ProbeOld`].
    OldProbed {
        /// Backends that passed ...
        passed: usize,
        /// ... of all that were asked.
        asked: usize,
    },
    /// Somebody gives up the swap, or replaces it by another. In words, as in "replaced by ...".
    Cancel(String),
    /// Somebody wants the old version back. In words, as in "by hand, from 127.0.0.1".
    RollBack(String),
    /// The configuration was read anew.
    Reloaded(Reloaded),
}

/// What the file says after a reload.
#[derive(Clone, Debug, PartialEq)]
pub struct Reloaded {
    /// Its `active`, if that is another than before.
    pub active: Option<String>,
    /// Backends of the new version as in [`Order::backends`](super::Order::backends); `None`: the
    /// version is gone.
    pub candidate: Option<Vec<Arc<str>>>,
    /// Whether the old version is still there.
    pub has_old: bool,
    /// `[pools.X.swap]` now.
    pub plan: Plan,
}

/// What is known at a look, every 250 ms while a swap runs.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// What each backend of the new version did since the last look.
    pub new: &'a [BackendSample],
    /// Times to the response head on the new version since the last look.
    pub new_latencies: &'a Latencies,
    /// Attempts on the new version that have waited for a response head for
    /// [long](super::LONG_WAIT), now.
    pub new_waiting: u64,
    /// What the old version did since the last look.
    pub old: Counts,
    /// What the old version did before and since.
    pub old_history: &'a History,
    /// What the old version still holds ...
    pub old_held: Held,
    /// ... and the new one.
    pub new_held: Held,
}

/// What a version holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Requests in flight, without tunnels.
    pub requests: u64,
    /// Upgraded connections.
    pub tunnels: u64,
}

/// What is to be done. Commands of one call are to be obeyed in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A gate begins. Nothing that the traffic of the new version showed before is to keep its backends
    /// out any longer, unless they take traffic now: it may have been mended since.
    ForgetTraffic,
    /// Ask this of a backend, and answer with [`Event::Checked`], whatever comes.
    Check {
        /// To be sent back.
        round: u32,
        /// Whom.
        backend: Arc<str>,
        /// What.
        check: Check,
    },
    /// Copy live GET requests for a while, tell of it by [`Event::Shadowing`], and answer with
    /// [`Event::Shadowed`] when no answer is missing any more.
    Shadow(Shadow),
    /// Stop copying: no answer is waited for.
    StopShadow,
    /// Count attempts on either version as too slow by this, `None`: none.
    CountSlow(Option<Slow>),
    /// Send this share (0.0 to 1.0) of new attempts to the new version, the rest to the old one.
    Split(f64),
    /// Probe every backend of the old version once, with a timeout of a second at most, and answer
    /// with [`Event::OldProbed`].
    ProbeOld,
    /// Eject this backend of the new version, however many others are out. Passing probes do not
    /// bring it back before its time.
    Eject {
        /// Which.
        backend: Arc<str>,
        /// For how long: the rest of the watch.
        lasts: Duration,
        /// Why, in words.
        why: String,
    },
    /// Let this version go: no new request, and idle connections are closed. Its tunnels stay.
    Drain(Side),
    /// Cut the requests that are left on this version.
    CutRequests(Side),
    /// Close its tunnels, so many a second, with jitter.
    CloseTunnels {
        /// Whose.
        side: Side,
        /// How many a second.
        per_second: u32,
    },
    /// Write [`Swap::resume_form`](super::Swap::resume_form) to the disk before going on.
    Persist,
    /// Tell this to people: log, events, webhook.
    Tell(Milestone, String),
    /// The swap is over: its report is complete, and another may begin. Looks should go on until
    /// [`Swap::is_over`](super::Swap::is_over), for tunnels with a deadline.
    Finished(Outcome),
}

/// From when on which attempts are too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Older than this without a response head.
    pub limit: Duration,
    /// Only attempts that began at or after this time.
    pub from: Duration,
}

/// What people are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The gate begins.
    Started,
    /// Live requests are copied to the new version.
    Shadowing,
    /// No longer; the new version may go on.
    Shadowed,
    /// The gate refused the new version.
    Refused,
    /// The new version takes its first or a further share.
    Switched,
    /// A backend was blamed.
    Ejected,
    /// The new version looks bad, and so does the old one.
    Held,
    /// The old one is well again: the new one is judged on.
    Resumed,
    /// In `observe` mode: a backend would have been ejected.
    WouldEject,
    /// In `observe` mode: here it would have been rolled back.
    WouldRollBack,
    /// Back on the old version.
    RolledBack,
    /// The watch is over and the new version stays.
    Kept,
    /// The same, though nothing is known of it.
    Undecided,
    /// Given up.
    Cancelled,
    /// The version that was let go holds nothing any more: it is safe to stop.
    Drained,
}

impl Milestone {
    /// A word for it, for events and webhooks.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Shadowing => "shadowing",
            Self::Shadowed => "shadowed",
            Self::Refused => "refused",
            Self::Switched => "switched",
            Self::Ejected => "ejected",
            Self::Held => "held",
            Self::Resumed => "resumed",
            Self::WouldEject => "would_eject",
            Self::WouldRollBack => "would_roll_back",
            Self::RolledBack => "rolled_back",
            Self::Kept => "kept",
            Self::Undecided => "undecided",
            Self::Cancelled => "cancelled",
            Self::Drained => "drained",
        }
    }
}

/// Why it cannot be said of a version that stays whether it is fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doubt {
    /// There were too few requests for a verdict, and none failed.
    FewRequests,
    /// There were too few for a verdict, and some failed.
    FewFailed,
    /// It leaves more requests waiting than it answers.
    Waiting,
    /// It looked bad, and so did the old version.
    BothBad,
    /// The old version was failing itself, and there is nothing to hold it beside.
    OldFailing,
    /// The old version went out of the file before the watch was over.
    NoWayBack,
}

impl Doubt {
    /// A word for it, for JSON.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::FewRequests => "few_requests",
            Self::FewFailed => "few_failed",
            Self::Waiting => "waiting",
            Self::BothBad => "both_bad",
            Self::OldFailing => "old_failing",
            Self::NoWayBack => "no_way_back",
        }
    }
}

/// How a swap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The new version serves.
    Kept,
    /// The same, though in [`Doubt`].
    Undecided,
    /// The old version serves again.
    RolledBack,
    /// The gate refused: the old version served all the time.
    Refused,
    /// Given up: the old version serves.
    Cancelled,
}

impl Outcome {
    /// A word for it, for metrics and JSON.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Undecided => "undecided",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }

    /// The outcome of this word.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Kept, Self::Undecided, Self::RolledBack, Self::Refused, Self::Cancelled]
            .into_iter()
            .find(|outcome| outcome.label() == label)
    }

    /// With what `tidegate swap` exits.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Kept => 0,
            Self::RolledBack => 3,
            Self::Refused => 4,
            Self::Undecided => 5,
            Self::Cancelled => 6,
        }
    }

    /// Which version serves after it.
    #[must_use]
    pub fn serving(self) -> Side {
        match self {
            Self::Kept | Self::Undecided => Side::New,
            Self::RolledBack | Self::Refused | Self::Cancelled => Side::Old,
        }
    }
}
