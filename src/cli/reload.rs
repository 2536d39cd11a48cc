//! `tidegate reload`: what SIGHUP does, with the outcome told.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::{self, ClientError};
use super::wait::{Until, WaitOptions, wait_and_report};
use super::{AdminOptions, fail, print};

/// As many changes are told one by one.
const CHANGES: usize = 20;

/// Asks for a reload, and waits until the configuration is in force or refused; with `wait` also for
/// the swaps that it started.
pub(super) fn reload(options: &AdminOptions, wait: Option<&WaitOptions>) -> ExitCode {
    let answer = match client::post(options, "/api/reload", &json!({})) {
        Ok(answer) => answer,
        Err(error @ ClientError::Refused { .. }) => {
            let code = fail(error);
            let _ = writeln!(io::stderr(), "\nnothing was changed: what was in force stays so");
            return code;
        }
        Err(error) => return fail(error),
    };
    // An answer of another shape is still an answer of success.
    let report = serde_json::from_str(&answer).unwrap_or(Value::Null);
    for warning in strings(&report["warnings"]) {
        // The outcome matters more than what was to be said beside it.
        let _ = writeln!(io::stderr(), "{}\n", warning.trim_end());
    }
    let code = print(&outcome(&report));
    let Some(wait) = wait else { return code };
    let swaps = report["swaps"].as_array().into_iter().flatten();
    let ids = swaps.filter_map(|swap| swap["id"].as_u64());
    let codes: Vec<u8> = ids.map(|id| wait_and_report(options, id, Until::Drained, wait)).collect();
    match codes.into_iter().find(|code| *code != 0) {
        Some(first) => ExitCode::from(first),
        None => code,
    }
}

fn outcome(report: &Value) -> String {
    let number = report["generation"].as_u64().map(|number| format!(" {number}"));
    let mut out = format!("configuration{} is in force", number.unwrap_or_default());
    match strings(&report["changes"]).collect::<Vec<_>>().as_slice() {
        [] => out.push_str("; it changes nothing"),
        changes => {
            for change in changes.iter().take(CHANGES) {
                out.push_str("\n  ");
                out.push_str(change);
            }
            if let more @ 1.. = changes.len().saturating_sub(CHANGES) {
                out.push_str(&format!("\n  and {more} more"));
            }
        }
    }
    out.push('\n');
    for swap in report["swaps"].as_array().into_iter().flatten() {
        let of = |key: &str| swap[key].as_str().unwrap_or("?");
        let (pool, from, to) = (of("pool"), of("from"), of("to"));
        out.push_str(&format!("pool {pool}: swap {} from {from} to {to} has begun\n", swap["id"]));
    }
    for words in strings(&report["overrides"]) {
        out.push_str(words);
        out.push('\n');
    }
    out
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_outcome_names_every_change() {
        let report = json!({ "generation": 3, "changes": ["pool a: added b:1", "routes changed"] });
        let expected = "configuration 3 is in force\n  pool a: added b:1\n  routes changed\n";
        assert_eq!(outcome(&report), expected);
    }

    #[test]
    fn of_very_many_changes_the_first_are_told() {
        let changes: Vec<String> = (0..23).map(|pool| format!("pool {pool} changed")).collect();
        let told = outcome(&json!({ "generation": 3, "changes": changes }));
        assert_eq!(told.lines().count(), 1 + 20 + 1);
        assert!(told.ends_with("  pool 19 changed\n  and 3 more\n"), "{told}");
    }

    #[test]
    fn swaps_and_overrides_are_told() {
        let report = json!({
            "generation": 5, "changes": [],
            "swaps": [{ "id": 12, "pool": "shop", "from": "blue", "to": "green" }],
            "overrides": ["file wants red, blue serves"],
        });
        let expected = "configuration 5 is in force; it changes nothing\n\
                        pool shop: swap 12 from blue to green has begun\n\
                        file wants red, blue serves\n";
        assert_eq!(outcome(&report), expected);
    }

    #[test]
    fn a_reload_without_changes_says_so() {
        let report = json!({ "generation": 4, "changes": [], "warnings": [] });
        assert_eq!(outcome(&report), "configuration 4 is in force; it changes nothing\n");
    }
}
