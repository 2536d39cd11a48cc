//! `tidegate swap`, `tidegate rollback` and `tidegate report`.

use std::env;
use std::process::ExitCode;
use std::thread::sleep;

use clap::Args;
use serde_json::{Value, json};

use super::wait::{
    LOOK, Until, WaitOptions, Waited, say, text, wait, wait_and_report, warn_of_unsaved,
};
use super::{AdminOptions, client, fail, print};

/// How often it is looked for a swap that takes the place of another.
const LOOKS: u32 = 10;

/// Arguments of `tidegate swap`.
#[derive(Debug, Args)]
pub(super) struct SwapArguments {
    /// The pool
    pool: String,
    /// Its version that is to serve
    version: String,
    #[command(flatten)]
    admin: AdminOptions,
    /// How far to wait
    #[arg(long, value_enum, default_value = "drained", conflicts_with = "no_wait")]
    until: Until,
    #[command(flatten)]
    wait: WaitOptions,
    /// Begin it, and do not wait
    #[arg(long)]
    no_wait: bool,
    /// Cancel a swap of the pool that runs, and begin this one
    #[arg(long)]
    replace: bool,
}

/// Arguments of `tidegate rollback`.
#[derive(Debug, Args)]
pub(super) struct RollbackArguments {
    /// The pool
    pool: String,
    #[command(flatten)]
    admin: AdminOptions,
    /// Without the health checks of the version before
    #[arg(long)]
    force: bool,
}

/// Begins a swap, waits for it and prints its report.
pub(super) fn swap(arguments: &SwapArguments) -> ExitCode {
    let SwapArguments { pool, version, admin, until, wait, no_wait, replace } = arguments;
    let path = format!("/api/pools/{}/swap", client::escape(pool));
    let body = json!({
        "version": version, "replace": replace, "asked_by": asked_by("tidegate swap"),
    });
    let answer = match ask(admin, &path, &body) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let Some(id) = answer["id"].as_u64() else {
        // There was nothing to do: what was asked for is so already.
        return print(&format!("{}\n", answer["words"].as_str().unwrap_or("done")));
    };
    if *no_wait {
        warn_of_unsaved(&answer);
        return print(&format!("swap {id} of pool {pool} to {version} has begun\n"));
    }
    ExitCode::from(wait_and_report(admin, id, *until, wait))
}

/// Goes back to the version before, waits until it serves and prints the report.
pub(super) fn rollback(arguments: &RollbackArguments) -> ExitCode {
    let RollbackArguments { pool, admin, force } = arguments;
    let path = format!("/api/pools/{}/rollback", client::escape(pool));
    let body = json!({ "force": force, "asked_by": asked_by("tidegate rollback") });
    let answer = match ask(admin, &path, &body) {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let Some(id) = answer["id"].as_u64() else {
        return print(&format!("{}\n", answer["words"].as_str().unwrap_or("done")));
    };
    follow_back(admin, id)
}

/// Waits for a swap that is rolled back, or goes back, and tells whether that came to pass.
fn follow_back(admin: &AdminOptions, mut id: u64) -> ExitCode {
    loop {
        let report = match wait(admin, id, Until::Verdict, &WaitOptions { timeout: None }) {
            Ok(Waited::Over(report) | Waited::TimedOut(report)) => report,
            Err(error) => return fail(error),
        };
        print(text(&report));
        if is_back(&report) {
            return ExitCode::SUCCESS;
        }
        // Somebody may have seen to it that there is no waiting for checks. What takes the place of a
        // swap begins when that one is over and written down.
        let mut looks = (0..LOOKS).map(|_| {
            sleep(LOOK);
            on_its_way(admin, &report)
        });
        let Some(next) = looks.find_map(|next| next) else { return ExitCode::FAILURE };
        say(&format!("swap {next} goes there in its place"));
        id = next;
    }
}

/// Whether that swap was rolled back or given up, or a swap to the version before was made.
fn is_back(report: &Value) -> bool {
    let ends = match report["back"] == true {
        true => ["kept", "undecided"],
        false => ["rolled_back", "cancelled"],
    };
    ends.contains(&report["outcome"].as_str().unwrap_or_default())
}

/// Another swap to where this one was to go.
fn on_its_way(admin: &AdminOptions, report: &Value) -> Option<u64> {
    let status: Value = serde_json::from_str(&client::get(admin, "/api/status").ok()?).ok()?;
    let last = status["pools"].get(report["pool"].as_str()?)?["swaps"]["last"].as_u64()?;
    let later = client::get(admin, &format!("/api/reports/{last}")).ok()?;
    let later: Value = serde_json::from_str(&later).ok()?;
    (later["id"] != report["id"] && later["to"] == report["to"]).then_some(last)
}

/// Prints one report, or a line for each.
pub(super) fn report(admin: &AdminOptions, id: Option<u64>, json: bool) -> ExitCode {
    let path = id.map_or_else(|| "/api/reports".to_owned(), |id| format!("/api/reports/{id}"));
    let answer = match client::get(admin, &path) {
        Ok(answer) => answer,
        Err(error) => return fail(error),
    };
    if json {
        return print(&answer);
    }
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    if id.is_some() {
        return print(text(&answer));
    }
    match answer["reports"].as_array().map(Vec::as_slice) {
        None | Some([]) => print("no swap has been asked for yet\n"),
        Some(reports) => print(&reports.iter().map(line).collect::<String>()),
    }
}

fn line(report: &Value) -> String {
    // Its first line is its title.
    let title = text(report).lines().next().unwrap_or_default();
    let asked = text(report).lines().find_map(|line| line.trim().strip_prefix("asked by "));
    format!("{title} (asked by {})\n", asked.unwrap_or("?"))
}

fn ask(admin: &AdminOptions, path: &str, body: &Value) -> Result<Value, ExitCode> {
    match client::post(admin, path, body) {
        Ok(answer) => Ok(serde_json::from_str(&answer).unwrap_or_default()),
        Err(error) => {
            let is_refused = matches!(error, client::ClientError::Refused { .. });
            let code = fail(error);
            if is_refused {
                say("nothing was changed");
            }
            Err(code)
        }
    }
}

/// Who asks, as the report has it.
fn asked_by(command: &str) -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| env::var(name).ok());
    let user = user.filter(|user| !user.is_empty());
    user.map_or_else(|| format!("`{command}`"), |user| format!("`{command}` by {user}"))
}
