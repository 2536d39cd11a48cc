//! The verdict on a new version: two tests, the control beside them, and the health of its backends.
//!
//! It may be asked as often as one likes, decides fast when a version is plainly bad, and stays
//! silent when there is little to go by: silence is never held against a version.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::concurrent::{Comparison, Concurrent};
use super::evidence::Evidence;
use super::history::Baseline;
use super::message::Doubt;
use super::rules::Rules;
use super::sample::{BackendSample, Counts, Measure, Tally};
use super::statistics::share_interval;
use super::trial::{Call, HOPELESS, Trial};
use super::words::{Percent, Words, plural};

/// The error of the comparison with the control, as a share of that of the verdict: it is looked at
/// again and again while a suspicion stands.
const CONTROL_ALPHA: f64 = 0.25;

/// Share of responses above the 95th percentile, by its definition.
const SLOW: f64 = 0.05;

/// What the verdict is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing, or not enough, against the version.
    Fit,
    /// There is evidence, but it is not clear yet that the version is to blame. In words.
    Unclear(String),
    /// One backend is to blame. It is to be ejected; its samples have left the tests.
    Lone {
        /// Which.
        backend: Arc<str>,
        /// What it showed, in words.
        why: String,
    },
    /// The version looks bad, but the old one's share of the traffic cannot tell yet. In words. The
    /// old version is to be probed, as with `Bad`.
    Suspect(String),
    /// The version is bad, unless the old one fails as well: it is to be probed before going back.
    Bad(Fault),
}

/// Why a version is bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The test that says so; `None`: the health of its backends.
    pub measure: Option<Measure>,
    /// In words.
    pub words: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// The state of one test, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// What it looks at.
    pub measure: Measure,
    /// Why there is no verdict from it; `None`: it judges.
    pub not_judged: Option<String>,
    /// Samples, without those of backends that were blamed.
    pub n: u64,
    /// The bad ones.
    pub bad: u64,
    /// The share of bad ones: a 95 % interval that may be looked at at any time.
    pub interval: (f64, f64),
    /// The share that is accepted.
    pub accepted: f64,
    /// Where that comes from, in words.
    pub accepted_from: String,
    /// The evidence that the share is higher ...
    pub evidence: f64,
    /// ... and what a verdict needs.
    pub threshold: f64,
}

/// The running judgement of one version.
#[derive(Clone, Debug)]
pub struct Verdict {
    rules: Rules,
    baseline: Baseline,
    errors: Trial,
    latency: Option<Trial>,
    limit: Result<Duration, String>,
    /// The old version beside it, while that takes a share.
    control: Option<Concurrent>,
    /// Since when each test had enough evidence.
    suspected: [Option<Duration>; 2],
    blamed: BTreeSet<Arc<str>>,
    excused: bool,
}

impl Verdict {
    /// A judgement that begins at `now` and goes on for `horizon`, beside this old version.
    #[must_use]
    pub fn new(now: Duration, horizon: Duration, rules: Rules, baseline: Baseline) -> Self {
        let evidence = || Evidence::new(now, horizon, rules.confidence);
        let before = Tally { n: baseline.requests, bad: baseline.failed };
        let p0 = rules.accepted(before, Tally::default());
        let limit = rules.latency_limit(&baseline);
        let latency = limit.is_ok().then(|| Trial::new(now, Measure::Latency, SLOW, evidence()));
        Self {
            rules,
            baseline,
            errors: Trial::new(now, Measure::Errors, p0, evidence()),
            latency,
            limit,
            control: None,
            suspected: [None; 2],
            blamed: BTreeSet::new(),
            excused: false,
        }
    }

    /// What counts as too slow; `None`: nothing does.
    #[must_use]
    pub fn latency_limit(&self) -> Option<Duration> {
        self.limit.as_ref().ok().copied()
    }

    /// Takes what the backends of the new version did since the last look, which is best 250 ms ago,
    /// and says what follows. `old` is what the old version did, while it takes a share of the
    /// traffic.
    pub fn observe(
        &mut self,
        now: Duration,
        new: &[BackendSample],
        old: Option<Counts>,
    ) -> Finding {
        let mut all = Counts::default();
        new.iter().filter(|s| !self.blamed.contains(&s.backend)).for_each(|s| all += s.counts);
        match old {
            Some(old) => self.control.get_or_insert_default().add(now, all, old),
            None => self.control = None,
        }
        if self.excused {
            return Finding::Fit;
        }
        let before = Tally { n: self.baseline.requests, bad: self.baseline.failed };
        let p0 = self.rules.accepted(before, self.meanwhile());
        self.errors.update(now, p0, new);
        if let Some(latency) = &mut self.latency {
            latency.update(now, SLOW, new);
        }
        self.finding(now, new)
    }

