//! What is wrong with a file, where, and what to do about it, in the shape that compilers have
//! made familiar.

use std::fmt::{self, Write};

use super::model::Config;
use super::source::{Source, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is taken, but probably not what was meant.
    Warning,
}

/// One thing to say about a place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The place; `None` if it is about the whole file.
    pub span: Option<Span>,
    /// Path of the key, such as `pools.app.health.interval`; empty for the whole file.
    pub key: String,
    /// Another place that matters, and what is there.
    pub related: Option<(Span, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error about the whole file until [`at`](Self::at) says more.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span: None,
            key: String::new(),
            related: None,
            help: None,
        }
    }

    /// A warning about the whole file until [`at`](Self::at) says more.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Points at a place; the `span` of a [`Located`](super::Located) fits.
    #[must_use]
    pub fn at(mut self, span: impl Into<Option<Span>>) -> Self {
        self.span = span.into();
        self
    }

    /// Names the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }

    /// Points at another place too, if it is known. `what` is followed by that place.
    #[must_use]
    pub fn related(mut self, span: Option<Span>, what: impl Into<String>) -> Self {
        self.related = span.map(|span| (span, what.into()));
        self
    }

    /// The text for a terminal or a log; without `color` nothing but characters of the file and
    /// our own. Ends with a line end.
    pub fn render(&self, source: &Source, color: bool) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out, source, &Palette::new(self.severity, color));
        out
    }

    fn write(&self, out: &mut String, source: &Source, palette: &Palette) -> fmt::Result {
        let Palette { head, frame, bold, off } = *palette;
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(out, "{head}{severity}{off}{bold}: {}{off}", printable(&self.message))?;
        let file = source.path().display();
        let place = self.span.map(|span| (span, source.position(span.start)));
        let margin = place.map_or(1, |(_, position)| position.line.to_string().len());
        match place {
            None => writeln!(out, "{frame}{:margin$}-->{off} {file}", "")?,
            Some((span, position)) => {
                let (line, column) = (position.line, position.column);
                let (padding, carets, text) = underline(source, span);
                let label = match self.key.as_str() {
                    "" => String::new(),
                    key => format!(" in `{}`", printable(key)),
                };
                writeln!(out, "{frame}{:margin$}-->{off} {file}:{line}:{column}", "")?;
                writeln!(out, "{frame}{:margin$} |{off}", "")?;
                writeln!(out, "{frame}{line} |{off} {text}")?;
                writeln!(out, "{frame}{:margin$} |{off} {padding}{head}{carets}{label}{off}", "")?;
            }
        }
        if let Some((span, what)) = &self.related {
            let position = source.position(span.start);
            let (line, column) = (position.line, position.column);
            writeln!(
                out,
                "{frame}{:margin$} ={off} note: {} at {file}:{line}:{column}",
                "",
                printable(what)
            )?;
        }
        if let Some(help) = &self.help {
            writeln!(out, "{frame}{:margin$} ={off} help: {}", "", printable(help))?;
        }
        Ok(())
    }
}

/// Blanks up to the place, carets under its first line, and that line.
fn underline(source: &Source, span: Span) -> (String, String, String) {
    let (line_start, line) = source.line_at(span.start);
    let from = line.floor_char_boundary(span.start.saturating_sub(line_start));
    let to = line.ceil_char_boundary(span.end.saturating_sub(line_start)).max(from);
    let padding = line[..from].chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let width = line[from..to].chars().count().max(1);
    (padding, "^".repeat(width), printable(line))
}

/// A terminal obeys control characters, and a file may come from anybody.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

struct Palette {
    head: &'static str,
    frame: &'static str,
    bold: &'static str,
    off: &'static str,
}

impl Palette {
    fn new(severity: Severity, color: bool) -> Self {
        if !color {
            return Self { head: "", frame: "", bold: "", off: "" };
        }
        let head = match severity {
            Severity::Error => "\x1b[1;31m",
            Severity::Warning => "\x1b[1;33m",
        };
        Self { head, frame: "\x1b[34m", bold: "\x1b[1m", off: "\x1b[0m" }
    }
}

/// Everything that is wrong with a file; at least one error. `Display` renders it without color.
#[derive(Debug, Clone, PartialEq)]
pub struct Errors {
    /// The file.
    pub source: Source,
    /// What is wrong, in the order of the file.
    pub errors: Vec<Diagnostic>,
    /// What could be read all the same: not fit for use, but the files that it names can be looked
    /// at, so that their errors are told together with these. Absent after errors of syntax.
    pub read: Option<Box<Config>>,
}

impl Errors {
    /// All of them as text, with an empty line between two.
    pub fn render(&self, color: bool) -> String {
        render_all(&self.errors, &self.source, color)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Errors {}

/// Several diagnostics as text, with an empty line between two.
pub fn render_all(diagnostics: &[Diagnostic], source: &Source, color: bool) -> String {
    let rendered: Vec<String> = diagnostics.iter().map(|one| one.render(source, color)).collect();
    rendered.join("\n")
}
