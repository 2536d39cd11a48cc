//! Is a new version fit to serve? Pure: time (as the time since the process started), samples and
//! the answers of probes are arguments.
//!
//! [`Verdict`] judges a version by its traffic: two tests ([`Measure`]) whose evidence may be looked
//! at all the time, beside a [`Baseline`] that comes from the old version's [`History`], and beside
//! the old version itself as a control wherever it still takes a share.

mod concurrent;
mod evidence;
mod history;
mod latencies;
mod rules;
mod sample;
mod statistics;
mod trial;
mod verdict;
mod words;

#[cfg(test)]
mod tests;

pub use history::{Baseline, Figures, History, Percentiles};
pub use latencies::{BUCKETS, Latencies, Quantile, bucket, bucket_end};
pub use rules::Rules;
pub use sample::{BackendSample, Counts, Measure, Tally};
pub use verdict::{Fault, Finding, TestReport, Verdict};
