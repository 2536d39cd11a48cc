//! What a row showed: its figures, and whether they are as they should be.

use std::time::Duration;

use crate::load::Sample;

/// One row of the table.
#[derive(Default)]
pub struct Row {
    pub requests: usize,
    pub failed: usize,
    pub slowest: Duration,
    pub p99: Duration,
    /// From the fault to the first change in the status, to being out, and from the end of the
    /// fault to being back.
    pub noticed: Option<Duration>,
    pub out: Option<Duration>,
    pub back: Option<Duration>,
    /// What the machine was in the way: the latest that a request was sent, and how long the program
    /// stood ready in the worst quarter of a second.
    pub busy: Duration,
    /// What else is worth telling.
    pub notes: Vec<String>,
    /// What is not as it should be.
    pub missed: Vec<String>,
}

impl Row {
    /// The figures of a load, during which the program stood ready without a processor for so long.
    pub fn of(samples: &[Sample], starved: Duration) -> Row {
        Row {
            requests: samples.len(),
            failed: failures(samples).count(),
            slowest: samples.iter().map(|sample| sample.took).max().unwrap_or_default(),
            p99: percentile(samples, 99),
            busy: starved + samples.iter().map(|sample| sample.late).max().unwrap_or_default(),
            ..Row::default()
        }
    }

    /// Demands something.
    pub fn must(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.missed.push(what.into());
        }
    }

    /// Demands that no more than so many requests failed.
    pub fn at_most_failed(&mut self, most: usize, samples: &[Sample]) {
        let kinds = kinds(samples);
        self.must(self.failed <= most, format!("{} failed, not {most}: {kinds}", self.failed));
    }

    /// Demands a time, and allows as much more as the machine was in the way.
    pub fn within(&mut self, what: &str, took: Duration, most: Duration) {
        let message = format!("{what} took {}, not {}", millis(took), millis(most));
        self.must(took <= most + self.busy, message);
    }
}

/// Prints a row, under the heading of [`heading`].
pub fn print(name: &str, row: &Row) {
    let time = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), millis);
    println!(
        "| {name:<34} | {:>6} | {:>6} | {:>9} | {:>8} | {:>9} | {:>9} | {:>9} | {:>7} |",
        row.requests,
        row.failed,
        millis(row.slowest),
        millis(row.p99),
        time(row.noticed),
        time(row.out),
        time(row.back),
        millis(row.busy),
    );
    row.notes.iter().for_each(|note| println!("|   {note}"));
    row.missed.iter().for_each(|missed| println!("|   MISSED: {missed}"));
}

/// What stands above the rows.
pub fn heading() {
    println!(
        "| {:<34} | {:>6} | {:>6} | {:>9} | {:>8} | {:>9} | {:>9} | {:>9} | {:>7} |",
        "fault", "asked", "failed", "slowest", "p99", "noticed", "out", "back", "busy"
    );
}

/// Those that failed.
pub fn failures(samples: &[Sample]) -> impl Iterator<Item = &Sample> {
    samples.iter().filter(|sample| sample.outcome.is_err())
}

/// Of all samples, failed ones too.
pub fn percentile(samples: &[Sample], percent: usize) -> Duration {
    let mut times: Vec<Duration> = samples.iter().map(|sample| sample.took).collect();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Those that were due in this time.
pub fn between(samples: &[Sample], from: Duration, to: Duration) -> Vec<Sample> {
    samples.iter().filter(|sample| sample.due >= from && sample.due < to).cloned().collect()
}

/// Kinds of failures with their counts.
fn kinds(samples: &[Sample]) -> String {
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    for error in samples.iter().filter_map(|sample| sample.outcome.as_ref().err()) {
        *kinds.entry(error).or_default() += 1;
    }
    format!("{kinds:?}")
}

/// As people read it.
pub fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}
