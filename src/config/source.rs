//! Places in the text of a configuration file.
//!
//! A value that can still turn out wrong after parsing (a certificate that cannot be read, an
//! address that is taken) keeps the place it was written at, so that the later error can point at
//! it exactly as an error of the parser does.

use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

/// A range of bytes in the text of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// A value and where it was written. Compares by value alone: a file whose lines only moved says
/// the same as before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Located<T> {
    /// The value itself.
    pub value: T,
    /// Its place in the text; `None` for a default.
    pub span: Option<Span>,
}

impl<T> Located<T> {
    /// A value that stands at `span` in the text.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span: Some(span) }
    }

    /// A value that is not in the text: a default, or one from the environment.
    pub fn unwritten(value: T) -> Self {
        Self { value, span: None }
    }

    /// The same place with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: f(self.value), span: self.span }
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Located<T> {}

/// The text that a configuration was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    path: PathBuf,
    text: String,
}

/// A place as people count: both numbers start at one, columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Source {
    /// Keeps `text` as what was read from `path`.
    pub fn new(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte; past the end counts as the end.
    pub fn position(&self, byte: usize) -> Position {
        let before = &self.text[..self.text.floor_char_boundary(byte)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The line that holds a byte, without its line end, and the byte at which it starts.
    pub(super) fn line_at(&self, byte: usize) -> (usize, &str) {
        let byte = self.text.floor_char_boundary(byte);
        let start = self.text[..byte].rfind('\n').map_or(0, |newline| newline + 1);
        let rest = &self.text[start..];
        let line = rest.split('\n').next().unwrap_or_default();
        (start, line.strip_suffix('\r').unwrap_or(line))
    }
}
