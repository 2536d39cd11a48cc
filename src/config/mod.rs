//! Configuration text to checked values, with every error at its place in the text. Pure,
//! but that paths begin at the working directory.
//!
//! [`parse`] goes one way: text, a TOML tree with the place of every value, then [`file`] reads it
//! section by section into the [`model`], then `check` looks at what only shows between
//! sections. No step stops at the first error: whoever edits a file wants all of them at once. So
//! the tree is walked by a small `reader` in place of serde's derive, which gives up early.

mod addresses;
mod check;
mod choice;
mod diagnostic;
mod expand;
mod file;
pub mod model;
mod reader;
mod shadow;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod values;

use std::path::{self, Path};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

pub use diagnostic::{Diagnostic, Errors, Severity, render_all};
pub use model::{Config, restart_only_changes};
pub use shadow::shadowed_routes;
pub use source::{Located, Position, Source, Span};

/// A configuration without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// What it says.
    pub config: Arc<Config>,
    /// What is probably not meant, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// The text, for later diagnostics about [`Located`] values.
    pub source: Source,
}

impl Parsed {
    /// Where the file gives the key of this path, `server.workers`; `None` if it has its default. The
    /// text is looked through for it.
    pub fn place_of(&self, path: &str) -> Option<Span> {
        let root = DeTable::parse(self.source.text()).ok()?;
        let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut table = root.get_ref();
        for name in above.split('.').filter(|name| !name.is_empty()) {
            table = table.get(name)?.get_ref().as_table()?;
        }
        table.get_key_value(key).map(|(name, _)| name.span().into())
    }
}

/// Reads the text of the file at `path`, which is not opened: it names the file in errors, and its
/// directory is where relative paths begin. `env` looks up environment variables.
///
/// # Errors
/// Everything that is wrong with the file. Syntax errors come alone, since what the rest says is
/// not certain then.
pub fn parse(
    text: &str,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Parsed, Errors> {
    let source = Source::new(path, text);
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        let errors = syntax_errors.iter().map(syntax_error).collect();
        return Err(Errors { source, errors, read: None });
    }
    // However the file was named, its paths are the same: a running proxy may have been started with
    // `-c a.toml`, and be asked about `/etc/a.toml`.
    let absolute = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let reader = reader::Reader::new(absolute.parent().unwrap_or(Path::new("")), env);
    let config = file::read(&reader, root.get_ref());
    check::check(&config, &reader);
    match reader.into_findings() {
        (errors, warnings) if errors.is_empty() => {
            Ok(Parsed { config: Arc::new(config), warnings, source })
        }
        (errors, _) => Err(Errors { source, errors, read: Some(Box::new(config)) }),
    }
}

/// Reads a duration as the file has it: `"250ms"`, `"10s"`, `"1h30m"`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let scalar = values::Scalar::Text { text: text.into(), from_env: false };
    values::duration(&scalar).map_err(|problem| match problem.help {
        Some(help) => format!("{}; {help}", problem.message),
        None => problem.message,
    })
}

fn syntax_error(error: &toml::de::Error) -> Diagnostic {
    Diagnostic::error(error.message()).at(error.span().map(Span::from))
}
