//! The access log follows the configuration.

use crate::config::model::{AccessLog, Log};
use crate::config::{Diagnostic, Parsed};
use crate::control::files::reason;
use crate::telemetry::access::{Format, Output};

/// What is to become of the access log: nothing if it stays as it is; else where lines go from now
/// on, and in which format, or that there are none.
///
/// # Errors
/// If the file cannot be opened.
pub(super) fn open(
    parsed: &Parsed,
    in_force: &Log,
) -> Result<Option<Option<(Format, Output)>>, Diagnostic> {
    let log = &parsed.config.log;
    if (log.access, &log.access_path) == (in_force.access, &in_force.access_path) {
        return Ok(None);
    }
    let format = match log.access {
        AccessLog::Off => return Ok(Some(None)),
        AccessLog::Json => Format::Json,
        AccessLog::Combined => Format::Combined,
    };
    let path = log.access_path.as_ref();
    let output = Output::open(path.map(|path| path.value.clone())).map_err(|error| {
        let name = path.map_or("stdout".into(), |path| path.value.display().to_string());
        Diagnostic::error(format!("cannot open the access log `{name}`: {}", reason(&error)))
            .at(path.and_then(|path| path.span))
            .key("log.access_path")
    })?;
    Ok(Some(Some((format, output))))
}
