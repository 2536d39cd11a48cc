//! The access log follows the configuration.

use crate::config::model::{self, Log};
use crate::config::{Diagnostic, Parsed};
use crate::control::files::reason;
use crate::telemetry::AccessLog;
use crate::telemetry::access::{Format, Output};

/// What is to become of the access log.
#[derive(Debug)]
pub(super) enum Change {
    /// It goes on as before.
    None,
    /// There is none from now on.
    Off,
    /// Lines go there from now on, in this format.
    To(Format, Output),
}

impl Change {
    /// What follows from a configuration, when the other is in force.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(super) fn prepare(parsed: &Parsed, in_force: &Log) -> Result<Self, Diagnostic> {
        let log = &parsed.config.log;
        if (log.access, &log.access_path) == (in_force.access, &in_force.access_path) {
            return Ok(Change::None);
        }
        let format = match log.access {
            model::AccessLog::Off => return Ok(Change::Off),
            model::AccessLog::Json => Format::Json,
            model::AccessLog::Combined => Format::Combined,
        };
        let path = log.access_path.as_ref();
        let output = Output::open(path.map(|path| path.value.clone())).map_err(|error| {
            let name = path.map_or("stdout".into(), |path| path.value.display().to_string());
            Diagnostic::error(format!("cannot open the access log `{name}`: {}", reason(&error)))
                .at(path.and_then(|path| path.span))
                .key("log.access_path")
        })?;
        Ok(Change::To(format, output))
    }

    /// Nothing in here can fail.
    pub(super) fn put_in_force(self, log: &AccessLog) {
        match self {
            Change::None => {}
            Change::Off => log.switch(None),
            Change::To(format, output) => log.switch(Some((format, output))),
        }
    }
}
