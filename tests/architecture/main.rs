//! The house rules, checked on the source: which room may use which, what stands in one place
//! only, and how long a file and a function may be.
//!
//! The source is read as tokens, so comments and doc links are free to name any room. Test code
//! (`#[cfg(test)]` and files of test modules) is free too: a test may need a whole house.

mod source;

use std::path::Path;

use source::{Kind, Offence, SourceFile, source_files};

/// Each room and the rooms that it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("app", &["*"]),
    ("cli", &["app", "certs", "config", "demo"]),
    ("demo", &["app", "certs", "config"]),
    ("config", &[]),
    ("certs", &[]),
    ("balance", &[]),
    ("health", &[]),
    ("deploy", &[]),
    ("framing", &[]),
    ("memory", &[]),
    ("state", &["balance", "health", "deploy", "certs"]),
    ("upstream", &["state", "framing"]),
    (
        "proxy",
        &["framing", "memory", "state", "health", "balance", "certs", "upstream", "telemetry"],
    ),
    (
        "control",
        &[
            "config",
            "certs",
            "balance",
            "memory",
            "state",
            "health",
            "deploy",
            "upstream",
            "telemetry",
        ],
    ),
    ("admin", &["state", "control", "telemetry"]),
    ("telemetry", &["state", "balance", "health"]),
];

/// Rooms that only compute: time and randomness are their arguments, and they touch nothing.
const PURE: &[&str] = &["balance", "health", "deploy", "certs", "config", "framing"];

/// What a pure room must not name, as the identifiers of a path.
const IMPURE: &[&[&str]] = &[
    &["tokio"],
    &["hyper"],
    &["Rng", "new"],
    &["Instant", "now"],
    &["SystemTime", "now"],
    &["std", "env"],
    &["std", "fs"],
    &["std", "net", "TcpStream"],
    &["std", "thread"],
];

const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 60;

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let mut offences = Vec::new();
    for file in source_files() {
        let Some((_, allowed)) = MAY_USE.iter().find(|(room, _)| *room == file.room) else {
            offences.push(file.offence(1, "a room that is not in the table of this test"));
            continue;
        };
        for (line, used) in file.rooms_used() {
            if used != file.room && !allowed.contains(&"*") && !allowed.contains(&used.as_str()) {
                offences.push(file.offence(line, format!("`{}` uses `{used}`", file.room)));
            }
        }
    }
    none(&offences);
}

#[test]
fn pure_rooms_touch_no_runtime_no_clock_and_no_randomness() {
    let mut offences = Vec::new();
    for file in source_files().iter().filter(|file| PURE.contains(&file.room.as_str())) {
        for path in IMPURE {
            let lines = file.find(path);
            offences.extend(lines.map(|line| file.offence(line, format!("`{}`", path.join("::")))));
        }
        for (index, line) in file.find_indexed(&["fastrand"]) {
            if file.path_after(index).is_some_and(|item| item != "Rng") {
                offences.push(file.offence(line, "the global generator of `fastrand`"));
            }
        }
    }
    none(&offences);
}

#[test]
fn configuration_is_read_in_config_only() {
    let mut offences = Vec::new();
    // What survives a restart is read by `control`, and some of it is what `deploy` computes with.
    for (word, homes) in [("toml", &["config"][..]), ("Deserialize", &["control", "deploy"])] {
        for file in source_files().iter().filter(|file| !homes.contains(&file.room.as_str())) {
            offences.extend(file.find(&[word]).map(|line| file.offence(line, word)));
        }
    }
    none(&offences);
}

#[test]
fn metrics_are_named_in_one_place() {
    let mut offences = Vec::new();
    for file in source_files().iter().filter(|file| !file.is_one_of(&["telemetry/metrics"])) {
        for token in &file.tokens {
            if let Kind::Literal(text) = &token.kind
                && text.starts_with("\"tidegate_")
            {
                offences.push(file.offence(token.line, text.as_str()));
            }
        }
    }
    none(&offences);
}

