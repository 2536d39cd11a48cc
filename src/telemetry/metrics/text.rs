//! The text format of Prometheus: families of samples, each with its help and type.
//!
//! It is written at once, sample by sample, and passed on piece by piece: thousands of backends make
//! tens of megabytes, which need not be in memory together.

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::state::counters::{BUCKET_BOUNDS_MICROS, CODES, CodeCounters, HistogramSum};

/// The text is passed on in pieces of about this size, in bytes.
const PIECE: usize = 64 * 1024;

/// Declares a metric.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

pub(super) const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Counter, labels, help }
}

pub(super) const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Gauge, labels, help }
}

pub(super) const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Histogram, labels, help }
}

/// The value of a sample.
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
pub(super) struct Text<'a> {
    piece: String,
    pass_on: &'a mut dyn FnMut(&str),
    /// The bounds of the buckets as label values.
    bounds: Vec<String>,
}

impl<'a> Text<'a> {
    pub(super) fn new(pass_on: &'a mut dyn FnMut(&str)) -> Self {
        let seconds = |micros| Duration::from_micros(micros).as_secs_f64().to_string();
        let bounds = BUCKET_BOUNDS_MICROS.into_iter().map(seconds).collect();
        Text { piece: String::new(), pass_on, bounds }
    }

    /// Begins a family. Each may begin once only; one without samples is left out.
    pub(super) fn family<'t>(&'t mut self, family: &'t Family) -> Samples<'t, 'a> {
        Samples { text: self, family, is_begun: false }
    }

    pub(super) fn finish(mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        (self.pass_on)(&self.piece);
        self.piece.clear();
    }
}

/// The samples of one family. Label values are given in the order in which the family names them.
pub(super) struct Samples<'t, 'a> {
    text: &'t mut Text<'a>,
    family: &'t Family,
    is_begun: bool,
}

impl Samples<'_, '_> {
    pub(super) fn add(&mut self, values: &[&str], value: impl Into<Value>) {
        match value.into() {
            Value::Count(count) => {
                self.sample("", values, None, itoa::Buffer::new().format(count));
            }
            Value::Number(number) => self.sample("", values, None, number),
        }
    }

    pub(super) fn add_histogram(&mut self, values: &[&str], sum: &HistogramSum) {
        let (mut number, mut observed) = (itoa::Buffer::new(), 0);
        for (index, bucket) in sum.buckets.iter().enumerate() {
            observed += bucket;
            self.sample("_bucket", values, Some(index), number.format(observed));
        }
        self.sample("_sum", values, None, Duration::from_micros(sum.sum_micros).as_secs_f64());
        self.sample("_count", values, None, number.format(observed));
    }

    /// Writes a sample; `bucket` is the index of the histogram's bucket that it is of.
    fn sample(
        &mut self,
        suffix: &str,
        values: &[&str],
        bucket: Option<usize>,
        value: impl Display,
    ) {
        self.begin();
        let Family { name, labels, .. } = self.family;
        debug_assert_eq!(values.len(), labels.len(), "labels of {name}");
        let Text { piece, bounds, .. } = &mut *self.text;
        piece.push_str(name);
        piece.push_str(suffix);
        let bound = bucket.map(|index| bounds.get(index).map_or("+Inf", String::as_str));
        let labels = labels.iter().zip(values).map(|(name, value)| (*name, *value));
        let mut before = '{';
        for (label, value) in labels.chain(bound.map(|bound| ("le", bound))) {
            piece.push(before);
            piece.push_str(label);
            piece.push_str("=\"");
            escape(piece, value);
            piece.push('"');
            before = ',';
        }
        if before == ',' {
            piece.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(piece, " {value}");
        if piece.len() >= PIECE {
            self.text.flush();
        }
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        let Family { name, kind, help, .. } = self.family;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Help is our own, one line without backslashes. Writing to a String cannot fail.
        let _ = writeln!(self.text.piece, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
}

/// A label value with what would end it, or its line, escaped.
fn escape(out: &mut String, value: &str) {
    if !value.bytes().any(|byte| matches!(byte, b'"' | b'\\' | b'\n')) {
        return out.push_str(value);
    }
    for character in value.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
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
