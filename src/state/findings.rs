//! What speaks against a backend and led to nothing, for people: it was to be reported only, or too
//! many were out already.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a finding is worth being shown: while it lasts it comes again every ten seconds.
const FRESH: Duration = Duration::from_secs(15);

/// The findings against one backend. Made rarely, and by the control plane: a lock is fine.
#[derive(Debug, Default)]
pub struct Findings(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<(&'static str, &'static str), u64>,
    latest: Option<(Duration, String)>,
}

impl Findings {
    /// Counts one by what was done (`withheld`, `observed`, `spared`) and by its reason, as words from small
    /// fixed sets, and keeps what it says to people. `at` is the time since the process started.
    pub fn record(&self, at: Duration, done: &'static str, reason: &'static str, words: String) {
        let mut inner = self.lock();
        *inner.counts.entry((done, reason)).or_default() += 1;
        inner.latest = Some((at, words));
    }

    /// The latest one in words, unless it is over.
    pub fn latest(&self, now: Duration) -> Option<String> {
        let inner = self.lock();
        let fresh = |(at, _): &&(Duration, String)| now.saturating_sub(*at) < FRESH;
        inner.latest.as_ref().filter(fresh).map(|(_, words)| words.clone())
    }

    /// The latest one is over: the backend is out, and is judged anew when it comes back. It stays
    /// counted.
    pub fn end(&self) {
        self.lock().latest = None;
    }

    /// How many there were, by what was done and by reason.
    pub fn counts(&self) -> Vec<((&'static str, &'static str), u64)> {
        self.lock().counts.iter().map(|(key, count)| (*key, *count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_shown_while_it_lasts() {
        let findings = Findings::default();
        let second = Duration::from_secs(1);
        findings.record(second, "observed", "latency", "it is slow".into());
        assert_eq!(findings.latest(second * 10).as_deref(), Some("it is slow"));
        assert_eq!(findings.latest(second * 16), None);
        findings.record(second * 20, "observed", "latency", "it is slow".into());
        assert_eq!(findings.counts(), [(("observed", "latency"), 2)]);
    }
}
