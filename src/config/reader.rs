//! Walks a TOML tree, collecting every error on the way.
//!
//! Serde's derive gives up at the first wrong type or unknown key. Here each key is read on its
//! own: what is wrong with one is noted and the others are read all the same. A [`Section`] knows
//! which keys were asked for, so that whatever else stands in its table is unknown.

mod key_path;
mod value;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use smallvec::SmallVec;
use toml::Spanned;
use toml::de::{DeString, DeTable};

use super::diagnostic::{Diagnostic, Severity};
use super::source::{Located, Span};
use super::suggest::suggest;
use super::values::{self, Problem, Scalar};

use key_path::KeyPath;
use value::Node;
pub(super) use value::Value;

/// What all sections share: where paths and variables come from, and where findings go.
pub(super) struct Reader<'a> {
    directory: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
    findings: RefCell<Vec<Diagnostic>>,
    /// Every key that was asked for, and whether it stood in the file.
    #[cfg(test)]
    pub(super) asked: RefCell<BTreeMap<String, bool>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(directory: &'a Path, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            directory,
            env,
            findings: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    pub(super) fn report(&self, finding: Diagnostic) {
        self.findings.borrow_mut().push(finding);
    }

    /// Whether something was wrong with this key or one below it, so that checks which need it
    /// whole would only repeat that.
    pub(super) fn failed(&self, key: &str) -> bool {
        self.findings.borrow().iter().any(|finding| {
            let below = finding.key.strip_prefix(key);
            finding.severity == Severity::Error
                && below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// All findings in the order of the file: errors, then warnings.
    pub(super) fn into_findings(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|finding| finding.span);
        findings.into_iter().partition(|finding| finding.severity == Severity::Error)
    }

    /// Reads the whole file.
    pub(super) fn whole<'r, T>(
        &'r self,
        root: &'r DeTable<'r>,
        read: impl FnOnce(&mut Section<'r>) -> T,
    ) -> T {
        self.table(Some(root), KeyPath::default(), None, read)
    }

    /// Reads one table and then reports the keys in it that nobody asked for.
    fn table<'r, T>(
        &'r self,
        table: Option<&'r DeTable<'r>>,
        path: KeyPath<'r>,
        span: Option<Span>,
        read: impl FnOnce(&mut Section<'r>) -> T,
    ) -> T {
        let mut section = Section { reader: self, table, path, span, asked: SmallVec::new() };
        let value = read(&mut section);
        section.report_unknown_keys();
        value
    }
}

/// A table while it is read; an absent one reads like an empty one.
pub(super) struct Section<'r> {
    reader: &'r Reader<'r>,
    table: Option<&'r DeTable<'r>>,
    path: KeyPath<'r>,
    span: Option<Span>,
    /// Most sections have no more keys than that, and there may be thousands of sections.
    asked: SmallVec<[&'static str; 24]>,
}

impl<'r> Section<'r> {
    /// Where the table stands.
    pub(super) fn span(&self) -> Option<Span> {
        self.span
    }

    /// Whether the table is in the file.
    pub(super) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// Where relative paths begin.
    pub(super) fn directory(&self) -> &'r Path {
        self.reader.directory
    }

    /// An environment variable.
    pub(super) fn env(&self, name: &str) -> Option<String> {
        (self.reader.env)(name)
    }

    /// Path of a key of this table.
    pub(super) fn key_of(&self, key: &str) -> String {
        self.path.key(key).to_string()
    }

    /// Reports an error about the table as a whole.
    pub(super) fn error(&self, message: impl Into<String>, help: impl Into<Option<String>>) {
        let error = Diagnostic::error(message).at(self.span).key(self.path.to_string()).help(help);
        self.reader.report(error);
    }

    /// Reports a key that is required and not there.
    pub(super) fn require(&self, key: &str, help: impl Into<Option<String>>) {
        // What is no table at all was reported as that.
        if self.is_written() && !self.has(key) {
            self.error(format!("`{key}` is missing"), help);
        }
    }

    /// Reports an error at one of the table's keys, or at the table if the key is not there.
    pub(super) fn error_at(
        &self,
        key: &str,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        let span = self.entry(key).map(|(name, _)| name.span().into()).or(self.span);
        let error = Diagnostic::error(message).at(span).key(self.key_of(key)).help(help);
        self.reader.report(error);
    }

    /// Reports an error at a place within the value of one of the table's keys.
    pub(super) fn error_in(&self, key: &str, span: Option<Span>, message: String) {
        self.reader.report(Diagnostic::error(message).at(span).key(self.key_of(key)));
    }

    /// Reports a warning at one of the table's keys.
    pub(super) fn warn_at(&self, key: &str, message: impl Into<String>, help: &str) {
        let span = self.entry(key).map(|(name, _)| name.span().into()).or(self.span);
        let warning = Diagnostic::warning(message).at(span).key(self.key_of(key));
        self.reader.report(warning.help(help.to_owned()));
    }

    /// Reports a contradiction for each of `keys` that is there.
    pub(super) fn forbid(&self, keys: &[&str], reason: &str) {
        for key in keys {
            if self.has(key) {
                self.error_at(key, format!("`{key}` {reason}"), None);
            }
        }
    }

    /// Whether the file gives the key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The value of a key.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value<'r>> {
        self.asked.push(key);
        #[cfg(test)]
        {
            let present = self.has(key);
            *self.reader.asked.borrow_mut().entry(self.key_of(key)).or_default() |= present;
        }
        let (_, node) = self.entry(key)?;
        Some(Value { reader: self.reader, node, path: self.path.key(key) })
    }

    /// The value of a key together with its place.
    pub(super) fn located<T>(
        &mut self,
        key: &'static str,
        grammar: impl FnOnce(&Scalar) -> Result<T, Problem>,
    ) -> Option<Located<T>> {
        self.value(key)?.read(grammar)
    }

    /// The value of a key.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        grammar: impl FnOnce(&Scalar) -> Result<T, Problem>,
    ) -> Option<T> {
        self.located(key, grammar).map(|located| located.value)
    }

    /// The value of a key, or its default.
    pub(super) fn get_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        grammar: impl FnOnce(&Scalar) -> Result<T, Problem>,
    ) -> T {
        self.get(key, grammar).unwrap_or(default)
    }

    /// A path, relative to the directory of the file.
    pub(super) fn path(&mut self, key: &'static str) -> Option<Located<PathBuf>> {
        let path = self.located(key, values::text)?;
        Some(path.map(|path| self.directory().join(path)))
    }

    /// A list in which every entry follows the grammar. Entries that do not are left out.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        grammar: impl Fn(&Scalar) -> Result<T, Problem>,
    ) -> Option<Vec<Located<T>>> {
        let entries = self.value(key)?.entries()?;
        Some(entries.iter().filter_map(|entry| entry.read(&grammar)).collect())
    }

    /// A list that must not be empty where it is given; `help` says what to do instead.
    pub(super) fn filled_list<T>(
        &mut self,
        key: &'static str,
        help: &str,
        grammar: impl Fn(&Scalar) -> Result<T, Problem>,
    ) -> Option<Vec<Located<T>>> {
        self.refuse_empty_list(key, help);
        self.list(key, grammar)
    }

    /// Reports a list that is there and empty.
    pub(super) fn refuse_empty_list(&self, key: &str, help: &str) {
        if let Some((_, node)) = self.entry(key)
            && node.get_ref().as_array().is_some_and(|list| list.is_empty())
        {
            self.error_at(key, format!("`{key}` is an empty list"), help.to_owned());
        }
    }

    /// A table below this one, read as an empty one if it is absent.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'r>) -> T,
    ) -> T {
        match self.value(key) {
            Some(value) => value.table(read),
            None => self.reader.table(None, self.path.key(key), self.span, read),
        }
    }

    /// A table below this one, if it is there.
    pub(super) fn optional_table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'r>) -> T,
    ) -> Option<T> {
        Some(self.value(key)?.table(read))
    }

    /// The tables of a list.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Section<'r>) -> T,
    ) -> Option<Vec<T>> {
        let entries = self.value(key)?.entries()?;
        Some(entries.into_iter().map(|entry| entry.table(&read)).collect())
    }

    /// A table whose keys are names that the user chose, each with a table of its own.
    pub(super) fn named_tables<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Section<'r>, Located<String>) -> T,
    ) -> BTreeMap<String, T> {
        let Some(table) = self.value(key).and_then(|value| value.as_table()) else {
            return BTreeMap::new();
        };
        let (mut found, above) = (BTreeMap::new(), self.path.key(key));
        for (name, node) in table {
            let path = above.key(name.get_ref());
            let span = Span::from(name.span());
            if let Err(problem) = values::name(name.get_ref()) {
                self.reader.report(problem.at(span, &path));
            }
            let name = Located::new(name.get_ref().to_string(), span);
            let value = Value { reader: self.reader, node, path };
            found.insert(name.value.clone(), value.table_at(span, |s| read(s, name)));
        }
        found
    }

    /// A table of texts under names that the user chose.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<(Located<String>, String)>> {
        let value = self.value(key)?;
        let mut found = Vec::new();
        for (name, node) in value.as_table()? {
            let path = value.path.key(name.get_ref());
            let entry = Value { reader: self.reader, node, path };
            let name = Located::new(name.get_ref().to_string(), name.span().into());
            found.extend(entry.read(values::text).map(|text| (name, text.value)));
        }
        Some(found)
    }

    fn entry(&self, key: &str) -> Option<(&'r Spanned<DeString<'r>>, &'r Node<'r>)> {
        self.table?.get_key_value(key)
    }

    fn report_unknown_keys(&self) {
        for name in self.table.into_iter().flat_map(|table| table.keys()) {
            let key = name.get_ref().as_ref();
            if !self.asked.contains(&key) {
                let error = Diagnostic::error(format!("unknown key `{key}`"))
                    .at(Span::from(name.span()))
                    .key(self.path.to_string())
                    .help(suggest(key, self.asked.iter().copied()));
                self.reader.report(error);
            }
        }
    }
}
