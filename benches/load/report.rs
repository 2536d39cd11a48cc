//! The result, for people and for programs.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::LoadError;
use crate::arguments::Arguments;
use crate::measured::{Failure, Measured, millis};
use crate::target::Protocol;

/// One load.
pub struct Row {
    /// What was loaded.
    pub name: String,
    /// Requests at a time on one connection.
    pub streams: u32,
    /// What came out.
    pub measured: Measured,
}

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// The rows as a table.
fn table(rows: &[Row]) -> String {
    let mut text = format!("{:22} {:>10} {:>11} {:>9}", "", "answers", "requests/s", "MiB/s");
    for (name, _) in QUANTILES {
        let _ = write!(text, " {:>10}", format!("{name} ms"));
    }
    text.push_str(" errors\n");
    for Row { name, measured, .. } in rows {
        let mib = measured.bytes_a_second() / 1_048_576.0;
        let _ = write!(
            text,
            "{name:22} {:>10} {:>11.0} {mib:>9.1}",
            measured.answered(),
            measured.rate()
        );
        for (_, quantile) in QUANTILES {
            let latency = latency_us(measured, quantile)
                .map_or("-".to_owned(), |us| format!("{:.2}", millis(us)));
            let _ = write!(text, " {latency:>10}");
        }
        let errors: Vec<String> =
            measured.failures.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let errors = if !errors.is_empty() {
            errors.join(", ")
        } else if measured.answered() > 0 {
            "none".to_owned()
        } else if measured.interrupted.is_some() {
            "none, but it was interrupted before an answer counted".to_owned()
        } else {
            // The rate is too low for the time.
            "none, but no request was due either: a longer -d helps".to_owned()
        };
        let _ = writeln!(text, " {errors}");
    }
    text.push_str(&notes(rows));
    text
}

/// What there is to say below the table.
fn notes(rows: &[Row]) -> String {
    let mut text = String::new();
    for Row { name, measured, .. } in rows {
        if measured.unusual() > 0 {
            let statuses = measured.statuses();
            let statuses: Vec<String> =
                statuses.iter().map(|(status, count)| format!("{count} status {status}")).collect();
            let _ = writeln!(text, "{name}: answers: {}", statuses.join(", "));
        }
        if measured.is_redirected() {
            let to = measured.redirect.as_ref().map_or_else(String::new, |to| {
                format!(", the first to {}", String::from_utf8_lossy(to.as_bytes()))
            });
            let _ = writeln!(text, "{name}: most answers are redirects{to}; none is followed");
        }
        if let Some(waiting @ 1..) = measured.interrupted {
            let _ =
                writeln!(text, "{name}: {waiting} requests were due and not sent when it ended");
        }
        for (kind, why) in &measured.first_errors {
            let _ = writeln!(text, "{name}: {kind}: {why}");
        }
    }
    if rows.iter().any(|row| row.measured.failures.contains_key(&Failure::Certificate)) {
        text.push_str("To believe any certificate, give -k.\n");
    }
    text
}

/// Looks whether the result can be written there.
pub fn try_json(path: &Path) -> Result<(), LoadError> {
    if path == Path::new("-") {
        return Ok(());
    }
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map(drop).map_err(|error| LoadError::Json(path.display().to_string(), error))
}

/// Writes the rows wherever they are wanted. The file comes first: who reads stdout may end early.
pub fn write(arguments: &Arguments, rows: &[Row]) -> Result<(), LoadError> {
    let Some(path) = &arguments.json else { return print(&table(rows)) };
    let json = format!("{:#}\n", json(arguments, rows));
    if path == Path::new("-") {
        return print(&json);
    }
    let written = std::fs::write(path, json)
        .map_err(|error| LoadError::Result(path.display().to_string(), error));
    print(&table(rows)).and(written)
}

/// A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<(), LoadError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(LoadError::Result("stdout".to_owned(), error))
        }
        _ => Ok(()),
    }
}

/// The rows as JSON.
fn json(arguments: &Arguments, rows: &[Row]) -> Value {
    let loads: Vec<Value> = rows.iter().map(load).collect();
    let plan = arguments.plan(Protocol::Http1);
    json!({
        "url": arguments.url,
        "loop": if plan.rate.is_some() { "open" } else { "closed" },
        "rate": plan.rate,
        "connections": plan.connections,
        "keepalive": plan.keepalive,
        "warm_up_seconds": plan.warm_up.as_secs_f64(),
        "seconds": plan.duration.as_secs_f64(),
        "timeout_seconds": plan.timeout.as_secs_f64(),
        "loads": loads,
    })
}

/// A quantile of the latencies, unless nothing was answered.
fn latency_us(measured: &Measured, quantile: f64) -> Option<u64> {
    (!measured.latency.is_empty()).then(|| measured.latency.value_at_quantile(quantile))
}

fn load(Row { name, streams, measured }: &Row) -> Value {
    let latency: serde_json::Map<String, Value> = QUANTILES
        .iter()
        .map(|&(name, quantile)| (name.to_owned(), json!(latency_us(measured, quantile))))
        .collect();
    let errors: serde_json::Map<String, Value> =
        measured.failures.iter().map(|(kind, count)| (kind.to_string(), json!(count))).collect();
    let statuses: serde_json::Map<String, Value> = measured
        .statuses()
        .into_iter()
        .map(|(status, count)| (status.to_string(), json!(count)))
        .collect();
    let first_errors: serde_json::Map<String, Value> =
        measured.first_errors.iter().map(|(kind, why)| (kind.to_string(), json!(why))).collect();
    json!({
        "name": name,
        "streams": streams,
        "measured_seconds": measured.span.as_secs_f64(),
        "interrupted": measured.interrupted.is_some(),
        "waiting_when_interrupted": measured.interrupted,
        "answers": measured.answered(),
        "statuses": statuses,
        "requests_per_second": measured.rate(),
        "bytes": measured.bytes,
        "latency_us": latency,
        "mean_us": (!measured.latency.is_empty()).then(|| measured.latency.mean()),
        "errors": errors,
        "first_errors": first_errors,
    })
}
