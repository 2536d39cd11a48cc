//! The text format of Prometheus, version 0.0.4: families of samples, each with its help and type.

use std::io::Write;
use std::time::Duration;

use crate::state::counters::{BUCKET_BOUNDS_MICROS, CODES, CodeCounters, HistogramSum};

/// Declares a metric.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
}

pub(super) const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: "counter", labels, help }
}

pub(super) const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: "gauge", labels, help }
}

pub(super) const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: "histogram", labels, help }
}

/// The value of a sample. Counts are exact beyond what a float holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Count(u64),
    Number(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Value::Count(count)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Value::Count(count.into())
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Value::Count(count as u64)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Count(flag.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Number(number)
    }
}

/// The text in the making.
#[derive(Debug)]
pub(super) struct Text {
    out: Vec<u8>,
    /// The part of a line before its value, kept for the buckets of a histogram.
    labels: Vec<u8>,
    bounds: Vec<String>,
}

impl Default for Text {
    fn default() -> Self {
        let bounds = BUCKET_BOUNDS_MICROS
            .iter()
            .map(|micros| Duration::from_micros(*micros).as_secs_f64().to_string())
            .chain(["+Inf".to_owned()])
            .collect();
        Text { out: Vec::new(), labels: Vec::new(), bounds }
    }
}

impl Text {
    /// Begins a family. Each may begin once only.
    pub(super) fn family<'a>(&'a mut self, family: &'a Family) -> Samples<'a> {
        let Family { name, kind, help, .. } = family;
        // Writing to a vector cannot fail.
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Samples { text: self, family }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// The samples of one family. Label values are given in the order in which the family names them.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    text: &'a mut Text,
    family: &'a Family,
}

impl Samples<'_> {
    pub(super) fn add(&mut self, values: &[&str], value: impl Into<Value>) {
        self.prepare(values);
        let Text { out, labels, .. } = &mut *self.text;
        line(out, self.family.name, "", labels, None, value.into());
    }

    pub(super) fn add_histogram(&mut self, values: &[&str], sum: &HistogramSum) {
        self.prepare(values);
        let Text { out, labels, bounds } = &mut *self.text;
        let name = self.family.name;
        let mut count = 0;
        for (bucket, bound) in sum.buckets.iter().zip(bounds) {
            count += bucket;
            line(out, name, "_bucket", labels, Some(bound), count.into());
        }
        let seconds = sum.sum_micros as f64 / 1e6;
        line(out, name, "_sum", labels, None, seconds.into());
        line(out, name, "_count", labels, None, count.into());
    }

    fn prepare(&mut self, values: &[&str]) {
        debug_assert_eq!(values.len(), self.family.labels.len(), "labels of {}", self.family.name);
        let labels = &mut self.text.labels;
        labels.clear();
        for (name, value) in self.family.labels.iter().zip(values) {
            if !labels.is_empty() {
                labels.push(b',');
            }
            labels.extend_from_slice(name.as_bytes());
            labels.extend_from_slice(b"=\"");
            escape(value, labels);
            labels.push(b'"');
        }
    }
}

fn line(
    out: &mut Vec<u8>,
    name: &str,
    suffix: &str,
    labels: &[u8],
    bound: Option<&String>,
    value: Value,
) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    if !labels.is_empty() || bound.is_some() {
        out.push(b'{');
        out.extend_from_slice(labels);
        if let Some(bound) = bound {
            out.extend_from_slice(if labels.is_empty() { b"le=\"" } else { b",le=\"" });
            out.extend_from_slice(bound.as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.push(b' ');
    match value {
        Value::Count(count) => out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes()),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
        }
    }
    out.push(b'\n');
}

fn escape(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

/// The codes that occurred, as label values, and how often.
pub(super) fn code_counts<'a>(
    cells: impl IntoIterator<Item = &'a CodeCounters>,
) -> impl Iterator<Item = (String, u64)> {
    let mut sums = [0; CODES.len() + 1];
    cells.into_iter().for_each(|cell| cell.add_to(&mut sums));
    sums.into_iter().enumerate().filter(|(_, count)| *count > 0).map(|(index, count)| {
        let code = CODES.get(index).map_or_else(|| "other".to_owned(), u16::to_string);
        (code, count)
    })
}
