//! The text format of Prometheus: families of samples, each with its help and type.
//!
//! The `prometheus` crate encodes; this is the little that makes declaring and filling a family a
//! line each. A family is encoded as soon as it is complete, so that thousands of backends need the
//! memory of one family and not of all.

use std::time::Duration;

use prometheus::TextEncoder;
use prometheus::proto::{self, Bucket, LabelPair, Metric, MetricFamily, MetricType};

use crate::state::counters::{BUCKET_BOUNDS_MICROS, CODES, CodeCounters, HistogramSum};

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
#[derive(Debug, Default)]
pub(super) struct Text {
    out: String,
    /// The family that is being filled.
    open: MetricFamily,
}

impl Text {
    /// Begins a family. Each may begin once only.
    pub(super) fn family<'a>(&'a mut self, family: &'a Family) -> Samples<'a> {
        self.encode();
        self.open.set_name(family.name.to_owned());
        self.open.set_help(family.help.to_owned());
        self.open.set_field_type(family.kind);
        Samples { metrics: self.open.mut_metric(), family }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.encode();
        self.out.into_bytes()
    }

    /// Writes the open family; one without samples is left out.
    fn encode(&mut self) {
        let family = std::mem::take(&mut self.open);
        if !family.get_metric().is_empty() {
            // It fails only for families without samples or with a name that is none.
            let encoded = TextEncoder::new().encode_utf8(&[family], &mut self.out);
            debug_assert!(encoded.is_ok(), "{encoded:?}");
        }
    }
}

/// The samples of one family. Label values are given in the order in which the family names them.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    metrics: &'a mut Vec<Metric>,
    family: &'a Family,
}

impl Samples<'_> {
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
        self.metrics.push(metric);
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
        self.metrics.push(metric);
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
