//! Series of backends, of all versions.
//!
//! Those of requests begin when a worker first uses the backend: of ten thousand backends many may
//! never be, and they are the larger part of the text. They begin together, at zero where nothing
//! happened, so that `rate` sees what happens from then on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::text::{Family, Text, Value, code_counts};
use crate::balance::Condition;
use crate::state::backend::BackendCells;
use crate::state::counters::{Counter, Histogram, HistogramSum};
use crate::state::{Backend, Snapshot};
use crate::telemetry::metrics as metric;

/// A backend and where it stands.
struct Row {
    version: Arc<str>,
    backend: Arc<Backend>,
}

impl Row {
    /// Whether a worker has counted anything for it.
    fn is_used(&self) -> bool {
        self.backend.cells.cells().next().is_some()
    }

    fn labels(&self) -> [&str; 3] {
        [&self.backend.pool, &self.version, &self.backend.label]
    }

    fn labels_and<'a>(&'a self, last: &'a str) -> [&'a str; 4] {
        let [pool, version, backend] = self.labels();
        [pool, version, backend, last]
    }
}

pub(super) fn write(snapshot: &Snapshot, text: &mut Text<'_>) {
    let rows = rows(snapshot);
    health(&rows, text);
    findings(&rows, text);
    let used: Vec<&Row> = rows.iter().filter(|row| row.is_used()).collect();
    requests(&rows, text);
    traffic(&used, text);
    connections(&rows, text);
}

fn rows(snapshot: &Snapshot) -> Vec<Row> {
    let mut rows = Vec::new();
    for pool in snapshot.pools.values() {
        for share in &pool.state.split.load().shares {
            rows.extend(share.version.members.iter().map(|member| Row {
                version: Arc::clone(&share.version.name),
                backend: Arc::clone(&member.backend),
            }));
        }
    }
    rows
}

fn each<V: Into<Value>>(
    rows: &[Row],
    text: &mut Text<'_>,
    family: &Family,
    value: impl Fn(&Backend) -> V,
) {
    let mut samples = text.family(family);
    for row in rows {
        samples.add(&row.labels(), value(&row.backend));
    }
}

/// As [`each`], with several samples per backend that differ in their last label.
fn each_by<'r, const N: usize>(
    rows: impl IntoIterator<Item = &'r Row>,
    text: &mut Text<'_>,
    family: &Family,
    values: impl Fn(&Backend) -> [(&'static str, u64); N],
) {
    let mut samples = text.family(family);
    for row in rows {
        for (label, value) in values(&row.backend) {
            samples.add(&row.labels_and(label), value);
        }
    }
}

fn total(backend: &Backend, counter: impl Fn(&BackendCells) -> &Counter) -> u64 {
    backend.cells.sum(|cells| counter(cells).get())
}

fn health(rows: &[Row], text: &mut Text<'_>) {
    each(rows, text, &metric::BACKEND_UP, |backend| backend.health().is_well());
    each_by(rows, text, &metric::BACKEND_STATE, |backend| {
        let condition = backend.condition();
        Condition::ALL.map(|each| (each.label(), u64::from(each == condition)))
    });
    each_by(rows, text, &metric::BACKEND_BREAKER, |backend| {
        let state = backend.circuit();
        ["closed", "open", "half_open"].map(|each| (each, u64::from(each == state)))
    });
    each(rows, text, &metric::BACKEND_WEIGHT_RATIO, Backend::weight_ratio);
    each_by(rows, text, &metric::BACKEND_CHECKS, |backend| {
        [("pass", backend.probes.passed.get()), ("fail", backend.probes.failed.get())]
    });
    let mut samples = text.family(&metric::BACKEND_CHECK_DURATION);
    for row in rows {
        let mut sum = HistogramSum::default();
        row.backend.probes.duration.add_to(&mut sum);
        samples.add_histogram(&row.labels(), &sum);
    }
    let mut samples = text.family(&metric::BACKEND_TRANSITIONS);
    for row in rows {
        let [pool, version, backend] = row.labels();
        for (key, count) in row.backend.transitions.counts() {
            samples.add(&[pool, version, backend, key.from, key.to, key.reason], count);
        }
    }
    let mut samples = text.family(&metric::BACKEND_EJECTIONS);
    for row in rows {
        for (reason, count) in ejections(&row.backend) {
            samples.add(&row.labels_and(reason), count);
        }
    }
}

fn findings(rows: &[Row], text: &mut Text<'_>) {
    let mut samples = text.family(&metric::BACKEND_FINDINGS);
    for row in rows {
        let [pool, version, backend] = row.labels();
        for ((action, reason), count) in row.backend.findings.counts() {
            samples.add(&[pool, version, backend, action, reason], count);
        }
    }
}

/// By reason, from whichever state.
fn ejections(backend: &Backend) -> BTreeMap<&'static str, u64> {
    let mut ejections = BTreeMap::new();
    for (key, count) in backend.transitions.counts() {
        if key.to == Condition::Ejected.label() {
            *ejections.entry(key.reason).or_default() += count;
        }
    }
    ejections
}

