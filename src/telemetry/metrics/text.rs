//! The text format of Prometheus: families of samples, each with its help and type.
//!
//! The `prometheus` crate encodes; this is the little that makes declaring and filling a family a
//! line each. A family is encoded some samples at a time, and each piece is passed on: thousands of
//! backends make tens of megabytes, which need not be in memory together.

use std::time::Duration;

use prometheus::TextEncoder;
use prometheus::proto::{self, Bucket, LabelPair, Metric, MetricFamily, MetricType};

use crate::state::counters::{BUCKET_BOUNDS_MICROS, CODES, CodeCounters, HistogramSum};

/// Samples that are encoded and passed on together.
const BATCH: usize = 256;
/// What the encoder says before the samples of a family: `# HELP` and `# TYPE`, a line each.
const HEAD_LINES: usize = 2;

/// Declares a metric.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    help: &'static str,
}

pub(super) const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: MetricType::COUNTER, labels, help }
}

pub(super) const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: MetricType::GAUGE, labels, help }
}

pub(super) const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind: MetricType::HISTOGRAM, labels, help }
}

/// The value of a sample: a float, as Prometheus has it; counts are exact up to 2^53.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value(f64);

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Value(count as f64)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Value(count.into())
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Value(count as f64)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value(flag.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value(number)
    }
}

/// The text in the making.
pub(super) struct Text<'a> {
    piece: String,
    pass_on: &'a mut dyn FnMut(&str),
    /// The family that is being filled, with the samples that were not passed on yet.
    open: MetricFamily,
    /// Its first samples, and its help and type, were passed on.
    is_begun: bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(pass_on: &'a mut dyn FnMut(&str)) -> Self {
        Text { piece: String::new(), pass_on, open: MetricFamily::default(), is_begun: false }
    }

    /// Begins a family. Each may begin once only; one without samples is left out.
    pub(super) fn family<'t>(&'t mut self, family: &'t Family) -> Samples<'t, 'a> {
        self.pass();
        self.is_begun = false;
        self.open.set_name(family.name.to_owned());
        self.open.set_help(family.help.to_owned());
        self.open.set_field_type(family.kind);
        Samples { text: self, family }
    }

    pub(super) fn finish(mut self) {
        self.pass();
    }

    /// Encodes the samples that are there, and passes them on.
    fn pass(&mut self) {
        if self.open.get_metric().is_empty() {
            return;
        }
        self.piece.clear();
        // It fails only for families without samples or with a name that is none.
        let encoded =
            TextEncoder::new().encode_utf8(std::slice::from_ref(&self.open), &mut self.piece);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
        self.open.mut_metric().clear();
        // Help and type are said once.
        let said = if std::mem::replace(&mut self.is_begun, true) { HEAD_LINES } else { 0 };
        let samples = self.piece.splitn(said + 1, '\n').last().unwrap_or_default();
        (self.pass_on)(samples);
    }
}

/// The samples of one family. Label values are given in the order in which the family names them.
pub(super) struct Samples<'t, 'a> {
    text: &'t mut Text<'a>,
    family: &'t Family,
}

impl Samples<'_, '_> {
    pub(super) fn add(&mut self, values: &[&str], value: impl Into<Value>) {
        let mut metric = self.labelled(values);
        let Value(value) = value.into();
        if self.family.kind == MetricType::COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.push(metric);
    }

    pub(super) fn add_histogram(&mut self, values: &[&str], sum: &HistogramSum) {
        let mut metric = self.labelled(values);
        let mut count = 0;
        let buckets = sum.buckets.iter().zip(BUCKET_BOUNDS_MICROS).map(|(observed, micros)| {
            count += observed;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(Duration::from_micros(micros).as_secs_f64());
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(sum.count());
        histogram.set_sample_sum(Duration::from_micros(sum.sum_micros).as_secs_f64());
        metric.set_histogram(histogram);
        self.push(metric);
    }

    fn push(&mut self, metric: Metric) {
        self.text.open.mut_metric().push(metric);
        if self.text.open.get_metric().len() >= BATCH {
            self.text.pass();
        }
    }

    fn labelled(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(values.len(), self.family.labels.len(), "labels of {}", self.family.name);
        let labels = self.family.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        Metric::from_label(labels.collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_family_is_passed_on_in_pieces_and_introduced_once() {
        const LARGE: Family = counter("large_total", &["n"], "Many samples.");
        let mut pieces = Vec::new();
        let mut pass_on = |piece: &str| pieces.push(piece.to_owned());
        let mut text = Text::new(&mut pass_on);
        let mut samples = text.family(&LARGE);
        (0..2 * BATCH + 1).for_each(|n| samples.add(&[&n.to_string()], n));
        text.finish();
        assert_eq!(pieces.len(), 3);
        let lines: Vec<&str> = pieces.iter().flat_map(|piece| piece.lines()).collect();
        assert_eq!(lines[..2], ["# HELP large_total Many samples.", "# TYPE large_total counter"]);
        let samples = (0..2 * BATCH + 1).map(|n| format!("large_total{{n=\"{n}\"}} {n}"));
        assert!(samples.eq(lines[2..].iter().copied()));
    }
}
