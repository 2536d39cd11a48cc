//! What a probe must find to count as a pass, and how to say what it found instead.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::reason::Words;

/// Why a probe did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// An answer with another status than expected.
    #[error("status {got}, expected {expected}")]
    Status {
        /// The answer's.
        got: u16,
        /// What the check asks for.
        expected: StatusRanges,
    },
    /// An answer without the text that the check asks for.
    #[error("body does not contain `{0}`")]
    Body(Arc<str>),
    /// No answer in time.
    #[error("timed out after {}", Words(*.0))]
    TimedOut(Duration),
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The connection broke off.
    #[error("connection closed before the answer was complete")]
    Closed,
    /// We lacked what it takes to ask, file descriptors say: that is no fault of the backend's.
    #[error("it could not be asked: {0}")]
    NotAsked(Arc<str>),
    /// Anything else, in words: no route to the host, a bad certificate, not an HTTP answer.
    #[error("{0}")]
    Other(Arc<str>),
}

impl ProbeFailure {
    /// A word for a metric's label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Body(_) => "body",
            Self::TimedOut(_) => "timeout",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::NotAsked(_) => "not_asked",
            Self::Other(_) => "other",
        }
    }
}

/// The statuses that count as a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRanges(Arc<[RangeInclusive<u16>]>);

impl StatusRanges {
    /// Those in any of the ranges.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// Whether it counts as a pass.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for StatusRanges {
    /// 200 to 399: an answer that is no error.
    fn default() -> Self {
        Self::new([200..=399])
    }
}

impl fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            let (first, last) = (range.start(), range.end());
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// What an HTTP probe must find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// A status in one of these ranges,
    pub status: StatusRanges,
    /// and this text somewhere in the body, if any.
    pub body: Option<Arc<str>>,
}

impl Expect {
    /// Judges the head of an answer. If [`needs_body`](Self::needs_body), the body is to be judged
    /// too.
    ///
    /// # Errors
    /// What was found instead.
    pub fn head(&self, status: u16) -> Result<(), ProbeFailure> {
        if self.status.contains(status) {
            return Ok(());
        }
        Err(ProbeFailure::Status { got: status, expected: self.status.clone() })
    }

    /// Whether the body has to be read for a verdict.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        self.body.is_some()
    }

    /// Judges the body of an answer, as much of it as the caller cares to read.
    ///
    /// # Errors
    /// What it lacks.
    pub fn body(&self, body: &[u8]) -> Result<(), ProbeFailure> {
        let Some(text) = &self.body else { return Ok(()) };
        if contains(body, text.as_bytes()) {
            return Ok(());
        }
        Err(ProbeFailure::Body(text.clone()))
    }
}

/// How a backend asks on its health page to be drained: it gets nothing new for as long as it does,
/// and that is no failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainWish {
    /// By a field of this name, whatever its value and the status,
    pub header: Option<Arc<str>>,
    /// or by a 503 with this text somewhere in its body.
    pub body: Option<Arc<str>>,
}

impl DrainWish {
    /// Whether the head says so; `has_field` tells whether it has a field of a name.
    #[must_use]
    pub fn in_head(&self, has_field: impl FnOnce(&str) -> bool) -> bool {
        self.header.as_deref().is_some_and(has_field)
    }

    /// Whether the body has to be read to know.
    #[must_use]
    pub fn needs_body(&self, status: u16) -> bool {
        self.body.is_some() && status == 503
    }

    /// Whether the body says so, of an answer for which it [has to be read](Self::needs_body).
    #[must_use]
    pub fn in_body(&self, body: &[u8]) -> bool {
        self.body.as_deref().is_some_and(|text| contains(body, text.as_bytes()))
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|part| part == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_to_be_drained() {
        let wish = DrainWish { header: Some("X-Drain".into()), body: Some("bye".into()) };
        assert!(wish.in_head(|name| name == "X-Drain"));
        assert!(!wish.in_head(|_| false));
        assert!(wish.needs_body(503) && !wish.needs_body(200) && !wish.needs_body(500));
        assert!(wish.in_body(b"good bye") && !wish.in_body(b"ok"));
        let none = DrainWish::default();
        assert!(!none.in_head(|_| true) && !none.needs_body(503) && !none.in_body(b""));
    }

    #[test]
    fn status_ranges() {
        let expect = Expect { status: StatusRanges::new([200..=299, 304..=304]), body: None };
        for (status, passes) in
            [(199, false), (200, true), (299, true), (300, false), (304, true), (503, false)]
        {
            assert_eq!(expect.head(status).is_ok(), passes, "{status}");
        }
        assert!(StatusRanges::default().contains(302));
        assert!(!StatusRanges::default().contains(400));
        assert!(!StatusRanges::new([]).contains(200));
    }

    #[test]
    fn body_match() {
        let contains = |text: &str| Expect { body: Some(text.into()), ..Expect::default() };
        for (text, body, passes) in [
            ("ok", "all ok here", true),
            ("ok", "ok", true),
            ("ok", "o", false),
            ("ok", "", false),
            ("ok", "OK", false),
            ("", "", true),
        ] {
            assert!(contains(text).needs_body());
            assert_eq!(contains(text).body(body.as_bytes()).is_ok(), passes, "{text} in {body}");
        }
        assert!(!Expect::default().needs_body());
        assert_eq!(Expect::default().body(b"anything"), Ok(()));
    }

    #[test]
    fn failures_speak_in_words() {
        let mixed = StatusRanges::new([200..=399, 404..=404]);
        let table = [
            (Expect::default().head(503).unwrap_err(), "status 503, expected 200-399"),
            (
                ProbeFailure::Status { got: 500, expected: mixed },
                "status 500, expected 200-399, 404",
            ),
            (ProbeFailure::Body("ok".into()), "body does not contain `ok`"),
            (ProbeFailure::TimedOut(Duration::from_secs(1)), "timed out after 1 s"),
            (ProbeFailure::TimedOut(Duration::from_millis(250)), "timed out after 250 ms"),
            (ProbeFailure::TimedOut(Duration::from_millis(1500)), "timed out after 1.5 s"),
            (ProbeFailure::Refused, "connection refused"),
            (ProbeFailure::Closed, "connection closed before the answer was complete"),
            (ProbeFailure::Other("no route to host".into()), "no route to host"),
        ];
        for (failure, words) in table {
            assert_eq!(failure.to_string(), words);
        }
    }
}
