//! A single value as it stands in the file, and what may be wrong with it.

use std::borrow::Cow;
use std::fmt;

use crate::config::diagnostic::Diagnostic;
use crate::config::source::Span;

/// What is wrong with a value, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(in crate::config) struct Problem {
    pub(in crate::config) message: String,
    pub(in crate::config) help: Option<String>,
}

impl Problem {
    pub(in crate::config) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(in crate::config) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    pub(in crate::config) fn at(self, span: Span, key: &impl fmt::Display) -> Diagnostic {
        Diagnostic::error(self.message).at(span).key(key.to_string()).help(self.help)
    }

    pub(super) fn expected(what: &str, found: &Scalar) -> Self {
        Self::new(format!("expected {what}, found {found}"))
    }
}

/// A value that is neither list nor table, its variables replaced.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum Scalar<'a> {
    /// A string; one that came from the environment may stand for a number or a boolean too.
    Text {
        text: Cow<'a, str>,
        from_env: bool,
    },
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Anything that fits no grammar, by what it is.
    Other(&'static str),
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { text, .. } => write!(f, "\"{text}\""),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Boolean(value) => value.fmt(f),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Scalar<'_> {
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text { text, from_env: true } => text.parse().ok(),
            _ => None,
        }
    }
}
