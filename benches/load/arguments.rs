//! What can be asked for.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use rustix::process::{Resource, getrlimit};

use crate::LoadError;
use crate::target::Protocol;

/// Loads a URL, or a Tidegate that it starts, and tells requests per second, latencies and errors.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench load --", disable_version_flag = true)]
#[command(after_help = "Exit code: 0, 1 if nothing was answered or the result could \
    not be written, 2 if it could not begin.")]
pub struct Arguments {
    /// http, https, ws or wss. Absent: a Tidegate of our own in front of three small replicas
    pub url: Option<String>,
    /// Requests a second, in an open loop: latency counts from the moment a request was due.
    /// Absent: a closed loop, each connection (or stream) asks again when it was answered
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Connections
    #[arg(short, long, default_value_t = 64, value_parser = at_a_time)]
    connections: u32,
    /// Requests at a time on each HTTP/2 connection
    #[arg(short = 'm', long, default_value_t = 8, value_parser = at_a_time)]
    streams: u32,
    /// A new connection for each request; over HTTP/2 for each of one stream
    #[arg(long)]
    disable_keepalive: bool,
    /// No TLS session is resumed: every handshake is a full one
    #[arg(long)]
    pub disable_resumption: bool,
    /// Seconds that are measured [default: 3 for each load]
    #[arg(short, long, value_parser = positive)]
    duration: Option<f64>,
    /// Seconds of load before that
    #[arg(long, default_value_t = 0.5, value_parser = not_negative)]
    warm_up: f64,
    /// Seconds after which a request has failed
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    timeout: f64,
    /// What to speak. Absent: HTTP/1.1 to a URL, WebSocket to ws and wss, and to our own Tidegate
    /// one after another
    #[arg(short, long)]
    pub protocol: Option<Protocol>,
    /// With our own Tidegate: over TLS only
    #[arg(long, conflicts_with = "url")]
    pub tls: bool,
    /// Bytes of a response of our own replicas, or of a WebSocket message
    /// [default: 1024]
    #[arg(long, value_parser = bytes)]
    pub size: Option<usize>,
    /// Bytes to send with each request, by POST
    #[arg(long, default_value_t = 0, value_parser = bytes)]
    pub upload: usize,
    /// Our own replicas do not say how long a response is, but send it in chunks
    #[arg(long, conflicts_with = "url")]
    pub chunked: bool,
    /// A header field to send, such as 'Authorization: Bearer x'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub headers: Vec<String>,
    /// Believe any certificate
    #[arg(short = 'k', long, requires = "url")]
    pub insecure: bool,
    /// The program to load, if no URL is given [default: the one built with this bench]
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    pub tidegate: Option<PathBuf>,
    /// Workers of that program
    #[arg(long, default_value_t = 1, conflicts_with = "url")]
    pub workers: u32,
    /// Write the result there as JSON; - is stdout, in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// No progress on stderr
    #[arg(short, long)]
    quiet: bool,
    /// Cargo says so when it runs benches
    #[arg(long, hide = true)]
    bench: bool,
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("a number from 0 on is needed".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("a number above 0 is needed".to_owned()),
    }
}

/// More requests a second than any client could send from one thread would only fill the memory
/// with moments.
const MOST_A_SECOND: f64 = 1e6;

fn rate(text: &str) -> Result<f64, String> {
    match positive(text)? {
        rate if rate <= MOST_A_SECOND => Ok(rate),
        _ => Err(format!("at most {MOST_A_SECOND} requests a second come from here")),
    }
}

/// More connections, or streams of all of them, than one thread could serve.
const MOST_AT_A_TIME: u32 = 1_000_000;

fn at_a_time(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (1..=MOST_AT_A_TIME).contains(&number) => Ok(number),
        _ => Err(format!("a number from 1 to {MOST_AT_A_TIME} is needed")),
    }
}

