//! The report as text.

use std::fmt::{self, Write};
use std::time::Duration;

use super::drain::Drained;
use super::gate::GateRow;
use super::history::Percentiles;
use super::latencies::Quantile;
use super::message::{Check, Outcome};
use super::report::{Phase, Report, VersionFigures};
use super::table::Table;
use super::verdict::TestReport;
use super::words::{Percent, Words, plural};

impl Report {
    /// The report as lines for people. `date` writes a time since the Unix epoch.
    #[must_use]
    pub fn text(&self, date: impl Fn(Duration) -> String) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text, &date);
        text
    }

    fn write(&self, f: &mut String, date: &dyn Fn(Duration) -> String) -> fmt::Result {
        let order = &self.order;
        let result = self.outcome.map_or("running", |outcome| outcome.label()).replace('_', " ");
        let stayed = matches!(self.outcome, Some(Outcome::Kept | Outcome::Undecided));
        let cut = if stayed && self.cut_short.is_some() { ", and then left again" } else { "" };
        writeln!(
            f,
            "report {}: {} from {} to {}: {result}{cut}",
            order.id, order.pool, order.from, order.to
        )?;
        if !self.reason.is_empty() {
            writeln!(f, "  {}", self.reason)?;
        }
        if let Some(why) = &self.cut_short {
            writeln!(f, "  its drain was not waited for: {why}")?;
        }
        writeln!(f, "  asked by {} at {}", order.asked_by, date(self.asked_at))?;
        self.write_phases(f)?;
        self.write_gate(f)?;
        if let Some(shadow) = &self.shadow {
            writeln!(f, "  copied {shadow}")?;
        }
        self.write_versions(f)?;
        for test in &self.tests {
            write_test(f, test)?;
        }
        if let Some(line) = &self.latency_not_judged {
            writeln!(f, "  {line}")?;
        }
        for blamed in &self.blamed {
            writeln!(f, "  taken out {}: {}", blamed.backend, blamed.why)?;
        }
        if let Some(drained) = &self.drained {
            self.write_drained(f, drained)?;
        }
        for note in &self.notes {
            writeln!(f, "  {} {}", date(note.at), note.text)?;
        }
        Ok(())
    }

    fn write_phases(&self, f: &mut String) -> fmt::Result {
        let phase = |record: &super::report::PhaseRecord| {
            let name = match record.phase {
                Phase::Ramp(step) => format!("ramp step {}", step + 1),
                phase => phase.label().to_owned(),
            };
            match record.lasted {
                Some(lasted) => format!("{name} {}", Words(lasted)),
                None => format!("{name} goes on"),
            }
        };
        let through = self.phases.iter().filter(|record| record.phase != Phase::Done);
        let phases: Vec<String> = through.map(phase).collect();
        writeln!(f, "  phases: {}", phases.join(", "))
    }

    fn write_gate(&self, f: &mut String) -> fmt::Result {
        let cells = |row: &GateRow| {
            let result = match (&row.last_error, row.passed) {
                (_, true) => "passed".to_owned(),
                (Some(error), false) => error.clone(),
                (None, false) => "not finished".to_owned(),
            };
            [row.backend.to_string(), row.check.to_string(), row.tries.to_string(), result]
        };
        write_table(f, ["backend", "check", "tries", "result"], self.gate.iter().map(cells))
    }

    fn write_versions(&self, f: &mut String) -> fmt::Result {
        let order = &self.order;
        let rows = [(&order.from, &self.old), (&order.to, &self.new)];
        let cells = |(name, figures): (&String, &VersionFigures)| {
            let VersionFigures { requests, failed, failed_share: (low, high), percentiles, .. } =
                figures;
            let Percentiles { p50, p95, p99 } = percentiles;
            let share = format!("{failed} ({} to {})", Percent(*low), Percent(*high));
            let share = if *requests == 0 { failed.to_string() } else { share };
            let [p50, p95, p99] = [p50, p95, p99].map(write_quantile);
            [name.clone(), requests.to_string(), share, p50, p95, p99]
        };
        let known = rows.into_iter().filter_map(|(name, figures)| Some((name, figures.as_ref()?)));
        let heads = ["version", "requests", "failed", "p50", "p95", "p99"];
        write_table(f, heads, known.map(cells))
    }

    fn write_drained(&self, f: &mut String, drained: &Drained) -> fmt::Result {
        let name = self.order.version(drained.side);
        let Drained { at_first, left, requests_cut, lasted, .. } = drained;
        let (requests, tunnels) =
            (plural(at_first.requests, "request"), plural(at_first.tunnels, "tunnel"));
        write!(f, "  {name} let go of {requests} and {tunnels} within {}", Words(*lasted))?;
        if *requests_cut > 0 {
            write!(f, ", {} cut", plural(*requests_cut, "request"))?;
        }
        if left.requests > 0 || left.tunnels > 0 {
            let (requests, tunnels) =
                (plural(left.requests, "request"), plural(left.tunnels, "tunnel"));
            write!(f, "; it still holds {requests} and {tunnels}")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probe => f.write_str("health check"),
            Self::Smoke(index) => write!(f, "smoke request {}", index + 1),
            Self::Version => f.write_str("version check"),
            Self::WarmUp => f.write_str("warm-up"),
        }
    }
}

fn write_test(f: &mut String, test: &TestReport) -> fmt::Result {
    let TestReport { n, bad, interval: (low, high), accepted, accepted_from, .. } = test;
    let name = test.measure.label();
    if let Some(why) = &test.not_judged {
        return writeln!(f, "  {name}: not judged: {why}");
    }
    write!(f, "  {name}: {bad} of {n} bad")?;
    if *n > 0 {
        write!(f, " ({} to {})", Percent(*low), Percent(*high))?;
    }
    let evidence = match test.evidence {
        evidence if evidence < 10.0 => format!("{evidence:.2}"),
        evidence => format!("{evidence:.0}"),
    };
    writeln!(
        f,
        ", {} accepted ({accepted_from}); evidence {evidence} of {:.0}",
        Percent(*accepted),
        test.threshold
    )
}

fn write_quantile(quantile: &Option<Quantile>) -> String {
    let Some(Quantile { value, low, high }) = quantile else { return "-".to_owned() };
    match high {
        Some(high) => format!("{} ({} to {})", Words(*value), Words(*low), Words(*high)),
        None => format!("{} (from {})", Words(*value), Words(*low)),
    }
}

/// Nothing without rows.
fn write_table<const N: usize>(
    f: &mut String,
    heads: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    let table = Table::new(heads, rows);
    if table.is_empty() { Ok(()) } else { write!(f, "{table}") }
}
