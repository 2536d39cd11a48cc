//! Waiting for a swap: how it goes on stderr, what it came to for whoever called.

use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use http::StatusCode;
use serde_json::Value;

use super::client::{self, ClientError};
use super::{AdminOptions, fail, print};

/// Between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// Without news, something is said all the same after this.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// A proxy that is being restarted is asked again for so long.
const AWAY: Duration = Duration::from_secs(15);

/// The wait ran out; what was waited for goes on.
pub(super) const TIMED_OUT: u8 = 7;

/// How far a swap is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Until {
    /// The new version takes all requests, but for a `control`
    Switched,
    /// It is decided which version stays
    Verdict,
    /// The version that was let go is idle and safe to stop; tunnels that are kept are named
    Drained,
}

/// How a swap is waited for.
#[derive(Debug, Clone, Args)]
pub(super) struct WaitOptions {
    /// Wait no longer than this (90s, 10m); the swap goes on
    #[arg(long, value_name = "DURATION", value_parser = crate::config::parse_duration)]
    pub(super) timeout: Option<Duration>,
}

/// What a wait came to.
#[derive(Debug)]
pub(super) enum Waited {
    /// As far as was asked: the report.
    Over(Value),
    /// The time ran out: the report as it stands.
    TimedOut(Value),
}

/// Waits, and prints the report. Gives the code to exit with.
pub(super) fn wait_and_report(
    admin: &AdminOptions,
    id: u64,
    until: Until,
    options: &WaitOptions,
) -> u8 {
    match wait(admin, id, until, options) {
        Ok(Waited::Over(report)) => {
            print(text(&report));
            let stayed = ["kept", "undecided"].contains(&report["outcome"].as_str().unwrap_or(""));
            if let Some(why) = report["cut_short"].as_str().filter(|_| stayed) {
                say(&format!(
                    "it did not stay for long: {why}; `tidegate status` shows what serves"
                ));
            }
            // A swap that was switched and is not decided yet is as it should be.
            report["exit_code"].as_u64().map_or(0, |code| u8::try_from(code).unwrap_or(1))
        }
        Ok(Waited::TimedOut(report)) => {
            print(text(&report));
            say(&format!(
                "the wait is over, the swap goes on: `tidegate report {id}` shows how, \
                 `tidegate rollback {}` ends it",
                report["pool"].as_str().unwrap_or("POOL")
            ));
            TIMED_OUT
        }
        Err(error) => {
            fail(error);
            say(&format!("swap {id} is not affected by that: `tidegate report {id}` shows it"));
            1
        }
    }
}

/// Waits for a swap, and tells on stderr how it goes.
pub(super) fn wait(
    admin: &AdminOptions,
    id: u64,
    until: Until,
    options: &WaitOptions,
) -> Result<Waited, ClientError> {
    let began = Instant::now();
    let mut progress = Progress::new(began);
    loop {
        let report = fetch(admin, id)?;
        progress.tell(&report, Instant::now());
        if is_reached(&report, until) {
            return Ok(Waited::Over(report));
        }
        let left = options.timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Waited::TimedOut(report));
        }
        sleep(left.map_or(LOOK, |left| left.min(LOOK)));
    }
}

/// The report as it stands. A proxy that does not answer is given some time.
fn fetch(admin: &AdminOptions, id: u64) -> Result<Value, ClientError> {
    let began = Instant::now();
    loop {
        match client::get(admin, &format!("/api/reports/{id}")) {
            // Of another shape it tells of no end, and is asked for again.
            Ok(answer) => return Ok(serde_json::from_str(&answer).unwrap_or_default()),
            Err(error) if is_away(&error) && began.elapsed() < AWAY => sleep(LOOK),
            Err(error) => return Err(error),
        }
    }
}

/// Whether a proxy that is being restarted may be behind this: it is gone, it went in the middle of
/// its answer, or it is about to go.
fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Unusable { .. } => true,
        ClientError::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
        _ => false,
    }
}

fn is_reached(report: &Value, until: Until) -> bool {
    let decided = report["outcome"].is_string();
    match until {
        Until::Switched => decided || phases(report).any(|(name, _)| name == "watch"),
        Until::Verdict => decided,
        Until::Drained => decided && report["phase"] == "done",
    }
}

fn phases(report: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let phases = report["phases"].as_array().into_iter().flatten();
    phases.filter_map(|phase| Some((phase["phase"].as_str()?, phase)))
}

/// The report as lines.
pub(super) fn text(report: &Value) -> &str {
    report["text"].as_str().unwrap_or_default()
}

/// Says so if a restart would not know of it.
pub(super) fn warn_of_unsaved(answer: &Value) {
    if let Some(words) = answer["unsaved"].as_str() {
        say(&format!("warning: {words}"));
    }
}

/// What was told so far.
struct Progress {
    unsaved: Value,
    notes: usize,
    line: String,
    failed: Option<u64>,
    told: Instant,
}

impl Progress {
    fn new(now: Instant) -> Self {
        Self { unsaved: Value::Null, notes: 0, line: String::new(), failed: None, told: now }
    }