/// A GiB: all of it is held in memory.
const MOST_BYTES: usize = 1 << 30;

fn bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number <= MOST_BYTES => Ok(number),
        _ => Err(format!("a number of bytes from 0 to {MOST_BYTES} is needed")),
    }
}

/// What the other benches call what they measure.
const OTHER_BENCHES: [&str; 6] = ["build", "framing", "headers", "pick", "route", "verdict"];

/// How one target is loaded.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Requests a second; none: a closed loop.
    pub rate: Option<f64>,
    /// Connections.
    pub connections: u32,
    /// Requests at a time on one of them.
    pub streams: u32,
    /// Whether a connection serves more than one request.
    pub keepalive: bool,
    /// Before anything counts.
    pub warm_up: Duration,
    /// What is measured.
    pub duration: Duration,
    /// For one request.
    pub timeout: Duration,
    /// Whether to tell how it goes.
    pub progress: bool,
}

impl Arguments {
    /// `cargo bench NAME` hands NAME to every bench, and would end at the first that refuses it.
    pub fn name_of_another_bench(&self) -> Option<&str> {
        let name = self.url.as_deref().filter(|name| self.bench && !name.is_empty())?;
        // They take a part of a name, too, or a name and more, such as `route/10 routes`.
        let group = name.split('/').next().unwrap_or_default();
        let is_named = |bench: &str| bench.contains(name) || bench == group;
        OTHER_BENCHES.into_iter().any(is_named).then_some(name)
    }

    /// Refuses what this process could not hold open.
    ///
    /// # Errors
    /// If there are too many connections, or streams of all of them.
    pub fn check(&self) -> Result<(), LoadError> {
        // All protocols are spoken to our own Tidegate, if none is named.
        let usual = if self.url.is_some() { Protocol::Http1 } else { Protocol::Http2 };
        let streams = self.plan(self.protocol.unwrap_or(usual)).streams;
        if self.connections.saturating_mul(streams) > MOST_AT_A_TIME {
            let why = format!(
                "{} connections of {streams} streams are more than {MOST_AT_A_TIME}",
                self.connections
            );
            return Err(LoadError::Setup("too many requests at a time", why));
        }
        match getrlimit(Resource::Nofile).current {
            Some(files) if u64::from(self.connections) >= files => {
                let why = format!(
                    "{} need more than the {files} files that may be open here (see ulimit -n)",
                    self.connections
                );
                Err(LoadError::Setup("too many connections", why))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of a response of our own replicas, or of a WebSocket message.
    pub fn size(&self) -> usize {
        self.size.unwrap_or(1024)
    }

    /// Whether a connection serves more than one request.
    pub fn keepalive(&self) -> bool {
        !self.disable_keepalive
    }

    /// The plan for a target that speaks `protocol`.
    pub fn plan(&self, protocol: Protocol) -> Plan {
        // Without --bench it is `cargo test` that runs us, to see that we run at all.
        let duration = self.duration.unwrap_or(if self.bench { 3.0 } else { 0.1 });
        Plan {
            rate: self.rate,
            connections: self.connections,
            streams: if protocol == Protocol::Http2 && self.keepalive() { self.streams } else { 1 },
            keepalive: self.keepalive(),
            warm_up: Duration::from_secs_f64(self.warm_up.clamp(0.0, 3600.0)),
            duration: Duration::from_secs_f64(duration.min(86_400.0)),
            timeout: Duration::from_secs_f64(self.timeout.min(3600.0)),
            progress: !self.quiet,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            Some(rate) => write!(f, "open loop, {rate} requests/s over ")?,
            None => write!(f, "closed loop, ")?,
        }
        write!(f, "{} connections", self.connections)?;
        if self.streams > 1 {
            write!(f, " of {} streams", self.streams)?;
        }
        if !self.keepalive {
            write!(f, ", a new one for each request")?;
        }
        write!(f, ", {} s", self.duration.as_secs_f64())
    }
}
