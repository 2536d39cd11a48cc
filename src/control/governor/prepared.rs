//! A configuration on its way from the file to where it can be put in force: everything that can
//! still fail, but for the sockets. It reads files, so it runs where it may block.

use std::path::Path;
use std::time::SystemTime;

use super::Setting;
use super::restarts::{forgotten, restart_only};
use crate::config::{Diagnostic, Errors, Parsed, restart_only_changes};
use crate::control::changes::changes;
use crate::control::compile::{Compiled, Context, Generation, compile, file_errors};
use crate::control::handle::{Handle, ReloadError};
use crate::control::plan::{self, Draft, ReloadPlan};
use crate::state::Shared;

/// A configuration that is good as far as can be told without binding its sockets.
#[derive(Debug)]
pub struct Prepared {
    pub(super) parsed: Parsed,
    pub(super) compiled: Compiled,
    /// What it changes, in words.
    pub(super) changes: Vec<String>,
}

/// Reads and parses the configuration file with the environment of the process.
///
/// # Errors
/// If it cannot be read, or is wrong: then the files that it names are looked at too, so that
/// everything that is wrong is told at once.
pub fn read_config(path: &Path) -> Result<Parsed, ReloadError> {
    let unreadable = |source| ReloadError::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<Parsed, ReloadError> {
    let parsed = crate::config::parse(text, path, &|name| std::env::var(name).ok());
    Ok(parsed.map_err(|mut errors| {
        if let Some(config) = errors.read.take() {
            errors.errors.extend(file_errors(*config, SystemTime::now()));
            errors.errors.sort_by_key(|error| error.span);
        }
        errors
    })?)
}

impl Prepared {
    /// Makes ready what was parsed: reads certificates, keys and other files, and compares with
    /// what is in force.
    ///
    /// # Errors
    /// If something cannot be used, or can only be changed by a restart.
    pub fn new(
        parsed: Parsed,
        old: &Generation,
        context: &Context<'_>,
    ) -> Result<Self, ReloadError> {
        if old.snapshot.generation > 0 {
            let fixed = restart_only_changes(&old.config, &parsed.config);
            if !fixed.is_empty() {
                let errors = fixed.iter().map(|key| restart_only(&parsed, key)).collect();
                return Err(Errors { source: parsed.source, errors, read: None }.into());
            }
        }
        match compile(&parsed.config, old, context) {
            Ok(compiled) => {
                let changes =
                    changes(old, &parsed.config, |listener| compiled.fingerprints(listener));
                Ok(Prepared { parsed, compiled, changes })
            }
            Err(errors) => Err(Errors { source: parsed.source, errors, read: None }.into()),
        }
    }

    /// What is probably not meant, of every kind, in the order of the file.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let mut warnings = self.parsed.warnings.clone();
        warnings.extend(self.compiled.warnings.iter().cloned());
        warnings.extend(forgotten(&self.parsed));
        warnings.sort_by_key(|warning| warning.span);
        warnings
    }

    /// The configuration and its text.
    pub fn parsed(&self) -> &Parsed {
        &self.parsed
    }
}

pub(super) fn prepare(
    parsed: Parsed,
    old: &Generation,
    setting: &Setting,
    shared: &Shared,
) -> Result<Prepared, ReloadError> {
    let context = Context {
        workers: setting.workers,
        affinity_key: &setting.affinity_key,
        open_files: setting.open_files,
        uptime: shared.uptime(),
        now: SystemTime::now(),
        read: &|path| std::fs::read(path),
    };
    Prepared::new(parsed, old, &context)
}

/// What a reload would do, of the draft or of the file.
pub(super) fn draw_up(
    draft: Option<&Draft>,
    old: &Generation,
    setting: &Setting,
    (shared, handle): (&Shared, &Handle),
) -> Result<ReloadPlan, ReloadError> {
    let path = draft.map_or(&setting.path, |draft| &draft.path).clone();
    let parsed = match draft {
        Some(Draft { text, path }) => parse(text, path)?,
        None => read_config(&path)?,
    };
    let prepared = prepare(parsed, old, setting, shared)?;
    let warnings = prepared.warnings();
    let warnings = warnings.iter().map(|warning| warning.render(&prepared.parsed.source, false));
    let warnings = warnings.collect();
    let (new, _) = prepared.compiled.into_generation(old.snapshot.generation + 1, |_| None);
    let mut plan = plan::plan(old, &new, handle.board(), SystemTime::now());
    plan.warnings = warnings;
    let reads = std::fs::canonicalize(&setting.path).unwrap_or_else(|_| setting.path.clone());
    let looked_at = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    plan.reload_reads = (reads != looked_at).then(|| reads.display().to_string());
    plan.file = path.display().to_string();
    plan.text = plan.render();
    Ok(plan)
}
