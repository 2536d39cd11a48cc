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
        let Some(running) = &swaps.running else {
            if let Some(why) = &swaps.override_ {
                self.raw(format_args!("<p><b class=\"override\">{}</b></p>\n", Text(&why.words)));
            }
            return;
        };
        self.raw(format_args!(
            "<div class=\"swap\"><b class=\"running\">{}</b>\n",
            Text(&running.words)
        ));
        if let Some(report) = reports.iter().find(|report| report["id"] == running.id.0) {
            self.phases(report);
            self.figures(report);
            self.tests(report);
        }
        self.0.push_str("</div>\n");
    }

    /// What was gone through, where it is, what is to come.
    fn phases(&mut self, report: &Value) {
        self.0.push_str("<ol class=\"phases\">");
        let gone_through = report["phases"].as_array().map_or(&[][..], Vec::as_slice);
        for phase in gone_through {
            let name = phase["phase"].as_str().unwrap_or_default();
            let step = phase["step"].as_u64().map(|step| format!(" {step}")).unwrap_or_default();
            match phase["seconds"].as_f64() {
                Some(seconds) => {
                    self.raw(format_args!(
                        "<li>{}{step} <small>{seconds:.1} s</small>",
                        Text(name)
                    ));
                }
                None => self.raw(format_args!("<li aria-current=\"step\">{}{step}", Text(name))),
            }
        }
        let latest = gone_through.last().and_then(|phase| phase["phase"].as_str());
        let to_come: &[&str] = match latest {
            Some("gate") => &["switch", "watch", "drain"],
            Some("ramp") => &["watch", "drain"],
            Some("watch") => &["drain"],
            _ => &[],
        };
        to_come.iter().for_each(|name| self.raw(format_args!("<li class=\"to-come\">{name}")));
        self.0.push_str("</ol>\n");
    }

    /// How much speaks against the new version: each test beside what it takes for a verdict.
    fn tests(&mut self, report: &Value) {
        for test in report["tests"].as_array().into_iter().flatten() {
            let measure = Text(test["measure"].as_str().unwrap_or_default());
            if let Some(why) = test["not_judged"].as_str() {
                self.raw(format_args!(
                    "<p><span>{measure}</span> <small>not judged: {}</small></p>\n",
                    Text(why)
                ));
                continue;
            }
            let of = |key: &str| test[key].as_f64().unwrap_or_default();
            // It grows by factors.
            let strength = of("evidence").max(1.0).ln() / of("threshold").max(2.0).ln();
            self.raw(format_args!(
                "<p><span>{measure}</span> <meter value=\"{:.3}\" low=\"0.3\" high=\"0.7\" optimum=\"0\" \
                 aria-label=\"evidence against the new version\"></meter> <small>{} of {} bad, {}% \
                 accepted</small></p>\n",
                strength.min(1.0),
                test["bad"],
                test["samples"],
                (of("accepted") * 1000.0).round() / 10.0,
            ));
        }
        if let Some(why) = report["latency_not_judged"].as_str() {
            self.raw(format_args!("<p><small>{}</small></p>\n", Text(why)));
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
            let (class, result) = match (row["passed"] == true, row["passes"].as_u64()) {
                (true, _) => ("healthy", "passed".to_owned()),
                (false, Some(passes @ 1..)) => ("checking", format!("{passes} in a row")),
                (false, _) if row["last_error"].is_string() => {
                    ("unhealthy", of("last_error").to_owned())
                }
                (false, _) => ("checking", "asked".to_owned()),
            };
            self.raw(format_args!(
                "<tr><td>{}<td>{}<td>{}<td class=\"{class}\">{}\n",
                Text(of("backend")),
                Text(of("check")),
                row["tries"],
                Text(&result)
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
