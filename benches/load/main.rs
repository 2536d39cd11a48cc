//! A load test for users: `cargo bench --bench load -- --help`.
//!
//! It loads any URL, or, with nothing to prepare, a Tidegate that it starts in front of replicas of
//! its own. In an open loop requests are due at a fixed rate, whether or not the answers keep up,
//! and their latency counts from that moment: who would have had to wait is counted as waiting
//! (otherwise a stall shows as one slow request, which is known as coordinated omission). In a
//! closed loop every connection asks again as soon as it was answered, which finds the capacity.
//!
//! The load comes from one thread. That is enough for some 50,000 requests a second; where it is
//! not, the generator is what is measured, so look at the processor.

mod arguments;
mod builtin;
mod lane;
mod load;
mod measured;
mod pace;
mod report;
mod target;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use arguments::Arguments;
use builtin::BuiltIn;
use report::Row;
use target::{Protocol, Target};

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The URL is none, or none for this.
    #[error("{url}: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What to do.
        reason: String,
    },
    /// Something on the way to a connection cannot be set up.
    #[error("{0}: {1}")]
    Setup(&'static str, String),
    /// The proxy that was to be loaded does not come up.
    #[error("tidegate does not start; it says:\n{0}")]
    Proxy(String),
    /// The file for the result cannot be written: seen before the load.
    #[error("{0}: {1}")]
    Json(String, std::io::Error),
    /// The result cannot be written there: seen after the load.
    #[error("the result cannot be written to {0}: {1}")]
    Result(String, std::io::Error),
}

impl LoadError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Result(..) => ExitCode::FAILURE,
            _ => ExitCode::from(2),
        }
    }
}

/// A line on stderr; that nobody reads it is no reason to end.
pub fn say(line: &dyn fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn main() -> ExitCode {
    if let Some(error) = builtin::become_proxy() {
        say(&error);
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    if let Some(name) = arguments.name_of_another_bench() {
        say(&format_args!("load: left out, since {name} names another bench, and is no URL"));
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format_args!("error: {error}"));
            error.exit_code()
        }
    }
}

/// Whether each load was answered at all.
fn run(arguments: &Arguments) -> Result<bool, LoadError> {
    arguments.check()?;
    if let Some(path) = &arguments.json {
        // Now, and not when all is measured.
        report::try_json(path)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| LoadError::Setup("no runtime", error.to_string()))?;
    let interrupted = {
        let _context = runtime.enter();
        interrupted().map_err(|error| LoadError::Setup("no signals", error.to_string()))?
    };
    let built_in = match arguments.url {
        Some(_) => None,
        None => Some(BuiltIn::start(arguments)?),
    };
    let targets = match (&arguments.url, &built_in) {
        (Some(url), _) => vec![Target::of_url(url, arguments)?],
        (None, Some(built_in)) => built_in.targets(arguments)?,
        (None, None) => Vec::new(),
    };
    let mut rows = Vec::new();
    for target in targets {
        let (name, plan) = (target.name(), arguments.plan(target.protocol));
        say(&format_args!("{name}: {plan}"));
        let streams = plan.streams;
        let measured = runtime.block_on(load::run(plan, target, interrupted.clone()))?;
        rows.push(Row { name, streams, measured });
        if *interrupted.borrow() {
            say(&"interrupted: this is what came until then");
            break;
        }
    }
    // With it go all connections; the proxy would wait for them at its end.
    drop(runtime);
    report::write(arguments, &rows)?;
    Ok(rows.iter().all(|row| row.measured.answered() > 0))
}

/// Turns true at the first signal that asks us to end, so that what was started is ended and what
/// was measured is told; the second ends us at once.
fn interrupted() -> std::io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if sender.send_replace(true) {
                    std::process::exit(128 + kind.as_raw_value());
                }
            }
        });
    }
    Ok(receiver)
}
