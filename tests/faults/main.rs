//! Faults of backends, with real processes: a `tidegate`, backends that fall ill in every way, and a
//! load that comes whether or not it is answered. Each row prints its figures and says what is not
//! as it should be.
//!
//! `cargo test --test faults` runs all rows in their short form, one after another;
//! `cargo test --test faults -- hangs` those with this word in their name, and
//! `TIDEGATE_FAULTS=full cargo test --test faults` with the times by which the figures are published.
//! `TIDEGATE_FAULTS_PROGRAM` names another binary of the program than the one just built.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../process/program.rs"]
#[allow(dead_code, reason = "the faults use their own part of it")]
mod program;

mod backend;
mod blue_green;
mod connection;
mod crowd;
mod form;
mod load;
mod machine;
mod one_sick;
mod replica;
mod report;
mod restarts;
mod site;
mod swaps;
mod whole_pool;

use std::process::ExitCode;

use form::Form;
use one_sick::Fault;
use report::Row;
use whole_pool::Story;

fn main() -> ExitCode {
    if let Ok(told) = std::env::var(backend::VARIABLE) {
        return if backend::run(&told).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    // What is no name is meant for the usual test harness.
    let words: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let wanted = |name: &&str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let full = std::env::var("TIDEGATE_FAULTS").is_ok_and(|form| form == "full");
    let form = if full { Form::full() } else { Form::short() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    report::heading();
    let mut missed = 0;
    let mut tell = |name: &str, row: Row| {
        report::print(name, &row);
        missed += row.missed.len();
    };
    for fault in Fault::ALL.into_iter().filter(|fault| wanted(&fault.name())) {
        tell(fault.name(), runtime.block_on(one_sick::run(fault, &form)));
    }
    for story in Story::ALL.into_iter().filter(|story| wanted(&story.name())) {
        tell(story.name(), runtime.block_on(story.run(&form)));
    }
    for story in swaps::Story::ALL.into_iter().filter(|story| wanted(&story.name())) {
        tell(story.name(), runtime.block_on(story.run(&form)));
    }
    for phase in restarts::Phase::ALL.into_iter().filter(|phase| wanted(&phase.name())) {
        tell(phase.name(), runtime.block_on(phase.run()));
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
