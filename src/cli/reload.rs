//! `tidegate reload`: what SIGHUP does, with the outcome told.

use std::io::{self, Write};
use std::process::ExitCode;

use http::Method;
use serde_json::Value;

use super::client::{self, ClientError};
use super::{AdminOptions, fail, print};

/// Asks for a reload, and waits until the configuration is in force or refused.
pub(super) fn reload(options: &AdminOptions) -> ExitCode {
    let answer = match client::ask(options, Method::POST, "/api/reload") {
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
    print(&outcome(&report))
}

fn outcome(report: &Value) -> String {
    let number = report["generation"].as_u64().map(|number| format!(" {number}"));
    let mut out = format!("configuration{} is in force", number.unwrap_or_default());
    match strings(&report["changes"]).collect::<Vec<_>>().as_slice() {
        [] => out.push_str("; it changes nothing"),
        changes => changes.iter().for_each(|change| {
            out.push_str("\n  ");
            out.push_str(change);
        }),
    }
    out.push('\n');
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
    fn a_reload_without_changes_says_so() {
        let report = json!({ "generation": 4, "changes": [], "warnings": [] });
        assert_eq!(outcome(&report), "configuration 4 is in force; it changes nothing\n");
    }
}
