//! The gate: what every backend of a new version must pass before it gets a request.
//!
//! One kind of check follows the other, each on all backends at once: there is no use in smoke
//! requests to a backend that does not pass its probe. Probes are repeated until the time is over,
//! since a version that is starting fails them; what comes after was already up, and has few tries.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::{Check, Checked, Command};
use super::plan::Plan;
use super::words::Words;

/// Tries of everything but probes.
const TRIES: u32 = 3;

/// One line of the gate's table: a check of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRow {
    /// Its address.
    pub backend: Arc<str>,
    /// What was asked.
    pub check: Check,
    /// How often.
    pub tries: u32,
    /// Passes in a row, at the end.
    pub passes: u32,
    /// Whether that is enough.
    pub passed: bool,
    /// What the last failure was.
    pub last_error: Option<String>,
}

#[derive(Clone, Debug)]
struct Row {
    row: GateRow,
    /// An answer is on its way.
    asked: bool,
    /// When to ask next.
    due: Duration,
}

/// What the gate has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It is still at work.
    Open,
    /// All have passed all.
    Passed,
    /// The new version must not serve, in words.
    Refused(String),
}

/// A gate at work.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    round: u32,
    backends: Vec<Arc<str>>,
    checks: Vec<Check>,
    needed: u32,
    pause: Duration,
    began: Duration,
    timeout: Duration,
    rows: Vec<Row>,
    refused: Option<String>,
}

impl Gate {
    /// A gate for these backends, to be told apart from earlier ones by its round.
    pub(super) fn new(now: Duration, round: u32, plan: &Plan, backends: Vec<Arc<str>>) -> Self {
        let smoke = (0..plan.smoke).map(Check::Smoke);
        let version = plan.expect_version.then_some(Check::Version);
        let warm_up = plan.warm_up.then_some(Check::WarmUp);
        let probe = (plan.gate_checks > 0).then_some(Check::Probe);
        let checks = probe.into_iter().chain(smoke).chain(version).chain(warm_up);
        let refused = backends.is_empty().then(|| "it has no backend that may serve".to_owned());
        let mut gate = Self {
            round,
            backends,
            checks: checks.collect(),
            needed: plan.gate_checks,
            pause: plan.check_pause,
            began: now,
            timeout: plan.gate_timeout,
            rows: Vec::new(),
            refused,
        };
        gate.next_check(now);
        gate
    }

    pub(super) fn round(&self) -> u32 {
        self.round
    }

    pub(super) fn backends(&self) -> &[Arc<str>] {
        &self.backends
    }

    /// What it has seen so far.
    pub(super) fn table(&self) -> Vec<GateRow> {
        self.rows.iter().map(|row| row.row.clone()).collect()
    }

    /// What it has come to.
    pub(super) fn passage(&self) -> Passage {
        match &self.refused {
            Some(why) => Passage::Refused(why.clone()),
            None if self.checks.is_empty() && self.is_step_passed() => Passage::Passed,
            None => Passage::Open,
        }
    }

    /// Takes the answer to a check.
    pub(super) fn checked(&mut self, now: Duration, backend: &str, check: Check, outcome: Checked) {
        let needed = if check == Check::Probe { self.needed } else { 1 };
        let pause = self.pause;
        let is_it = |row: &&mut Row| &*row.row.backend == backend && row.row.check == check;
        let Some(Row { row, asked, due }) =
            self.rows.iter_mut().filter(|row| row.asked).find(is_it)
        else {
            return;
        };
        *asked = false;
        *due = now + pause;
        row.tries += 1;
        let refused = match outcome {
            Checked::Passed => {
                row.passes += 1;
                row.passed = row.passes >= needed;
                None
            }
            Checked::Failed(error) => {
                row.passes = 0;
                row.last_error = Some(error);
                (check != Check::Probe && row.tries >= TRIES).then(|| refusal(row))
            }
            Checked::Refused(error) => {
                row.last_error = Some(error);
                Some(refusal(row))
            }
        };
        self.refused = self.refused.take().or(refused);
        if self.is_step_passed() {
            self.next_check(now);
        }
    }

    /// Asks what is due.
    pub(super) fn tick(&mut self, now: Duration) -> Vec<Command> {
        if self.passage() == Passage::Open && now.saturating_sub(self.began) >= self.timeout {
            self.refused = Some(self.too_late());
        }
        if self.passage() != Passage::Open {
            return Vec::new();
        }
        let mut commands = Vec::new();
        let due = |row: &&mut Row| !row.asked && !row.row.passed && row.due <= now;
        for Row { row, asked, .. } in self.rows.iter_mut().filter(due) {
            *asked = true;
            let (round, backend) = (self.round, Arc::clone(&row.backend));
            commands.push(Command::Check { round, backend, check: row.check });
        }
        commands
    }

    fn is_step_passed(&self) -> bool {
        self.rows.iter().all(|row| row.row.passed)
    }

    fn next_check(&mut self, now: Duration) {
        if self.checks.is_empty() {
            return;
        }
        let check = self.checks.remove(0);
        for backend in &self.backends {
            let row = GateRow {
                backend: Arc::clone(backend),
                check,
                tries: 0,
                passes: 0,
                passed: false,
                last_error: None,
            };
            self.rows.push(Row { row, asked: false, due: now });
        }
    }

    fn too_late(&self) -> String {
        let waiting = self.rows.iter().map(|row| &row.row).filter(|row| !row.passed);
        let missing: Vec<String> = waiting
            .map(|row| match &row.last_error {
                Some(error) => format!("{} {}: {error}", row.backend, row.check),
                None => format!("{} {}: no answer", row.backend, row.check),
            })
            .collect();
        format!("not ready within {}: {}", Words(self.timeout), missing.join("; "))
    }
}

fn refusal(row: &GateRow) -> String {
    let error = row.last_error.as_deref().unwrap_or_default();
    format!("{} does not pass its {}: {error}", row.backend, row.check)
}
