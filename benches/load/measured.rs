//! What came out: latencies, bytes and failures.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use http::{HeaderValue, StatusCode};

/// An hour; what takes longer counts as that.
const LONGEST_MICROS: u64 = 3_600_000_000;

/// In which way a request has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No TCP connection.
    Connect,
    /// No file for one: this process may open no more.
    OpenFiles,
    /// The certificate is not believed.
    Certificate,
    /// No TLS for another reason.
    Tls,
    /// The other side does not offer HTTP/2 in its TLS handshake.
    NoHttp2,
    /// No HTTP/2 or WebSocket on it.
    Handshake,
    /// Closed or reset before the answer was complete.
    Closed,
    /// The answer is none of HTTP.
    Malformed,
    /// No answer in time.
    Timeout,
    /// A status from 400 on.
    Status(u16),
    /// This status, and no WebSocket.
    Refused(u16),
    /// Another message than was sent.
    Wrong,
    /// Was due, but all connections were busy until the end.
    NotSent,
}

impl Failure {
    /// Whether the connection can go on.
    pub fn ends_the_connection(self) -> bool {
        !matches!(self, Self::Status(_))
    }

    /// Whether there was no connection to ask over.
    pub fn is_of_opening(self) -> bool {
        matches!(
            self,
            Self::Connect
                | Self::OpenFiles
                | Self::Certificate
                | Self::Tls
                | Self::NoHttp2
                | Self::Handshake
                | Self::Refused(_)
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::OpenFiles => f.write_str("too many open files (see ulimit -n)"),
            Self::Certificate => f.write_str("certificate"),
            Self::Tls => f.write_str("tls"),
            Self::NoHttp2 => f.write_str("no HTTP/2"),
            Self::Handshake => f.write_str("handshake"),
            Self::Closed => f.write_str("closed"),
            Self::Malformed => f.write_str("malformed"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) | Self::Refused(status) => write!(f, "status {status}"),
            Self::Wrong => f.write_str("wrong message"),
            Self::NotSent => f.write_str("not sent"),
        }
    }
}

/// A good answer.
#[derive(Debug)]
pub struct Answer {
    /// Of its body, or of the message.
    pub bytes: u64,
    /// A message has none.
    pub status: Option<StatusCode>,
    /// Where a redirect leads.
    pub location: Option<HeaderValue>,
}

/// A request that failed.
#[derive(Debug)]
pub struct Failed {
    /// In which way.
    pub kind: Failure,
    /// What there is to say beyond that; may be empty.
    pub why: String,
}

impl Failed {
    /// With the words of an error, and of what is behind it.
    pub fn new(kind: Failure, error: &dyn Error) -> Self {
        let mut why = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let more = error.to_string();
            // Many say themselves what is behind them.
            if !why.ends_with(&more) {
                why = format!("{why}: {more}");
            }
            source = error.source();
        }
        Self { kind, why }
    }
}

impl From<Failure> for Failed {
    fn from(kind: Failure) -> Self {
        Self { kind, why: String::new() }
    }
}

/// The results of one load. Only good answers have a latency.
#[derive(Debug)]
pub struct Measured {
    /// Microseconds.
    pub latency: Histogram<u64>,
    /// Of bodies or messages.
    pub bytes: u64,
    /// How many of the good answers had which status.
    good_statuses: BTreeMap<u16, u64>,
    /// Where the first redirect led.
    pub redirect: Option<HeaderValue>,
    /// How often what went wrong.
    pub failures: BTreeMap<Failure, u64>,
    /// What the first of a kind had to say.
    pub first_errors: BTreeMap<Failure, String>,
    /// What came within the time that is measured. Stragglers come later, and would make the rate
    /// one of the time that is waited for them.
    in_time: Came,
    /// The time that is measured.
    pub span: Duration,
    /// If that was cut short: how many requests were due by then and not sent. No errors, but the
    /// latencies lack them.
    pub interrupted: Option<u64>,
    /// The same as `latency`, since it was last asked for.
    recent: Histogram<u64>,
}

