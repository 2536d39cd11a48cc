//! `tidegate status`: what the proxy knows of its backends, as a table or as it answers.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::{AdminOptions, client, fail, print};

/// Asks for the status and prints it.
pub(super) fn status(options: &AdminOptions, json: bool) -> ExitCode {
    let answer = match client::get(options, "/api/status") {
        Ok(answer) => answer,
        Err(error) => return fail(error),
    };
    if json {
        return print(&answer);
    }
    match serde_json::from_str(&answer) {
        Ok(status) => print(&table(&status)),
        Err(error) => fail(format!(
            "the admin API's answer is no JSON ({error}); is it tidegate that answers there?"
        )),
    }
}

/// Prints the version that serves a pool, for scripts.
pub(super) fn active(options: &AdminOptions, pool: &str) -> ExitCode {
    let answer = match client::get(options, "/api/status") {
        Ok(answer) => answer,
        Err(error) => return fail(error),
    };
    match active_of(&serde_json::from_str(&answer).unwrap_or_default(), pool) {
        Ok(version) => print(&format!("{version}\n")),
        Err(why) => fail(why),
    }
}

fn active_of<'a>(status: &'a Value, pool: &str) -> Result<&'a str, String> {
    let Some(facts) = status["pools"].get(pool) else {
        let known: Vec<&str> = entries(&status["pools"]).map(|(name, _)| name.as_str()).collect();
        return Err(format!("there is no pool `{pool}`; there are: {}", known.join(", ")));
    };
    match (facts["swaps"]["running"]["words"].as_str(), facts["active"].as_str()) {
        (Some(words), _) => Err(format!("{words}; wait for it, or `tidegate rollback {pool}`")),
        (None, Some(version)) if !version.is_empty() => Ok(version),
        (None, _) => Err(format!("pool `{pool}` has no versions")),
    }
}

/// Swaps that run, and pools where another version serves than the file wants.
fn write_swaps(out: &mut String, pools: &Value) {
    for (pool, facts) in entries(pools) {
        let swaps = &facts["swaps"];
        for words in [&swaps["running"]["words"], &swaps["override"]["words"]] {
            if words.is_string() {
                let _ = write!(out, "\n{pool}: {}\n", text(words));
            }
        }
    }
}

/// The whole answer for people. What a proxy of another version does not tell stays empty.
fn table(status: &Value) -> String {
    let mut out = format!(
        "tidegate {}, up {}, configuration {}\n\n",
        text(&status["version"]),
        duration(&status["uptime_seconds"]),
        text(&status["generation"]),
    );
    let mut listeners = Columns::new(["LISTENER", "ADDRESS", "TLS", "CONNECTIONS"]);
    for (name, listener) in entries(&status["listeners"]) {
        let addresses: Vec<String> =
            listener["addresses"].as_array().into_iter().flatten().map(text).collect();
        let tls = if listener["tls"] == true { "yes" } else { "no" };
        let connections = text(&listener["connections"]);
        listeners.row([name.clone(), addresses.join(" "), tls.to_owned(), connections]);
    }
    let mut backends =
        Columns::new(["POOL", "VERSION", "BACKEND", "STATE", "SINCE", "IN FLIGHT", "WHY"]);
    for (pool, version, share, address, backend) in all_backends(&status["pools"]) {
        let version = match (version.as_str(), share) {
            ("", _) => String::new(),
            (name, share) => format!("{name} {:.0}%", share * 100.0),
        };
        let backup = if backend["backup"] == true { " (backup)" } else { "" };
        backends.row([
            pool.clone(),
            version,
            format!("{address}{backup}"),
            text(&backend["state"]),
            duration(&backend["since_seconds"]),
            text(&backend["in_flight"]),
            text(&backend["reason"]) + &remarks(backend),
        ]);
    }
    for note in status["notes"].as_array().into_iter().flatten() {
        // Writing to a string cannot fail.
        let _ = write!(out, "{}\n\n", text(note));
    }
    listeners.write(&mut out);
    out.push('\n');
    backends.write(&mut out);
    write_swaps(&mut out, &status["pools"]);
    for (pool, facts) in entries(&status["pools"]) {
        for note in facts["notes"].as_array().into_iter().flatten() {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "\npool {pool}: {}", text(note));
        }
    }
    out
}

/// What else there is to say about a backend, behind the reason for its state.
fn remarks(backend: &Value) -> String {
    // The share of one that is out is the one that it will begin with.
    let is_in = matches!(backend["state"].as_str(), Some("healthy" | "checking"));
    let spared = backend["weight_ratio"].as_f64().filter(|ratio| is_in && *ratio < 1.0);
    let on_trial = backend["circuit_breaker"] == "half_open";
    let suspected = backend["suspected"] == true;
    let learned = backend["learned_keepalive_seconds"].as_f64();
    let remarks = [
        backend["now"].as_str().map(|_| format!("now: {}", text(&backend["now"]))),
        on_trial.then(|| "on trial".to_owned()),
        spared.map(|ratio| format!("{:.0}% of its share", ratio * 100.0)),
        suspected.then(|| "suspected, being checked".to_owned()),
        backend["finding"].as_str().map(|_| text(&backend["finding"])),
        learned.map(|seconds| format!("unused connections kept for {seconds} s, as learned")),
    ];
    remarks.into_iter().flatten().map(|remark| format!("; {remark}")).collect()
}