fn requests(rows: &[Row], text: &mut Text<'_>) {
    let mut samples = text.family(&metric::BACKEND_REQUESTS);
    for row in rows {
        let codes = row.backend.cells.cells().map(|cells| &cells.codes);
        for (code, count) in code_counts(codes) {
            samples.add(&row.labels_and(&code), count);
        }
    }
    each(rows, text, &metric::BACKEND_IN_FLIGHT, Backend::in_flight);
}

/// What comes of requests. Not in here are connections, which are opened without any too.
fn traffic(used: &[&Row], text: &mut Text<'_>) {
    for (family, select) in [
        (&metric::BACKEND_DURATION, (|cells| &cells.duration) as fn(&BackendCells) -> &Histogram),
        (&metric::BACKEND_HEAD, |cells| &cells.head),
    ] {
        let mut samples = text.family(family);
        for row in used {
            let mut sum = HistogramSum::default();
            row.backend.cells.cells().for_each(|cells| select(cells).add_to(&mut sum));
            samples.add_histogram(&row.labels(), &sum);
        }
    }
    each_by(used.iter().copied(), text, &metric::BACKEND_RETRIES, |backend| {
        [
            ("connect", total(backend, |cells| &cells.retries.connect)),
            ("reset", total(backend, |cells| &cells.retries.reset)),
            ("refused_stream", total(backend, |cells| &cells.retries.refused_stream)),
            ("timeout", total(backend, |cells| &cells.retries.timeout)),
            ("rescued", total(backend, |cells| &cells.retries.rescued)),
            ("status", total(backend, |cells| &cells.retries.status)),
        ]
    });
    each_by(used.iter().copied(), text, &metric::BACKEND_TIMEOUTS, |backend| {
        [
            ("connect_timeout", total(backend, |cells| &cells.timeouts.connect)),
            ("response_timeout", total(backend, |cells| &cells.timeouts.response)),
            ("body_idle_timeout", total(backend, |cells| &cells.timeouts.body_idle)),
            ("tunnel_idle_timeout", total(backend, |cells| &cells.timeouts.tunnel_idle)),
            ("route_timeout", total(backend, |cells| &cells.timeouts.route)),
        ]
    });
    each_by(used.iter().copied(), text, &metric::BACKEND_BYTES, |backend| {
        [
            ("received", total(backend, |cells| &cells.bytes_in)),
            ("sent", total(backend, |cells| &cells.bytes_out)),
        ]
    });
}

fn connections(rows: &[Row], text: &mut Text<'_>) {
    // The two counters of a difference are not read at the same moment.
    let open = |backend: &Backend| {
        let closed = total(backend, |cells| &cells.closes);
        total(backend, |cells| &cells.connects).saturating_sub(closed)
    };
    each_by(rows, text, &metric::BACKEND_CONNECTIONS, |backend| {
        let taken = total(backend, |cells| &cells.idle_out);
        let idle = total(backend, |cells| &cells.idle_in).saturating_sub(taken);
        [("active", open(backend).saturating_sub(idle)), ("idle", idle)]
    });
    each(rows, text, &metric::BACKEND_CONNECTS, |backend| total(backend, |cells| &cells.connects));
    each(rows, text, &metric::BACKEND_CONNECT_ERRORS, |backend| {
        total(backend, |cells| &cells.connect_errors)
    });
    each(rows, text, &metric::BACKEND_REUSES, |backend| total(backend, |cells| &cells.reuses));
    each(rows, text, &metric::BACKEND_STALE, |backend| total(backend, |cells| &cells.stale));
    each(rows, text, &metric::BACKEND_MALFORMED, |backend| {
        total(backend, |cells| &cells.malformed)
    });
    each(rows, text, &metric::TUNNELS, Backend::tunnels);
}