/// Good answers, and the bytes of their bodies or messages.
#[derive(Debug, Default)]
struct Came {
    answers: u64,
    bytes: u64,
}

impl Measured {
    /// Nothing yet.
    ///
    /// # Errors
    /// Never: these bounds in three digits are a histogram.
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        let latency = Histogram::new_with_bounds(1, LONGEST_MICROS, 3)?;
        let recent = latency.clone();
        Ok(Self {
            latency,
            bytes: 0,
            good_statuses: BTreeMap::new(),
            redirect: None,
            failures: BTreeMap::new(),
            first_errors: BTreeMap::new(),
            in_time: Came::default(),
            span: Duration::ZERO,
            interrupted: None,
            recent,
        })
    }

    /// A good answer, within the time that is measured or after it.
    pub fn record(&mut self, latency: Duration, answer: Answer, in_time: bool) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        self.latency.saturating_record(micros);
        self.recent.saturating_record(micros);
        self.bytes += answer.bytes;
        if in_time {
            self.in_time.answers += 1;
            self.in_time.bytes += answer.bytes;
        }
        if let Some(status) = answer.status {
            *self.good_statuses.entry(status.as_u16()).or_default() += 1;
        }
        if self.redirect.is_none() {
            self.redirect = answer.location;
        }
    }

    /// A request that failed.
    pub fn fail(&mut self, Failed { kind, why }: Failed) {
        *self.failures.entry(kind).or_default() += 1;
        if !why.is_empty() {
            self.first_errors.entry(kind).or_insert(why);
        }
    }

    /// Some requests that were due and not sent.
    pub fn not_sent(&mut self, count: u64) {
        if count > 0 {
            *self.failures.entry(Failure::NotSent).or_default() += count;
        }
    }

    /// Good answers.
    pub fn answered(&self) -> u64 {
        self.latency.len()
    }

    /// How many answers had which status, good or not.
    pub fn statuses(&self) -> BTreeMap<u16, u64> {
        let mut statuses = self.good_statuses.clone();
        for (failure, count) in &self.failures {
            if let Failure::Status(status) | Failure::Refused(status) = failure {
                *statuses.entry(*status).or_default() += count;
            }
        }
        statuses
    }

    /// Good answers that may not be what was hoped for: those whose status is not from 200 to 299.
    pub fn unusual(&self) -> u64 {
        self.answers_of(|status| !(200..300).contains(&status))
    }

    /// Whether the most of the good answers only tell to go elsewhere.
    pub fn is_redirected(&self) -> bool {
        self.answers_of(|status| (300..400).contains(&status)) * 2 > self.answered()
    }

    fn answers_of(&self, wanted: impl Fn(u16) -> bool) -> u64 {
        let counts = self.good_statuses.iter().filter(|&(&status, _)| wanted(status));
        counts.map(|(_, count)| count).sum()
    }

    /// All failures.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.in_time.answers as f64 / self.span.as_secs_f64().max(1e-9)
    }

    /// Bytes of good answers a second.
    pub fn bytes_a_second(&self) -> f64 {
        self.in_time.bytes as f64 / self.span.as_secs_f64().max(1e-9)
    }

    /// A line on the time since the last one.
    pub fn progress(&mut self, since: Duration) -> String {
        let line = format!(
            "{:9.0} requests/s   p50 {:8.2} ms   p99 {:8.2} ms   max {:8.2} ms   {} errors so far",
            self.recent.len() as f64 / since.as_secs_f64().max(1e-9),
            millis(self.recent.value_at_quantile(0.5)),
            millis(self.recent.value_at_quantile(0.99)),
            millis(self.recent.max()),
            self.failed(),
        );
        self.recent.reset();
        line
    }
}

/// Microseconds as milliseconds.
pub fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}
