//! Is a new version fit to serve, and what follows? Pure: time (as the time since the process
//! started), samples and the answers of probes are arguments.
//!
//! [`Swap`] is the state machine of one swap: it is told what happened ([`Event`], [`Observation`])
//! and tells what to do ([`Command`]). [`Verdict`] judges a version by its traffic: two tests
//! ([`Measure`]) whose evidence may be looked at all the time, beside a [`Baseline`] that comes from
//! the old version's [`History`], and beside the old version itself as a control wherever it still
//! takes a share. [`Standing`] is which version serves and which is wanted.

mod concurrent;
mod drain;
mod evidence;
mod gate;
mod history;
mod json;
mod latencies;
mod message;
mod plan;
mod reload;
mod render;
mod report;
mod resume;
mod rules;
mod sample;
mod shadow;
mod standing;
mod statistics;
mod swap;
mod table;
mod transitions;
mod trial;
mod verdict;
mod waits;
mod watch;
mod words;

#[cfg(test)]
mod tests;

pub use drain::Drained;
pub use gate::GateRow;
pub use history::{Baseline, Figures, History, Percentiles};
pub use latencies::{BUCKETS, Latencies, Quantile, bucket, bucket_end};
pub use message::{
    Check, Checked, Command, Doubt, Event, Held, Milestone, Observation, Outcome, Reloaded, Side,
    Slow,
};
pub use plan::{Mode, Order, Plan, Shadow, Tunnels};
pub use report::{Blamed, Note, Phase, PhaseRecord, Report, VersionFigures};
pub use resume::Resume;
pub use rules::Rules;
pub use sample::{BackendSample, Counts, Measure, Tally};
pub use shadow::{Answered, Likeness, NoAnswer, ShadowFigures, ShadowTally};
pub use standing::{Cause, Override, Standing, Wish};
pub use swap::Swap;
pub use table::Table;
pub use verdict::{Fault, Finding, TestReport, Verdict};
pub use waits::LONG_WAIT;
