//! `tidegate check`: everything that is wrong with a configuration, at once and in place; and what it
//! would change of what runs.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, path};

use clap::Args;
use serde_json::{Value, json};

use super::{AdminOptions, client, fail, print};
use crate::app::{self, StartError};
use crate::config::{Errors, render_all};

/// A reload would change something, if that was asked.
const CHANGES: u8 = 2;

/// Arguments of `tidegate check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
    /// Ask the running tidegate what a reload would do if its file was this one: listeners kept,
    /// backends added and removed, swaps that would begin, certificates near their end, ...
    #[arg(long)]
    against_running: bool,
    /// Exit with 2 if that would change anything
    #[arg(long, requires = "against_running")]
    exit_code: bool,
    /// Print what the admin API answers
    #[arg(long, requires = "against_running")]
    json: bool,
    /// Address of the admin API: http://HOST:PORT or unix:/PATH [default: as FILE has it]
    #[arg(long, value_name = "URL", env = "TIDEGATE_ADMIN")]
    admin: Option<String>,
    /// File that holds the admin token (or put the token itself into TIDEGATE_TOKEN)
    #[arg(long, value_name = "FILE", requires = "against_running")]
    token_file: Option<PathBuf>,
}

/// Checks the file, and then asks the running proxy if that is wanted.
pub(super) fn check(arguments: &CheckArguments) -> ExitCode {
    if !arguments.against_running {
        return check_alone(&arguments.config);
    }
    // It is asked of the running process whole: that has its own environment, and may read
    // certificates that this user may not.
    match plan(arguments) {
        Ok(answer) if arguments.json => print(&answer),
        Ok(answer) => told(&serde_json::from_str(&answer).unwrap_or_default(), arguments.exit_code),
        Err(error) => fail(error),
    }
}

fn plan(arguments: &CheckArguments) -> Result<String, Box<dyn std::error::Error>> {
    let CheckArguments { config, admin, token_file, .. } = arguments;
    let text = fs::read_to_string(config)
        .map_err(|error| format!("cannot read {}: {error}", config.display()))?;
    let path = path::absolute(config)?;
    let options = AdminOptions {
        admin: admin.clone(),
        config: Some(config.clone()),
        token_file: token_file.clone(),
    };
    let body = json!({ "text": text, "path": path });
    Ok(client::post(&options, "/api/check", &body)?)
}

fn told(plan: &Value, exit_code: bool) -> ExitCode {
    let warnings = plan["warnings"].as_array().into_iter().flatten();
    warnings.filter_map(Value::as_str).for_each(say);
    let code = print(plan["text"].as_str().unwrap_or_default());
    if exit_code && plan["changes_anything"] == true { ExitCode::from(CHANGES) } else { code }
}

/// Checks the file as far as that is possible without a socket.
fn check_alone(path: &Path) -> ExitCode {
    match app::check(path) {
        Ok((parsed, warnings)) => {
            say(&render_all(&warnings, &parsed.source, in_color()));
            let name = path.display();
            let count = match warnings.len() {
                0 => String::new(),
                number => format!(", with {}", counted(number, "warning")),
            };
            print(&format!("{name} is valid{count}\n"))
        }
        Err(error) => match errors(&error) {
            Some(errors) => {
                say(&errors.render(in_color()));
                let number = counted(errors.errors.len(), "error");
                let _ = writeln!(io::stderr(), "{number} in {}", path.display());
                ExitCode::FAILURE
            }
            None => fail(error),
        },
    }
}

/// What the file itself has wrong, if that is what it is.
fn errors(error: &StartError) -> Option<&Errors> {
    match error {
        StartError::Config(app::ReloadError::Invalid(errors)) => Some(errors),
        _ => None,
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn in_color() -> bool {
    io::stderr().is_terminal()
}

/// Prints a paragraph to stderr.
fn say(text: &str) {
    if !text.is_empty() {
        let _ = writeln!(io::stderr(), "{}\n", text.trim_end());
    }
}