#[test]
fn failures_become_statuses_in_one_place() {
    // What the grammar of a message refuses has its status beside it, from the same RFC section.
    // Comparing with a status that a backend sent is not making one: ranges and numbers serve.
    let homes = ["proxy/error", "framing/violation"];
    let mut offences = Vec::new();
    let rooms = ["proxy", "framing"];
    let files = source_files();
    for file in files.iter().filter(|file| rooms.contains(&&*file.room) && !file.is_one_of(&homes))
    {
        for (index, line) in file.find_indexed(&["StatusCode"]) {
            let name = file.path_after(index).unwrap_or_default();
            if FAILURES.contains(&name) {
                offences.push(file.offence(line, format!("`StatusCode::{name}`")));
            }
        }
    }
    none(&offences);
}

/// The statuses of failures that a proxy may answer with by itself.
const FAILURES: &[&str] = &[
    "BAD_REQUEST",
    "UNAUTHORIZED",
    "FORBIDDEN",
    "NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "REQUEST_TIMEOUT",
    "LENGTH_REQUIRED",
    "PAYLOAD_TOO_LARGE",
    "URI_TOO_LONG",
    "EXPECTATION_FAILED",
    "MISDIRECTED_REQUEST",
    "TOO_MANY_REQUESTS",
    "REQUEST_HEADER_FIELDS_TOO_LARGE",
    "INTERNAL_SERVER_ERROR",
    "NOT_IMPLEMENTED",
    "BAD_GATEWAY",
    "SERVICE_UNAVAILABLE",
    "GATEWAY_TIMEOUT",
    "HTTP_VERSION_NOT_SUPPORTED",
    "LOOP_DETECTED",
];

#[test]
fn snapshots_are_built_in_one_place() {
    let mut offences = Vec::new();
    let homes = ["control/compile", "state/snapshot"];
    for file in source_files().iter().filter(|file| !file.is_one_of(&homes)) {
        for (index, line) in file.find_indexed(&["Snapshot"]) {
            if file.opens_literal(index) {
                offences.push(file.offence(line, "builds a `Snapshot`"));
            }
        }
    }
    none(&offences);
}

#[test]
fn files_and_functions_are_short() {
    let mut offences = Vec::new();
    for file in source_files() {
        if file.lines > MAX_FILE_LINES {
            offences.push(file.offence(1, format!("{} lines without tests", file.lines)));
        }
        for (name, line, lines) in &file.functions {
            if *lines > MAX_FUNCTION_LINES {
                offences.push(file.offence(*line, format!("`{name}` has {lines} lines")));
            }
        }
    }
    none(&offences);
}

#[test]
fn the_checks_find_what_they_look_for() {
    let file = SourceFile::read(
        Path::new("proxy/sample.rs"),
        r#"
        //! May name crate::config in a comment.
        use crate::{state::{Pool, config}, config};
        use super::super::{balance, control as c};
        /// And `"tidegate_x"` here.
        fn f() -> Snapshot { let s = state::Snapshot { a }; "tidegate_y" }
        #[cfg(test)]
        mod tests { use crate::admin; }
        "#,
    );
    let rooms: Vec<(usize, String)> = file.rooms_used();
    let expected = [(3, "state"), (3, "config"), (4, "balance"), (4, "control")];
    assert_eq!(rooms, expected.map(|(line, room)| (line, room.to_owned())));
    let built = file.find_indexed(&["Snapshot"]).filter(|&(at, _)| file.opens_literal(at)).count();
    assert_eq!(built, 1);
    assert_eq!(file.functions, [("f".to_owned(), 6, 1)]);
    assert_eq!(file.lines, 5, "the test module is not counted, the rest is");
    let literals =
        file.tokens.iter().filter(|token| matches!(token.kind, Kind::Literal(_))).count();
    assert_eq!(literals, 1, "documentation is not a literal");
}

fn none(offences: &[Offence]) {
    let list: Vec<String> = offences.iter().map(Offence::to_string).collect();
    assert!(list.is_empty(), "against the house rules:\n{}", list.join("\n"));
}