    /// Whether the old version was found failing as well. As long as it is, nothing is learned of
    /// the new one; what looked like its fault is taken back, and it will take fresh evidence to
    /// suspect it again.
    pub fn set_excused(&mut self, now: Duration, excused: bool) {
        self.excused = excused;
        if excused {
            self.forgive(now);
        }
    }

    /// Whether nothing is learned of the new version at present.
    #[must_use]
    pub fn is_excused(&self) -> bool {
        self.excused
    }

    fn forgive(&mut self, now: Duration) {
        self.suspected = [None; 2];
        self.trials().for_each(|trial| trial.forget_stretch(now));
    }

    /// Samples over the whole watch, without those of blamed backends.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.errors.whole().n
    }

    /// Why it cannot say whether the version is fit, if it cannot, also in words.
    #[must_use]
    pub fn undecided(&self) -> Option<(Doubt, String)> {
        let Tally { n, bad } = self.errors.whole();
        if n < self.rules.min_requests {
            let (seen, least) = (plural(n, "request"), self.rules.min_requests);
            let why = format!("{seen}, {bad} failed; a verdict takes {least}");
            let doubt = if bad == 0 { Doubt::FewRequests } else { Doubt::FewFailed };
            return Some((doubt, why));
        }
        self.errors_not_judged().map(|why| (Doubt::OldFailing, why))
    }

    /// Both tests as they stand.
    #[must_use]
    pub fn tests(&self) -> Vec<TestReport> {
        let errors = report(&self.errors, self.errors_not_judged(), self.accepted_from());
        let Some(latency) = &self.latency else { return vec![errors] };
        let limit = self.latency_limit().unwrap_or_default();
        let from = format!("slower than {}, from the old version's p95", Words(limit));
        vec![errors, report(latency, None, from)]
    }

    /// Why latency is not judged, if it is not. In words.
    #[must_use]
    pub fn latency_not_judged(&self) -> Option<&str> {
        self.limit.as_ref().err().map(String::as_str)
    }

    fn trials(&mut self) -> impl Iterator<Item = &mut Trial> {
        std::iter::once(&mut self.errors).chain(&mut self.latency)
    }

    fn finding(&mut self, now: Duration, new: &[BackendSample]) -> Finding {
        if let Some(fault) = unhealthy(new) {
            return Finding::Bad(fault);
        }
        let mut unclear = None;
        for slot in 0..self.suspected.len() {
            let trial = if slot == 0 { Some(&self.errors) } else { self.latency.as_ref() };
            let Some(trial) = trial else { continue };
            let call = trial.call(self.rules.min_requests);
            if call == Call::Fine {
                self.suspected[slot] = None;
                continue;
            }
            let since = *self.suspected[slot].get_or_insert(now);
            match self.weigh(now, trial, call, since) {
                Weighed::Is(finding) => return self.follow(now, finding),
                Weighed::Shared(words) => {
                    self.forgive(now);
                    return Finding::Unclear(words);
                }
                Weighed::Open(words) => unclear = Some(words),
            }
        }
        unclear.map_or(Finding::Fit, Finding::Unclear)
    }

    /// What the call of a test means beside the control.
    fn weigh(&self, now: Duration, trial: &Trial, call: Call, since: Duration) -> Weighed {
        let measure = trial.measure();
        match call {
            Call::Fine | Call::Unclear => {
                Weighed::Open(format!("{}: one backend or the version?", self.words(now, trial)))
            }
            Call::Backend(backend) => {
                let why = backend_words(trial, &backend);
                Weighed::Is(Finding::Lone { backend, why })
            }
            Call::Version => match self.compare(now, trial, since) {
                Comparison::Worse => {
                    let words = self.words(now, trial);
                    Weighed::Is(Finding::Bad(Fault { measure: Some(measure), words }))
                }
                Comparison::Shared => Weighed::Shared(format!(
                    "{}, but the old version does as badly",
                    self.words(now, trial)
                )),
                Comparison::Unclear => Weighed::Is(Finding::Suspect(format!(
                    "{}; the old version's share is too small yet to compare with",
                    self.words(now, trial)
                ))),
                Comparison::Over => Weighed::Shared(format!(
                    "{}, but not any more, and the old version's share could not tell why",
                    self.words(now, trial)
                )),
            },
        }
    }

    fn compare(&self, now: Duration, trial: &Trial, since: Duration) -> Comparison {
        let Some(control) = &self.control else { return Comparison::Worse };
        let alpha = (1.0 - self.rules.confidence) * CONTROL_ALPHA;
        control.compare(now, trial.measure(), (trial.p0(), alpha), since)
    }

    /// Errors of the old version in the last half minute, if it takes a share.
    fn meanwhile(&self) -> Tally {
        self.control.as_ref().map(|control| control.old(Measure::Errors)).unwrap_or_default()
    }

    fn follow(&mut self, now: Duration, finding: Finding) -> Finding {
        if let Finding::Lone { backend, .. } = &finding {
            self.blamed.insert(Arc::clone(backend));
            self.suspected = [None; 2];
            self.trials().for_each(|trial| trial.leave_out(now, backend));
        }
        finding
    }

    fn words(&self, now: Duration, trial: &Trial) -> String {
        let Tally { n, bad } = trial.stretch();
        let time = Words(now.saturating_sub(trial.stretch_began()));
        let share = Percent(trial.stretch().share());
        let accepted = Percent(trial.p0());
        match trial.measure() {
            Measure::Errors => format!(
                "{bad} of {} failed within {time} ({share}, {accepted} accepted)",
                plural(n, "request")
            ),
            Measure::Latency => format!(
                "{bad} of {} within {time} took longer than {} ({share}, {accepted} accepted)",
                plural(n, "response"),
                Words(self.latency_limit().unwrap_or_default())
            ),
        }
    }

    fn errors_not_judged(&self) -> Option<String> {
        let (Baseline { requests, failed, .. }, meanwhile) = (self.baseline, self.meanwhile());
        (self.errors.p0() >= HOPELESS).then(|| {
            let Tally { n, bad } = meanwhile;
            format!("the old version was failing itself: {failed} of {requests} before, {bad} of {n} in the last half minute")
        })
    }

    fn accepted_from(&self) -> String {
        let Baseline { requests, failed, .. } = self.baseline;
        if self.errors.p0() <= self.rules.error_rate {
            return format!("error_rate; the old version failed {failed} of {requests} before");
        }
        let before = Tally { n: requests, bad: failed };
        let meanwhile = self.meanwhile();
        if self.rules.accepted(before, Tally::default()) < self.errors.p0() {
            return format!(
                "the old version failing {} of {} meanwhile",
                meanwhile.bad, meanwhile.n
            );
        }
        format!("the old version failing {failed} of {requests} before")
    }
}

