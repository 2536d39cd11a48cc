//! What a version did lately, in cells of ten seconds: the yardstick for the version that follows.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latencies::{Latencies, Quantile};
use super::sample::Counts;

/// The shortest time of a cell.
const CELL: Duration = Duration::from_secs(10);

/// No more cells than this are kept; they get longer instead.
const CELLS: u32 = 60;

#[derive(Clone, Debug, Default)]
struct Cell {
    /// Which one it is, counted from the epoch of `now`.
    number: u128,
    counts: Counts,
    latencies: Latencies,
}

/// The outcomes and latencies of one version over the last while.
#[derive(Clone, Debug)]
pub struct History {
    cell: Duration,
    span: Duration,
    cells: VecDeque<Cell>,
}

impl History {
    /// An empty history that will reach back for `span` (`watch` of the pool).
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self { cell: CELL.max(span / CELLS), span, cells: VecDeque::new() }
    }

    /// How far it reaches back.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.span
    }

    /// From now on it reaches back for `span`; what it holds stays, as far as that reaches.
    pub fn set_span(&mut self, span: Duration) {
        let before = std::mem::replace(self, Self::new(span));
        for mut cell in before.cells {
            cell.number = cell.number * before.cell.as_millis() / self.cell.as_millis();
            match self.cells.back_mut().filter(|last| last.number == cell.number) {
                Some(last) => {
                    last.counts += cell.counts;
                    last.latencies.add(&cell.latencies);
                }
                None => self.cells.push_back(cell),
            }
        }
    }

    /// Adds what happened since the last call. `latencies` are those to the response head, of any
    /// attempt that got one.
    pub fn add(&mut self, now: Duration, counts: Counts, latencies: &Latencies) {
        let number = self.number(now);
        while self.cells.front().is_some_and(|cell| self.is_over(cell, number)) {
            self.cells.pop_front();
        }
        if self.cells.back().is_none_or(|cell| cell.number != number) {
            self.cells.push_back(Cell { number, ..Cell::default() });
        }
        if let Some(cell) = self.cells.back_mut() {
            cell.counts += counts;
            cell.latencies.add(latencies);
        }
    }

    /// The sum over the last `span`.
    #[must_use]
    pub fn sum(&self, now: Duration) -> Figures {
        let number = self.number(now);
        let mut figures = Figures::default();
        for cell in self.cells.iter().filter(|cell| !self.is_over(cell, number)) {
            figures.counts += cell.counts;
            figures.latencies.add(&cell.latencies);
        }
        figures
    }

    fn number(&self, now: Duration) -> u128 {
        now.as_millis() / self.cell.as_millis()
    }

    /// Whether a cell ended before the span that ends in the cell `number` begins.
    fn is_over(&self, cell: &Cell, number: u128) -> bool {
        (number - cell.number.min(number)) * self.cell.as_millis() > self.span.as_millis()
    }
}

/// Outcomes and latencies of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The outcomes.
    pub counts: Counts,
    /// Times to the response head.
    pub latencies: Latencies,
}

/// What is known of the old version when traffic moves: all that the tests need of it, as plain
/// numbers that survive a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Its attempts over the last `watch`.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that got a response head.
    pub timed: u64,
    /// What 95 % of its response heads came within, as an upper bound; `None` if too few came.
    pub p95_at_most: Option<Duration>,
    /// Its percentiles, for the report.
    pub percentiles: Percentiles,
}

impl Baseline {
    /// That of these figures.
    #[must_use]
    pub fn of(figures: &Figures) -> Self {
        Self {
            requests: figures.counts.requests,
            failed: figures.counts.failed,
            timed: figures.latencies.count(),
            p95_at_most: figures.latencies.quantile_at_most(0.95),
            percentiles: Percentiles::of(&figures.latencies),
        }
    }
}

/// Percentiles of the time to the response head, each with a 95 % interval; `None` without samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: Option<Quantile>,
    /// What 95 % were within.
    pub p95: Option<Quantile>,
    /// What 99 % were within.
    pub p99: Option<Quantile>,
}

impl Percentiles {
    /// Those of these latencies.
    #[must_use]
    pub fn of(latencies: &Latencies) -> Self {
        Self {
            p50: latencies.quantile(0.5),
            p95: latencies.quantile(0.95),
            p99: latencies.quantile(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn failing(failed: u64) -> Counts {
        Counts { requests: failed, failed, ..Counts::default() }
    }

    #[test]
    fn reaches_back_for_its_span_and_no_further() {
        let mut history = History::new(secs(60));
        for second in 0..300 {
            history.add(secs(second), failing(1), &Latencies::default());
        }
        let kept = history.sum(secs(299)).counts.failed;
        assert!((60..=70).contains(&kept), "{kept}");
        assert_eq!(history.sum(secs(1000)).counts.failed, 0, "silence makes it empty");
    }

    #[test]
    fn a_long_span_has_no_more_cells_than_a_short_one() {
        let mut history = History::new(secs(36_000));
        for minute in 0..1200 {
            history.add(secs(minute * 60), failing(1), &Latencies::default());
        }
        assert!(history.cells.len() <= 62, "{}", history.cells.len());
        assert!((600..=620).contains(&history.sum(secs(1199 * 60)).counts.failed));
    }

    #[test]
    fn another_span_forgets_nothing_that_it_reaches() {
        let mut history = History::new(secs(60));
        (0..60).for_each(|second| history.add(secs(second), failing(1), &Latencies::default()));
        history.set_span(secs(3600));
        assert_eq!((history.sum(secs(60)).counts.failed, history.cells.len()), (60, 1));
        history.add(secs(60), failing(1), &Latencies::default());
        assert_eq!(history.sum(secs(60)).counts.failed, 61);
        let mut shorter = History::new(secs(60));
        (0..60).for_each(|second| shorter.add(secs(second), failing(1), &Latencies::default()));
        shorter.set_span(secs(20));
        assert_eq!(shorter.sum(secs(59)).counts.failed, 30);
    }

    #[test]
    fn a_baseline_needs_some_latencies_to_say_what_is_slow() {
        let mut history = History::new(secs(60));
        let mut latencies = Latencies::default();
        (0..1000).for_each(|_| latencies.record(Duration::from_millis(20)));
        history.add(secs(1), failing(3), &latencies);
        let baseline = Baseline::of(&history.sum(secs(2)));
        assert_eq!((baseline.requests, baseline.failed, baseline.timed), (3, 3, 1000));
        let p95 = baseline.p95_at_most.unwrap();
        assert!(p95 >= Duration::from_millis(20) && p95 < Duration::from_millis(21), "{p95:?}");
        assert_eq!(Baseline::of(&Figures::default()), Baseline::default());
    }
}
