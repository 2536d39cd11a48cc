//! The report as JSON: times in seconds, times of day as seconds since the Unix epoch, shares from
//! 0 to 1. What is kept on the disk and what the admin API answers is this form.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::drain::Drained;
use super::gate::GateRow;
use super::history::Percentiles;
use super::latencies::Quantile;
use super::message::{Doubt, Held};
use super::report::{Blamed, Note, Phase, PhaseRecord, Report, VersionFigures};
use super::shadow::{ShadowFigures, ShadowTally};
use super::verdict::TestReport;

impl Report {
    /// The report as JSON, with itself as text in the field `text`. `date` writes a time since the
    /// Unix epoch, for that text.
    #[must_use]
    pub fn json(&self, date: impl Fn(Duration) -> String) -> Value {
        let order = &self.order;
        let latest = self.phases.last().map(|record| record.phase);
        json!({
            "id": order.id,
            "pool": order.pool,
            "from": order.from,
            "to": order.to,
            "back": order.back,
            "asked_by": order.asked_by,
            "asked_at": seconds(self.asked_at),
            "phase": latest.map(Phase::label),
            "outcome": self.outcome.map(|outcome| outcome.label()),
            "doubt": self.doubt.map(Doubt::label),
            "exit_code": self.exit_code(),
            "cut_short": self.cut_short,
            "reason": self.reason,
            "phases": self.phases.iter().map(phase).collect::<Value>(),
            "gate": self.gate.iter().map(gate_row).collect::<Value>(),
            "shadow": self.shadow.as_ref().map(shadow),
            "old": self.old.as_ref().map(figures),
            "new": self.new.as_ref().map(figures),
            "tests": self.tests.iter().map(test).collect::<Value>(),
            "latency_not_judged": self.latency_not_judged,
            "blamed": self.blamed.iter().map(blamed).collect::<Value>(),
            "drained": self.drained.as_ref().map(|drained| drained_json(self, drained)),
            "notes": self.notes.iter().map(note).collect::<Value>(),
            "text": self.text(date),
        })
    }
}

fn seconds(time: Duration) -> f64 {
    // To the microsecond: more is noise, and hard to read.
    (time.as_secs_f64() * 1e6).round() / 1e6
}

fn phase(record: &PhaseRecord) -> Value {
    let step = match record.phase {
        Phase::Ramp(step) => Some(step + 1),
        Phase::Gate | Phase::Watch | Phase::Drain | Phase::Done => None,
    };
    json!({
        "phase": record.phase.label(),
        "step": step,
        "began": seconds(record.began),
        "seconds": record.lasted.map(seconds),
    })
}

fn gate_row(row: &GateRow) -> Value {
    json!({
        "backend": &*row.backend,
        "check": row.check.to_string(),
        "tries": row.tries,
        "passes": row.passes,
        "passed": row.passed,
        "last_error": row.last_error,
    })
}

fn shadow(shadow: &ShadowFigures) -> Value {
    let ShadowFigures { share, lasted, tally } = shadow;
    let ShadowTally { compared, differing, timed, slower, alone, skipped } = tally;
    json!({
        "share": share,
        "seconds": seconds(*lasted),
        "compared": compared,
        "differing": differing,
        "timed": timed,
        "slower": slower,
        "not_compared": alone,
        "not_copied": skipped,
        "words": shadow.to_string(),
    })
}

fn figures(figures: &VersionFigures) -> Value {
    let VersionFigures { requests, failed, failed_share: (low, high), percentiles, waiting } =
        figures;
    let Percentiles { p50, p95, p99 } = percentiles;
    let mut object = Map::new();
    object.insert("requests".to_owned(), (*requests).into());
    object.insert("failed".to_owned(), (*failed).into());
    object.insert("waiting".to_owned(), (*waiting).into());
    object.insert("failed_share".to_owned(), interval(*low, *high));
    for (name, quantile) in [("p50", p50), ("p95", p95), ("p99", p99)] {
        let quantile = quantile.as_ref().map(|Quantile { value, low, high }| {
            json!({
                "seconds": seconds(*value), "low": seconds(*low), "high": high.map(seconds),
            })
        });
        object.insert(name.to_owned(), quantile.unwrap_or(Value::Null));
    }
    Value::Object(object)
}

fn interval(low: f64, high: f64) -> Value {
    json!({ "low": low, "high": high })
}

fn test(test: &TestReport) -> Value {
    json!({
        "measure": test.measure.label(),
        "not_judged": test.not_judged,
        "samples": test.n,
        "bad": test.bad,
        "bad_share": interval(test.interval.0, test.interval.1),
        "accepted": test.accepted,
        "accepted_from": test.accepted_from,
        "evidence": test.evidence,
        "threshold": test.threshold,
    })
}

fn blamed(blamed: &Blamed) -> Value {
    json!({ "backend": &*blamed.backend, "why": blamed.why })
}

fn note(note: &Note) -> Value {
    json!({ "at": seconds(note.at), "text": note.text })
}

fn drained_json(report: &Report, drained: &Drained) -> Value {
    let version = report.order.version(drained.side);
    let held = |held: Held| json!({ "requests": held.requests, "tunnels": held.tunnels });
    json!({
        "version": version,
        "at_first": held(drained.at_first),
        "left": held(drained.left),
        "requests_cut": drained.requests_cut,
        "seconds": seconds(drained.lasted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::{Check, Order, Outcome};

    fn report() -> Report {
        let order = Order {
            id: 12,
            pool: "shop".into(),
            from: "blue".into(),
            to: "green".into(),
            back: false,
            asked_by: "a reload".into(),
            backends: vec!["127.0.0.1:5001".into()],
        };
        let mut report = Report::new(order, Duration::from_millis(1_700_000_000_500));
        report.enter(Duration::from_secs(1_700_000_000), Phase::Gate);
        report
    }

    #[test]
    fn a_report_that_goes_on_has_no_outcome() {
        let json = report().json(|_| String::new());
        assert_eq!((&json["id"], &json["phase"]), (&json!(12), &json!("gate")));
        assert_eq!((&json["outcome"], &json["exit_code"]), (&Value::Null, &Value::Null));
        assert_eq!(json["asked_at"], json!(1_700_000_000.5));
        assert!(json["text"].as_str().unwrap().starts_with("report 12: shop from blue to green"));
    }

    #[test]
    fn a_refusal_tells_what_each_backend_failed() {
        let mut report = report();
        report.outcome = Some(Outcome::Refused);
        report.gate.push(GateRow {
            backend: "127.0.0.1:5001".into(),
            check: Check::Smoke(0),
            tries: 3,
            passes: 0,
            passed: false,
            last_error: Some("answered 500".into()),
        });
        let json = report.json(|_| String::new());
        assert_eq!((&json["outcome"], &json["exit_code"]), (&json!("refused"), &json!(4)));
        let row = json!({
            "backend": "127.0.0.1:5001", "check": "smoke request 1", "tries": 3, "passes": 0,
            "passed": false, "last_error": "answered 500",
        });
        assert_eq!(json["gate"], json!([row]));
    }
}