/// Pool, version, the version's share, address, and what there is to say about the backend.
fn all_backends(pools: &Value) -> impl Iterator<Item = (&String, &String, f64, &String, &Value)> {
    entries(pools).flat_map(|(pool, facts)| {
        entries(&facts["versions"]).flat_map(move |(version, facts)| {
            let share = facts["share"].as_f64().unwrap_or_default();
            entries(&facts["backends"])
                .map(move |(address, backend)| (pool, version, share, address, backend))
        })
    })
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// A single value on a single line: reasons may hold what a backend said.
fn text(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Seconds in at most two units.
fn duration(seconds: &Value) -> String {
    let Some(seconds) = seconds.as_f64() else { return "-".to_owned() };
    // A float that is too large for the type becomes its largest value.
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Aligned columns; one that is empty in every row is left out.
struct Columns<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Columns<N> {
    fn new(heads: [&str; N]) -> Self {
        Self { rows: vec![heads.map(str::to_owned)] }
    }

    fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    fn write(&self, out: &mut String) {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            let filled = self.rows.iter().skip(1).any(|row| !row[column].is_empty());
            cells.max().filter(|_| filled || self.rows.len() == 1)
        };
        let widths: [Option<usize>; N] = std::array::from_fn(width);
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                if let Some(width) = width {
                    // Writing to a string cannot fail.
                    let _ = write!(line, "{cell:width$}  ");
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn backend(state: &str, in_flight: u32, reason: &str) -> Value {
        json!({ "state": state, "since_seconds": 75.4, "reason": reason, "weight": 1,
                "backup": false, "in_flight": in_flight })
    }

    fn status(pool: Value) -> Value {
        json!({
            "version": "0.1.0", "generation": 3, "uptime_seconds": 90_061.0,
            "listeners": { "http": { "addresses": ["0.0.0.0:80"], "tls": false, "connections": 2 } },
            "pools": { "app": pool },
        })
    }

    #[test]
    fn a_plain_pool_has_no_column_for_versions() {
        let backends = json!({
            "10.0.0.1:80": backend("healthy", 12, "2 checks passed"),
            "10.0.0.2:80": backend("unhealthy", 0, "refused\nby \u{1b}[2Jpeer"),
        });
        let pool = json!({ "versions": { "": { "share": 1.0, "backends": backends } } });
        let expected = "\
tidegate 0.1.0, up 1d 1h, configuration 3

LISTENER  ADDRESS     TLS  CONNECTIONS
http      0.0.0.0:80  no   2

POOL  BACKEND      STATE      SINCE   IN FLIGHT  WHY
app   10.0.0.1:80  healthy    1m 15s  12         2 checks passed
app   10.0.0.2:80  unhealthy  1m 15s  0          refused by  [2Jpeer
";
        assert_eq!(table(&status(pool)), expected);
    }

    #[test]
    fn versions_are_shown_with_their_shares() {
        let set = |share: f64, address: &str| json!({ "share": share, "backends": { address: backend("healthy", 0, "ok") } });
        let pool = json!({ "versions": { "blue": set(0.95, "a:1"), "green": set(0.05, "b:1") } });
        let table = table(&status(pool));
        assert!(table.contains("app   blue 95%  a:1 "), "{table}");
        assert!(table.contains("app   green 5%  b:1 "), "{table}");
    }

    #[test]
    fn a_backend_in_slow_start_is_told_with_its_share() {
        let mut spared = backend("healthy", 0, "2 checks passed");
        spared["weight_ratio"] = json!(0.35);
        spared["circuit_breaker"] = json!("half_open");
        let pool = json!({ "versions": { "": { "share": 1.0, "backends": { "a:1": spared } } } });
        let table = table(&status(pool));
        assert!(table.contains("2 checks passed; on trial; 35% of its share"), "{table}");
    }

    #[test]
    fn who_is_out_has_no_share() {
        let mut ejected = backend("ejected", 0, "ejected for 10 s");
        ejected["weight_ratio"] = json!(0.05);
        assert_eq!(remarks(&ejected), "");
    }

    #[test]
    fn what_speaks_against_a_backend_is_told() {
        let mut backend = backend("healthy", 0, "2 checks passed");
        backend["suspected"] = json!(true);
        backend["finding"] = json!("would be ejected: it is slow");
        let pool = json!({ "versions": { "": { "share": 1.0, "backends": { "a:1": backend } } } });
        let table = table(&status(pool));
        let why = "2 checks passed; suspected, being checked; would be ejected: it is slow";
        assert!(table.contains(why), "{table}");
    }

    #[test]
    fn the_version_that_serves_is_told_unless_a_swap_runs() {
        let mut status = json!({ "pools": {
            "app": { "active": "" }, "shop": { "active": "blue", "swaps": { "running": null } },
        } });
        assert_eq!(active_of(&status, "shop"), Ok("blue"));
        assert!(active_of(&status, "app").unwrap_err().contains("no versions"));
        assert!(active_of(&status, "x").unwrap_err().contains("there are: app, shop"));
        status["pools"]["shop"]["swaps"]["running"] = json!({ "words": "swap 3 is at its gate" });
        assert!(active_of(&status, "shop").unwrap_err().starts_with("swap 3 is at its gate;"));
        let mut out = String::new();
        write_swaps(&mut out, &status["pools"]);
        assert_eq!(out, "\nshop: swap 3 is at its gate\n");
    }

    #[test]
    fn what_is_not_told_is_a_dash() {
        assert_eq!(table(&json!({})).lines().next(), Some("tidegate -, up -, configuration -"));
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, expected) in
            [(0.9, "0s"), (59.9, "59s"), (60.0, "1m 0s"), (7_260.0, "2h 1m"), (1e6, "11d 13h")]
        {
            assert_eq!(duration(&json!(seconds)), expected);
        }
    }
}
