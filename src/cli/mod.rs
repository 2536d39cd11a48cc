//! The command line: arguments in, exit codes out. Data goes to stdout, everything else to stderr.
//!
//! Commands that need a running proxy ask its admin API, as any other client would; nothing here
//! reaches into a process.

mod backend;
mod check;
mod client;
mod endpoint;
mod explain;
mod reload;
mod status;
mod swap;
mod wait;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::app::{self, Ended, Options};
use crate::{config, demo};

/// Usage errors, as `EX_USAGE` of sysexits.h: a code that no result uses.
const USAGE: u8 = 64;

/// A Layer-7 load balancer and health-checking reverse proxy.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT; SIGHUP reloads
    Run(ConfigFile),
    /// Try it: a proxy and three replicas of a small app on loopback, with nothing to prepare
    Demo {
        /// Added to the ports 8080 (http), 8443 (https) and 9900 (admin), should they be taken
        #[arg(long, value_name = "N", default_value_t = 0)]
        port_offset: u16,
    },
    /// Show everything that is wrong with a configuration; opens no socket, resolves no name
    #[command(after_help = CHECK_HELP)]
    Check(check::CheckArguments),
    /// Take in the changed configuration, as SIGHUP does, and tell the outcome
    Reload {
        #[command(flatten)]
        admin: AdminOptions,
        /// Wait for the swaps that it starts; exits as `tidegate swap` does
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        options: wait::WaitOptions,
    },
    /// Let another version of a pool serve: checked before, watched after, rolled back if it is bad
    #[command(after_help = SWAP_HELP)]
    Swap(swap::SwapArguments),
    /// Go back to the version before
    Rollback(swap::RollbackArguments),
    /// Show the report of a swap, or a line for each
    Report {
        /// Number of the swap
        id: Option<u64>,
        #[command(flatten)]
        admin: AdminOptions,
        /// Print what the admin API answers
        #[arg(long)]
        json: bool,
    },
    /// Tell why: the way that a request takes now, or what happened to a backend
    Explain {
        #[command(subcommand)]
        what: explain::What,
    },
    /// Show pools, versions and backends, and why each is as it is
    Status {
        #[command(flatten)]
        admin: AdminOptions,
        /// Print what the admin API answers
        #[arg(long)]
        json: bool,
        /// Print the version that serves this pool, and nothing else; fails while a swap of it runs
        #[arg(long, value_name = "POOL", conflicts_with = "json")]
        active: Option<String>,
    },
    /// Give a backend nothing new, and wait until it has finished what it has
    Drain {
        #[command(flatten)]
        backend: BackendName,
        /// Give up waiting after this long, such as 30s; the drain stays
        #[arg(long, value_name = "D", value_parser = config::parse_duration, conflicts_with = "no_wait")]
        timeout: Option<Duration>,
        /// Close its tunnels (WebSockets, event streams, gRPC streams) by and by, rather than keep them
        #[arg(long)]
        close_tunnels: bool,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
    },
    /// Take a drain back
    Undrain(BackendName),
    /// Give a backend nothing new, and do not probe it
    Disable(BackendName),
    /// Take a disabled backend back, as soon as its health check passes
    Enable(BackendName),
}

/// A backend of a running proxy.
#[derive(Debug, Args)]
struct BackendName {
    /// Its pool
    pool: String,
    /// Its address, as `tidegate status` has it
    backend: String,
    #[command(flatten)]
    admin: AdminOptions,
}

const CHECK_HELP: &str = "\
Exit codes:
  0  the configuration is valid; with --against-running: a reload would take it in
  1  it has errors, or a reload would refuse it
  2  with --exit-code: a reload would take it in, and it would change something";

const SWAP_HELP: &str = "\
Exit codes:
  0  the new version serves
  3  it was rolled back
  4  it was refused at the gate; the old version served all the time
  5  it serves, but there was too little traffic to judge it, or it leaves more requests
     waiting than it answers
  6  the swap was cancelled
  7  the wait timed out; the swap goes on
  1  anything else";

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
}

/// Where the admin API of the running proxy is.
#[derive(Debug, Default, Args)]
struct AdminOptions {
    /// Address of the admin API: http://HOST:PORT or unix:/PATH [default: http://127.0.0.1:9900]
    #[arg(long, value_name = "URL", env = "TIDEGATE_ADMIN")]
    admin: Option<String>,
    /// Look the address up in this configuration file
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// File that holds the admin token (or put the token itself into TIDEGATE_TOKEN)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match arguments.command {
        Command::Run(ConfigFile { config }) => run(config),
        Command::Demo { port_offset } => ended(demo::run(port_offset)),
        Command::Check(arguments) => check::check(&arguments),
        Command::Reload { admin, wait, options } => {
            reload::reload(&admin, wait.then_some(&options))
        }
        Command::Swap(arguments) => swap::swap(&arguments),
        Command::Rollback(arguments) => swap::rollback(&arguments),
        Command::Report { id, admin, json } => swap::report(&admin, id, json),
        Command::Explain { what } => explain::explain(&what),
        Command::Status { admin, json, active } => match active {
            Some(pool) => status::active(&admin, &pool),
            None => status::status(&admin, json),
        },
        Command::Drain { backend, timeout, close_tunnels, no_wait } => {
            backend::drain(&backend, close_tunnels, (!no_wait).then_some(timeout))
        }
        Command::Undrain(backend) => backend::decide(&backend, "undrain"),
        Command::Disable(backend) => backend::decide(&backend, "disable"),
        Command::Enable(backend) => backend::decide(&backend, "enable"),
    }
}

fn run(config_path: PathBuf) -> ExitCode {
    ended(app::run(Options { config_path, ..Options::default() }, |_| ()))
}

fn ended(result: Result<Ended, impl Display>) -> ExitCode {
    match result {
        Ok(Ended::Gracefully) => ExitCode::SUCCESS,
        // As a shell has it for a process that a signal ended.
        Ok(Ended::AtOnce(signal)) => {
            u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => fail(error),
    }
}

/// Prints help or what is wrong with the arguments. clap's own exit code would be 2.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is there to tell if it cannot be printed.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

/// Prints data. A reader that has seen enough (`| head`) is no error.
fn print(data: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(data.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(format!("cannot write to stdout: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints an error and gives the exit code for it. Findings about a configuration say by themselves
/// that they are errors.
fn fail(error: impl Display) -> ExitCode {
    let text = error.to_string();
    let mark = if text.starts_with("error: ") { "" } else { "error: " };
    let _ = writeln!(io::stderr(), "{mark}{}", text.trim_end());
    ExitCode::FAILURE
}
