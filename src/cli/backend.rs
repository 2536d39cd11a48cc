//! `tidegate drain`, `undrain`, `disable` and `enable`: decisions about one backend by hand.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{self, ClientError};
use super::wait::TIMED_OUT;
use super::{BackendName, fail, print};

/// Between two looks at what is still in flight.
const LOOK: Duration = Duration::from_millis(200);

/// Drains a backend. With `wait` it is waited for, within a timeout if there is one.
pub(super) fn drain(
    name: &BackendName,
    close_tunnels: bool,
    wait: Option<Option<Duration>>,
) -> ExitCode {
    if let Err(error) = order(name, "drain", &json!({ "close_tunnels": close_tunnels })) {
        return fail(error);
    }
    let began = Instant::now();
    let Some(timeout) = wait else {
        return print(&format!("{} takes nothing new\n", words(name)));
    };
    loop {
        let held = match look(name) {
            Ok(Look::Held(held)) => held,
            Ok(Look::Other(state)) => {
                let words = words(name);
                return fail(format!("the drain was ended meanwhile: {words} is {state}"));
            }
            Err(error) => return fail(error),
        };
        if held.is_done(close_tunnels) {
            return print(&done(name, &held));
        }
        if timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
            let _ = writeln!(io::stderr(), "{}", late(name, &held));
            return ExitCode::from(TIMED_OUT);
        }
        std::thread::sleep(LOOK);
    }
}

/// Carries out another decision.
pub(super) fn decide(name: &BackendName, action: &str) -> ExitCode {
    match order(name, action, &json!({})) {
        Ok(report) => {
            let state = report["state"].as_str().unwrap_or("as it should be");
            let as_before = if report["changed"] == false { ", as before" } else { "" };
            print(&format!("{} is {state}{as_before}\n", words(name)))
        }
        Err(error) => fail(error),
    }
}

/// Gives an order, and tells on stderr what is to be said beside it.
fn order(name: &BackendName, action: &str, body: &Value) -> Result<Value, ClientError> {
    let path = format!("{}/{action}", path(name));
    let answer = client::post(&name.admin, &path, body)?;
    let report: Value = serde_json::from_str(&answer).unwrap_or(Value::Null);
    for note in report["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(io::stderr(), "warning: {note}");
    }
    Ok(report)
}

/// What a backend still has.
#[derive(Debug)]
struct Held {
    requests: u64,
    tunnels: u64,
}

enum Look {
    Held(Held),
    /// It is not being drained.
    Other(String),
}

fn look(name: &BackendName) -> Result<Look, ClientError> {
    let answer = client::get(&name.admin, &path(name))?;
    let status: Value = serde_json::from_str(&answer).unwrap_or(Value::Null);
    if status["state"] != "draining" {
        return Ok(Look::Other(status["state"].as_str().unwrap_or("gone").to_owned()));
    }
    let number = |key: &str| status[key].as_u64().unwrap_or_default();
    let tunnels = number("tunnels");
    Ok(Look::Held(Held { requests: number("in_flight").saturating_sub(tunnels), tunnels }))
}

impl Held {
    fn is_done(&self, close_tunnels: bool) -> bool {
        self.requests == 0 && (!close_tunnels || self.tunnels == 0)
    }
}

fn done(name: &BackendName, held: &Held) -> String {
    let words = words(name);
    match held.tunnels {
        0 => format!("{words} is drained, and safe to stop\n"),
        tunnels => {
            format!("{words} is drained; {} kept\n", count(tunnels, "tunnel is", "tunnels are"))
        }
    }
}

fn late(name: &BackendName, held: &Held) -> String {
    format!(
        "error: the time is up, and {} still has {} and {}; it stays drained, `tidegate undrain {} {}` \
         ends that",
        words(name),
        count(held.requests, "request", "requests"),
        count(held.tunnels, "tunnel", "tunnels"),
        name.pool,
        name.backend,
    )
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn words(name: &BackendName) -> String {
    format!("{} of pool {}", name.backend, name.pool)
}

fn path(name: &BackendName) -> String {
    format!("/api/pools/{}/backends/{}", client::escape(&name.pool), client::escape(&name.backend))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> BackendName {
        let admin = super::super::AdminOptions::default();
        BackendName { pool: "app".into(), backend: "[::1]:3001".into(), admin }
    }

    #[test]
    fn addresses_are_one_segment() {
        assert_eq!(path(&name()), "/api/pools/app/backends/%5B%3A%3A1%5D%3A3001");
    }

    #[test]
    fn tunnels_that_are_kept_are_named_and_not_waited_for() {
        let held = Held { requests: 0, tunnels: 2 };
        assert!(held.is_done(false) && !held.is_done(true));
        assert_eq!(done(&name(), &held), "[::1]:3001 of pool app is drained; 2 tunnels are kept\n");
    }

    #[test]
    fn a_drain_that_is_late_says_how_to_end_it() {
        let words = late(&name(), &Held { requests: 1, tunnels: 0 });
        assert!(words.contains("1 request and 0 tunnels"), "{words}");
        assert!(words.contains("tidegate undrain app [::1]:3001"), "{words}");
    }
}
