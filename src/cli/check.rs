//! `tidegate check`: everything that is wrong with a configuration, at once and in place.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{fail, print};
use crate::app::{self, StartError};
use crate::config::{Errors, render_all};

/// Checks the file as far as that is possible without a socket.
pub(super) fn check(path: &Path) -> ExitCode {
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
