//! A dial that failed, for those who waited for it.

use std::io;

use crate::upstream::Error;

#[derive(Debug)]
pub(super) struct DialFailure {
    /// Which of the lane's dials it was.
    pub(super) dial: u64,
    pub(super) kind: DialFailureKind,
}

#[derive(Debug)]
pub(super) enum DialFailureKind {
    Timeout,
    OutOfFiles,
    Other(String),
}

impl DialFailure {
    /// The same error, for whoever waited for the same dial.
    pub(super) fn again(&self) -> Error {
        match &self.kind {
            DialFailureKind::Timeout => Error::ConnectTimeout,
            DialFailureKind::OutOfFiles => Error::OutOfFiles,
            DialFailureKind::Other(text) => Error::Connect(io::Error::other(text.clone())),
        }
    }
}

impl DialFailureKind {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::ConnectTimeout => DialFailureKind::Timeout,
            Error::OutOfFiles => DialFailureKind::OutOfFiles,
            error => DialFailureKind::Other(error.to_string()),
        }
    }
}
