//! What a swap leaves behind: who asked for what, what was seen, and why it ended as it did.
//!
//! Times of day are times since the Unix epoch.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::drain::Drained;
use super::gate::GateRow;
use super::history::{Baseline, Figures, Percentiles};
use super::message::{Doubt, Outcome};
use super::plan::Order;
use super::shadow::ShadowFigures;
use super::statistics::share_interval;
use super::verdict::{TestReport, Verdict};

/// Notes that are kept; what comes after them is more of the same.
const MAX_NOTES: usize = 100;

/// Where a swap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The new version is checked; the old one serves.
    Gate,
    /// The new version takes this step of the ramp.
    Ramp(usize),
    /// The new version serves and is judged.
    Watch,
    /// It is decided; the other version is let go.
    Drain,
    /// Over.
    Done,
}

impl Phase {
    /// A word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Ramp(_) => "ramp",
            Self::Watch => "watch",
            Self::Drain => "drain",
            Self::Done => "done",
        }
    }
}

/// A phase that was gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// Which.
    pub phase: Phase,
    /// When it began.
    pub began: Duration,
    /// How long it took; `None`: it goes on.
    pub lasted: Option<Duration>,
}

/// Something worth telling that happened on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: Duration,
    /// What, in words.
    pub text: String,
}

/// A backend that was blamed in the version's stead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blamed {
    /// Its address.
    pub backend: Arc<str>,
    /// What it showed, in words.
    pub why: String,
}

/// What a version did, to be held beside the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionFigures {
    /// Attempts.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// The share of failures: a 95 % interval.
    pub failed_share: (f64, f64),
    /// Times to the response head.
    pub percentiles: Percentiles,
    /// Attempts that had waited for a response head for [long](super::LONG_WAIT) at the last look.
    #[serde(default)]
    pub waiting: u64,
}

impl VersionFigures {
    fn new(requests: u64, failed: u64, percentiles: Percentiles) -> Self {
        let failed_share = share_interval(failed, requests);
        Self { requests, failed, failed_share, percentiles, waiting: 0 }
    }
}

impl From<&Baseline> for VersionFigures {
    fn from(old: &Baseline) -> Self {
        Self::new(old.requests, old.failed, old.percentiles)
    }
}

impl From<&Figures> for VersionFigures {
    fn from(new: &Figures) -> Self {
        let percentiles = Percentiles::of(&new.latencies);
        Self::new(new.counts.requests, new.counts.failed, percentiles)
    }
}

/// The report of one swap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who asked for what.
    pub order: Order,
    /// When.
    pub asked_at: Duration,
    /// What was gone through.
    pub phases: Vec<PhaseRecord>,
    /// What the gate saw.
    pub gate: Vec<GateRow>,
    /// What copies of live requests showed, if any were made.
    #[serde(default)]
    pub shadow: Option<ShadowFigures>,
    /// The old version over the last `watch` before the switch.
    pub old: Option<VersionFigures>,
    /// The new version since the switch.
    pub new: Option<VersionFigures>,
    /// The tests as they stood at last.
    pub tests: Vec<TestReport>,
    /// Why latency was not judged, if it was not.
    pub latency_not_judged: Option<String>,
    /// Backends that were blamed.
    pub blamed: Vec<Blamed>,
    /// How the version that was let go was let go.
    pub drained: Option<Drained>,
    /// What else happened.
    pub notes: Vec<Note>,
    /// How it ended; `None`: it has not.
    pub outcome: Option<Outcome>,
    /// What is in doubt, if it is [undecided](Outcome::Undecided).
    #[serde(default)]
    pub doubt: Option<Doubt>,
    /// Why, in words.
    pub reason: String,
    /// Why its drain was not waited for, if it was not: another swap began, say. In words. Then
    /// nobody may take the version that was let go for idle.
    #[serde(default)]
    pub cut_short: Option<String>,
}

impl Report {
    /// That of a swap which begins.
    pub(super) fn new(order: Order, asked_at: Duration) -> Self {
        Self {
            order,
            asked_at,
            phases: Vec::new(),
            gate: Vec::new(),
            shadow: None,
            old: None,
            new: None,
            tests: Vec::new(),
            latency_not_judged: None,
            blamed: Vec::new(),
            drained: None,
            notes: Vec::new(),
            outcome: None,
            doubt: None,
            reason: String::new(),
            cut_short: None,
        }
    }

    /// With what `tidegate swap` exits, once that is decided. A new version that stayed, though only
    /// until the next swap began, is no success to build on.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        match (self.outcome?, &self.cut_short) {
            (Outcome::Kept | Outcome::Undecided, Some(_)) => Some(Outcome::Cancelled.exit_code()),
            (outcome, _) => Some(outcome.exit_code()),
        }
    }

    /// A phase begins, and with that the one before ends.
    pub(super) fn enter(&mut self, at: Duration, phase: Phase) {
        if let Some(last) = self.phases.last_mut().filter(|last| last.lasted.is_none()) {
            last.lasted = Some(at.saturating_sub(last.began));
        }
        let lasted = (phase == Phase::Done).then_some(Duration::ZERO);
        self.phases.push(PhaseRecord { phase, began: at, lasted });
    }

    pub(super) fn note(&mut self, at: Duration, text: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(Note { at, text });
        }
    }

    /// Takes what a verdict has to say.
    pub(super) fn judged(&mut self, verdict: &Verdict) {
        self.tests = verdict.tests();
        self.latency_not_judged = verdict.latency_not_judged().map(str::to_owned);
    }
}
