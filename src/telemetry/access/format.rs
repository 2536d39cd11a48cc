//! One request as one line of bytes.
//!
//! Everything a client may choose (method, target, host, fields) passes through an escape here, so
//! that no request can end its line early, forge another one, or drive a terminal.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Version;

use crate::telemetry::civil::{Civil, padded};

/// Shape of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line. What there is nothing to say of is left out.
    Json,
    /// The "combined" format of Apache and nginx.
    Combined,
}

/// What is told of one request. Strings that do not apply are empty.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When the request began.
    pub time: SystemTime,
    /// Who asked; `None` over Unix sockets.
    pub client: Option<IpAddr>,
    /// The method; empty if the request did not parse.
    pub method: &'a str,
    /// The request target as received.
    pub target: &'a str,
    /// HTTP version of the client's side.
    pub http_version: Version,
    /// The host that was asked for.
    pub host: &'a str,
    /// The status that the client got; 499 if it left before.
    pub status: u16,
    /// Body bytes sent to the client.
    pub bytes_sent: u64,
    /// Body bytes received from the client.
    pub bytes_received: u64,
    /// From the request's head to the last byte of the answer.
    pub duration: Duration,
    /// From the request's head to the head of the answer, if there was one.
    pub head: Option<Duration>,
    /// How long it waited in line for a backend with room; zero if it did not.
    pub queued: Duration,
    /// `X-Request-Id`.
    pub request_id: &'a str,
    /// The `Referer` field.
    pub referer: Option<&'a [u8]>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a [u8]>,
    /// Name of the listener.
    pub listener: &'a str,
    /// Name of the route.
    pub route: &'a str,
    /// Name of the pool.
    pub pool: &'a str,
    /// Name of the pool in whose place that one stands, as its route's fallback.
    pub fallback_of: &'a str,
    /// Name of the pool's version.
    pub version: &'a str,
    /// Address of the last backend tried.
    pub backend: &'a str,
    /// Attempts made.
    pub attempts: u32,
    /// Why attempts were followed by others.
    pub retry_reasons: &'a str,
    /// Why we made the answer ourselves, or how it ended.
    pub reason: &'a str,
    /// TLS version of the client's side.
    pub tls: Option<&'a str>,
}

/// Appends the line, its line end included.
pub(super) fn write(format: Format, entry: &Entry<'_>, out: &mut Vec<u8>) {
    match format {
        Format::Json => write_json(entry, out),
        Format::Combined => write_combined(entry, out),
    }
    out.push(b'\n');
}

fn write_json(entry: &Entry<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    Civil::new(entry.time).write_rfc3339(out);
    out.push(b'"');
    if let Some(client) = entry.client {
        out.extend_from_slice(b",\"client\":\"");
        address(client, out);
        out.push(b'"');
    }
    text("method", entry.method, out);
    text("target", entry.target, out);
    text("protocol", protocol(entry.http_version), out);
    text("host", entry.host, out);
    number("status", u64::from(entry.status), out);
    number("bytes_sent", entry.bytes_sent, out);
    number("bytes_received", entry.bytes_received, out);
    seconds("duration_seconds", entry.duration, out);
    if let Some(head) = entry.head {
        seconds("head_seconds", head, out);
    }
    if !entry.queued.is_zero() {
        seconds("queue_seconds", entry.queued, out);
    }
    text("request_id", entry.request_id, out);
    field("referer", entry.referer.unwrap_or_default(), out);
    field("user_agent", entry.user_agent.unwrap_or_default(), out);
    text("tls", entry.tls.unwrap_or_default(), out);
    text("listener", entry.listener, out);
    text("route", entry.route, out);
    text("pool", entry.pool, out);
    text("fallback_of", entry.fallback_of, out);
    text("version", entry.version, out);
    text("backend", entry.backend, out);
    number("attempts", u64::from(entry.attempts), out);
    text("retry_reasons", entry.retry_reasons, out);
    text("reason", entry.reason, out);
    text("timeout", timeout_of(entry.reason), out);
    out.push(b'}');
}

/// Which timeout ended it, named as in the metrics and for its key; empty if none did.
fn timeout_of(reason: &str) -> &str {
    match reason {
        "timeout" => "route_timeout",
        "backend_stalled" => "body_idle_timeout",
        "connect_timeout"
        | "response_timeout"
        | "body_idle_timeout"
        | "tunnel_idle_timeout"
        | "queue_timeout" => reason,
        _ => "",
    }
}

fn key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(name: &str, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        key(name, out);
        out.push(b'"');
        escape_json(value, out);
        out.push(b'"');
    }
}

/// A field value is bytes; those that are no UTF-8 become U+FFFD, since JSON holds nothing else.
fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        key(name, out);
        out.push(b'"');
        for chunk in value.utf8_chunks() {
            escape_json(chunk.valid(), out);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        out.push(b'"');
    }
}

fn number(name: &str, value: u64, out: &mut Vec<u8>) {
    key(name, out);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn seconds(name: &str, value: Duration, out: &mut Vec<u8>) {
    number(name, value.as_secs(), out);
    out.push(b'.');
    padded(out, u64::from(value.subsec_micros()), 6);
}

/// RFC 8259 section 7, and all other control characters too (DEL, C1), for whoever reads the log on
/// a terminal.
fn escape_json(value: &str, out: &mut Vec<u8>) {
    // Nearly every value, and a loop without branches per byte.
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    let mut rest = value;
    while let Some(at) = rest.find(|c: char| c.is_control() || matches!(c, '"' | '\\')) {
        let (clean, found) = rest.split_at(at);
        out.extend_from_slice(clean.as_bytes());
        let mut chars = found.chars();
        match chars.next() {
            Some(c @ ('"' | '\\')) => out.extend_from_slice(&[b'\\', c as u8]),
            // Control characters end at U+009F, so that the high byte is always zero.
            Some(c) => {
                out.extend_from_slice(b"\\u00");
                hex(c as u8, b"0123456789abcdef", out);
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

fn write_combined(entry: &Entry<'_>, out: &mut Vec<u8>) {
    match entry.client {
        Some(client) => address(client, out),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b" - - [");
    Civil::new(entry.time).write_common(out);
    out.extend_from_slice(b"] \"");
    if entry.method.is_empty() {
        out.push(b'-');
    } else {
        escape_quoted(entry.method.as_bytes(), out);
        out.push(b' ');
        escape_quoted(entry.target.as_bytes(), out);
        out.push(b' ');
        out.extend_from_slice(protocol(entry.http_version).as_bytes());
    }
    out.extend_from_slice(b"\" ");
    padded(out, u64::from(entry.status), 3);
    out.push(b' ');
    padded(out, entry.bytes_sent, 1);
    for value in [entry.referer, entry.user_agent] {
        out.extend_from_slice(b" \"");
        match value {
            Some(value) if !value.is_empty() => escape_quoted(value, out),
            _ => out.push(b'-'),
        }
        out.push(b'"');
    }
}

/// As nginx does it: quotes, backslashes and all that is not printable ASCII become `\xHH`.
fn escape_quoted(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        if matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\') {
            out.push(byte);
        } else {
            out.extend_from_slice(b"\\x");
            hex(byte, b"0123456789ABCDEF", out);
        }
    }
}

fn hex(byte: u8, digits: &[u8; 16], out: &mut Vec<u8>) {
    out.push(digits[usize::from(byte >> 4)]);
    out.push(digits[usize::from(byte & 15)]);
}

fn address(address: IpAddr, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{address}");
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests;