/// What a call means, if it means something already.
enum Weighed {
    Is(Finding),
    Shared(String),
    Open(String),
}

/// More than half of a version's backends out is the version's fault, whatever the traffic says.
fn unhealthy(new: &[BackendSample]) -> Option<Fault> {
    let out = new.iter().filter(|sample| !sample.usable).count();
    (2 * out > new.len()).then(|| {
        let words = format!("{out} of {} are not usable", plural(new.len() as u64, "backend"));
        Fault { measure: None, words }
    })
}

fn backend_words(trial: &Trial, backend: &str) -> String {
    let Tally { n, bad } = trial.stretch_of(backend);
    let all = trial.stretch();
    let rest = Tally { n: all.n - n, bad: all.bad - bad };
    let did = match trial.measure() {
        Measure::Errors => "failed",
        Measure::Latency => "were too slow",
    };
    format!(
        "{bad} of its {} {did}, of the other backends' {} of {}",
        plural(n, "request"),
        rest.bad,
        rest.n
    )
}

fn report(trial: &Trial, not_judged: Option<String>, accepted_from: String) -> TestReport {
    let Tally { n, bad } = trial.whole();
    TestReport {
        measure: trial.measure(),
        not_judged,
        n,
        bad,
        interval: share_interval(bad, n),
        accepted: trial.p0(),
        accepted_from,
        evidence: trial.evidence().value().min(f64::MAX),
        threshold: trial.evidence().threshold(),
    }
}
