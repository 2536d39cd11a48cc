//! The log on stderr: lines for people or JSON objects for programs.
//!
//! Level and format can change while the process runs, since a reload may change them. Only our own
//! lines follow the level; libraries are heard from when they warn, or at `trace`.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::SystemTime;

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::{Layer, Registry};

use super::civil::Civil;

/// Shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log was set up before: there is one per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log of this process is set up already")]
pub struct AlreadySet;

type Lines = Box<dyn Layer<Registry> + Send + Sync>;
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<Lines, Registry>, Registry>;

/// The log of the process.
#[derive(Clone)]
pub struct Log {
    lines: Handle<Lines, Registry>,
    filter: Handle<Targets, Filtered>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// Starts to write the process's log to stderr.
///
/// # Errors
/// If it was started before.
pub fn init(level: Level, format: Format) -> Result<Log, AlreadySet> {
    let (lines, lines_handle) = reload::Layer::new(lines(format));
    let (filter, filter_handle) = reload::Layer::new(targets(level));
    // Records of the `log` crate are left out: what TLS says of its clients' alerts would let
    // anyone fill the log.
    tracing::subscriber::set_global_default(Registry::default().with(lines).with(filter))
        .map_err(|_| AlreadySet)?;
    Ok(Log { lines: lines_handle, filter: filter_handle })
}

impl Log {
    /// Changes level and format from the next line on.
    pub fn set(&self, level: Level, format: Format) {
        // It fails only when the subscriber is gone, and then there is no log to change.
        let _ = self.lines.reload(lines(format));
        let _ = self.filter.reload(targets(level));
    }
}

fn targets(level: Level) -> Targets {
    let others = if level == Level::TRACE { level } else { level.min(Level::WARN) };
    // What these warn of are the other side's mistakes, which anyone can repeat at will.
    let protocols = if level == Level::TRACE { level } else { Level::ERROR };
    Targets::new()
        .with_default(LevelFilter::from_level(others))
        .with_target("h2", protocols)
        .with_target("hyper", protocols)
        .with_target(env!("CARGO_CRATE_NAME"), level)
}

fn lines<S>(format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_timer(Utc);
    match format {
        Format::Text => layer.with_target(false).with_ansi(io::stderr().is_terminal()).boxed(),
        Format::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    }
}

/// RFC 3339 with milliseconds, as in the access log.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let mut text = Vec::new();
        Civil::new(SystemTime::now()).write_rfc3339(&mut text);
        writer.write_str(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lines_follow_the_level() {
        let targets = targets(Level::DEBUG);
        assert!(targets.would_enable("tidegate::control", &Level::DEBUG));
    }

    #[test]
    fn libraries_are_heard_from_when_they_warn() {
        let targets = targets(Level::DEBUG);
        let heard = [Level::WARN, Level::INFO].map(|level| targets.would_enable("rustls", &level));
        assert_eq!(heard, [true, false]);
    }

    #[test]
    fn of_the_mistakes_of_peers_nothing_is_heard_but_at_trace() {
        for target in ["h2::proto", "hyper::proto"] {
            assert!(!targets(Level::DEBUG).would_enable(target, &Level::WARN));
            assert!(targets(Level::TRACE).would_enable(target, &Level::TRACE));
        }
    }

    #[test]
    fn at_error_nobody_warns() {
        assert!(!targets(Level::ERROR).would_enable("rustls", &Level::WARN));
    }
}
