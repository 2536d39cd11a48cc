//! What the page shows of swaps: who serves, the one that runs, those before.

use serde_json::Value;

use super::{Page, Text};
use crate::control::status::PoolStatus;
use crate::state::Event;
use crate::telemetry::date;

/// Reports that are shown.
const REPORTS: usize = 10;

impl Page {
    /// Which version takes how much, and what is going on about that.
    pub(super) fn versions(&mut self, pool: &PoolStatus, reports: &[Value]) {
        self.0.push_str("<div class=\"versions\">");
        for (name, version) in &pool.versions {
            let share = version.share;
            self.raw(format_args!(
                "<div><b>{0}</b> <meter value=\"{share:.3}\" aria-label=\"share of {0}\"></meter> \
                 {1:.0}% <small>{2}</small></div>",
                Text(name),
                share * 100.0,
                match (version.held.requests, version.held.tunnels) {
                    (0, 0) => "holds nothing".to_owned(),
                    (requests, 0) => format!("{requests} in flight"),
                    (requests, tunnels) => format!("{requests} in flight, {tunnels} tunnels"),
                }
            ));
        }
        self.0.push_str("</div>\n");
        let Some(swaps) = &pool.swaps else { return };
        if let Some(why) = &swaps.override_ {
            self.raw(format_args!("<p><b class=\"override\">{}</b></p>\n", Text(&why.words)));
        }
        if let Some(running) = &swaps.running {
            self.raw(format_args!(
                "<div class=\"swap\"><b class=\"running\">{}</b>\n",
                Text(&running.words)
            ));
            if let Some(report) = reports.iter().find(|report| report["id"] == running.id.0) {
                self.figures(report);
            }
            self.0.push_str("</div>\n");
        }
    }

    /// Both versions of a swap side by side; at the gate, what has passed.
    fn figures(&mut self, report: &Value) {
        let sides = [("from", "old"), ("to", "new")];
        let known = sides.iter().filter(|(_, side)| report[side].is_object());
        let rows: Vec<_> = known.collect();
        if rows.is_empty() {
            self.gate(report);
            return;
        }
        self.0.push_str("<table><tr><th>Version<th>Requests<th>Failed<th>p50<th>p95<th>p99\n");
        for (name, side) in rows {
            let figures = &report[side];
            self.raw(format_args!(
                "<tr><td>{}<td>{}<td>{}",
                Text(report[name].as_str().unwrap_or_default()),
                figures["requests"],
                figures["failed"]
            ));
            for quantile in ["p50", "p95", "p99"] {
                match figures[quantile]["seconds"].as_f64() {
                    Some(seconds) => self.raw(format_args!("<td>{:.1} ms", seconds * 1000.0)),
                    None => self.0.push_str("<td>-"),
                }
            }
            self.0.push('\n');
        }
        self.0.push_str("</table>\n");
    }

    fn gate(&mut self, report: &Value) {
        self.0.push_str("<table><tr><th>Backend<th>Check<th>Tries<th>Result\n");
        for row in report["gate"].as_array().into_iter().flatten() {
            let of = |key: &str| row[key].as_str().unwrap_or_default();
            let result = if row["passed"] == true { "passed" } else { of("last_error") };
            let (backend, check) = (of("backend"), of("check"));
            self.raw(format_args!(
                "<tr><td>{}<td>{}<td>{}<td>{}\n",
                Text(backend),
                Text(check),
                row["tries"],
                Text(result)
            ));
        }
        self.0.push_str("</table>\n");
        if let Some(words) = report["shadow"]["words"].as_str() {
            self.raw(format_args!("<p>Copied {}\n", Text(words)));
        }
    }

    /// The last swaps, each to be opened.
    pub(super) fn reports(&mut self, reports: &[Value]) {
        if reports.is_empty() {
            return;
        }
        self.0.push_str("<section><h2>Swaps</h2>\n");
        for report in reports.iter().take(REPORTS) {
            let of = |key: &str| report[key].as_str().unwrap_or_default();
            let outcome = report["outcome"].as_str().unwrap_or("running");
            self.raw(format_args!(
                "<details id=\"report-{id}\"><summary>{id}. {pool}: {from} to {to} \
                 <b class=\"{class}\">{words}</b> <small>{when}</small></summary><pre>",
                id = report["id"],
                pool = Text(of("pool")),
                from = Text(of("from")),
                to = Text(of("to")),
                class = Text(outcome),
                words = Text(&outcome.replace('_', " ")),
                when = asked_at(report),
            ));
            for line in of("text").lines() {
                self.raw(format_args!("{}\n", Text(line)));
            }
            self.0.push_str("</pre></details>\n");
        }
        self.0.push_str("</section>\n");
    }

    /// What happened lately, the latest first.
    pub(super) fn events(&mut self, events: &[std::sync::Arc<Event>]) {
        self.0.push_str("<section><h2>Events</h2>\n<table><tr><th>When (UTC)<th>What\n");
        for event in events.iter().rev() {
            let at = event.at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            // To the second: `2024-02-29T23:59:58.123Z`.
            let when = date(at).replace('T', " ");
            let when = when.split('.').next().unwrap_or_default();
            let words = event.what.words();
            // Of an error in many lines the first tells what it is about.
            let words = words.lines().next().unwrap_or_default();
            self.raw(format_args!("<tr><td><small>{}</small><td>{}\n", Text(when), Text(words)));
        }
        self.0.push_str("</table></section>\n");
    }
}

fn asked_at(report: &Value) -> String {
    let seconds = report["asked_at"].as_f64().unwrap_or_default();
    let since_epoch = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let when = date(since_epoch).replace('T', " ");
    format!("{} UTC", when.split('.').next().unwrap_or_default())
}