    /// Says what is new: a step, a note, a failure; and now and then that it goes on.
    fn tell(&mut self, report: &Value, now: Instant) {
        if report["unsaved"] != self.unsaved {
            warn_of_unsaved(report);
            self.unsaved = report["unsaved"].clone();
        }
        let notes = report["notes"].as_array().map_or(&[][..], Vec::as_slice);
        for note in notes.iter().skip(self.notes) {
            say(note["text"].as_str().unwrap_or_default());
        }
        self.notes = self.notes.max(notes.len());
        let line = step(report);
        let failed = report["new"]["failed"].as_u64();
        let is_late = now.duration_since(self.told) >= SIGN_OF_LIFE;
        if line != self.line || failed != self.failed || is_late {
            say(&format!("{line}{}", figures(report)));
            (self.line, self.failed, self.told) = (line, failed, now);
        }
    }
}

/// Where the swap is.
fn step(report: &Value) -> String {
    let of = |key: &str| report[key].as_str().unwrap_or("?");
    let head = format!("{} to {}", of("pool"), of("to"));
    if let (Some(outcome), true) = (report["outcome"].as_str(), report["phase"] == "done") {
        return format!("{head}: {}", outcome.replace('_', " "));
    }
    let latest = phases(report).last();
    let phase = match latest {
        Some(("ramp", phase)) => format!("ramp step {}", phase["step"]),
        Some((name, _)) => name.to_owned(),
        None => "asked for".to_owned(),
    };
    format!("{head}: {phase}")
}

fn figures(report: &Value) -> String {
    let at_gate = report["phase"] == "gate";
    let rows = report["gate"].as_array().into_iter().flatten();
    match (report["new"]["requests"].as_u64(), report["new"]["failed"].as_u64()) {
        (Some(requests), Some(failed)) => {
            let waiting = match report["new"]["waiting"].as_u64() {
                None | Some(0) => String::new(),
                Some(waiting) => format!(", {waiting} wait for long"),
            };
            format!(", {requests} requests, {failed} failed{waiting}")
        }
        _ if at_gate => {
            let (mut passed, mut all) = (0, 0);
            rows.for_each(|row| {
                all += 1;
                passed += u32::from(row["passed"] == true);
            });
            match report["shadow"]["words"].as_str() {
                Some(words) => format!(", all checks passed, copied {words}"),
                None => format!(", {passed} of {all} checks passed"),
            }
        }
        _ => String::new(),
    }
}

/// A line on stderr.
pub(super) fn say(line: &str) {
    // The outcome matters more than what is told on the way.
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(phases: &[&str], outcome: Option<&str>) -> Value {
        let list: Vec<Value> = phases.iter().map(|phase| json!({ "phase": phase })).collect();
        json!({ "phases": list, "phase": phases.last(), "outcome": outcome })
    }

    #[test]
    fn a_proxy_that_stops_is_asked_again() {
        let refused = |status| ClientError::Refused { status, message: String::new() };
        assert!(is_away(&refused(StatusCode::SERVICE_UNAVAILABLE)));
        assert!(!is_away(&refused(StatusCode::NOT_FOUND)));
    }

    #[test]
    fn each_wait_ends_where_it_should() {
        use Until::{Drained, Switched, Verdict};
        let table: [(&[&str], Option<&str>, &[Until]); 6] = [
            (&["gate"], None, &[]),
            (&["gate", "ramp"], None, &[]),
            (&["gate", "ramp", "watch"], None, &[Switched]),
            (&["gate", "watch", "drain"], Some("kept"), &[Switched, Verdict]),
            (&["gate", "watch", "drain", "done"], Some("kept"), &[Switched, Verdict, Drained]),
            (&["gate", "done"], Some("refused"), &[Switched, Verdict, Drained]),
        ];
        for (phases, outcome, reached) in table {
            let report = report(phases, outcome);
            for until in [Switched, Verdict, Drained] {
                assert_eq!(is_reached(&report, until), reached.contains(&until), "{phases:?}");
            }
        }
    }

    #[test]
    fn progress_names_the_step_and_the_figures() {
        let report = json!({
            "pool": "shop", "to": "green", "phase": "ramp", "outcome": null,
            "phases": [{ "phase": "gate" }, { "phase": "ramp", "step": 2 }],
            "new": { "requests": 120, "failed": 1 },
        });
        let line = format!("{}{}", step(&report), figures(&report));
        assert_eq!(line, "shop to green: ramp step 2, 120 requests, 1 failed");
        let hung = json!({ "new": { "requests": 23, "failed": 0, "waiting": 60 } });
        assert_eq!(figures(&hung), ", 23 requests, 0 failed, 60 wait for long");
    }

    #[test]
    fn at_the_gate_progress_counts_checks() {
        let report = json!({
            "pool": "shop", "to": "green", "phase": "gate", "outcome": null, "new": null,
            "phases": [{ "phase": "gate" }], "gate": [{ "passed": true }, { "passed": false }],
        });
        let line = format!("{}{}", step(&report), figures(&report));
        assert_eq!(line, "shop to green: gate, 1 of 2 checks passed");
        let copying = json!({
            "phase": "gate", "shadow": { "words": "5% of the GET requests for 10 s: ..." },
        });
        let words = ", all checks passed, copied 5% of the GET requests for 10 s: ...";
        assert_eq!(figures(&copying), words);
    }
}
