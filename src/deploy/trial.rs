//! One test of a version: the evidence against it, and which of its backends the evidence is from.
//!
//! What the backends did is counted twice: over the whole watch, and over the *stretch* since the
//! last time when nothing spoke against the version (where a CUSUM of the mildest alternative was
//! zero). Only the stretch can say whether a fault at minute nine is that of one backend or of the
//! version: over the whole watch it would drown in good samples.

use std::sync::Arc;
use std::time::Duration;

use super::evidence::{ALTERNATIVES, Evidence};
use super::sample::{BackendSample, Measure, Tally};
use super::statistics::at_most_by_chance;

/// From this share on nothing can be told: the old version was failing itself.
pub(super) const HOPELESS: f64 = 0.5;

/// Bad samples below which nothing is decided.
const MIN_BAD: u64 = 5;

/// Bad samples that the other backends must show before the version is blamed.
const MIN_BAD_ELSEWHERE: u64 = 3;

/// A likelihood ratio of 100, as a logarithm: the other backends are clearly bad as well, so one that
/// is much worse is not all there is to it.
const CLEAR: f64 = 4.6;

/// How likely it may be that a backend is blamed which is no worse than the others.
const BLAME_ALPHA: f64 = 0.02;

/// What a test says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Nothing against the version, or not enough.
    Fine,
    /// The evidence is there, but it is not clear yet whether it is one backend's.
    Unclear,
    /// The version is bad.
    Version,
    /// This backend is bad, the others are not.
    Backend(Arc<str>),
}

#[derive(Clone, Debug)]
struct Part {
    backend: Arc<str>,
    usable: bool,
    /// It was blamed: its samples are no part of the test any more.
    left: bool,
    whole: Tally,
    stretch: Tally,
}

/// A running test.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    measure: Measure,
    evidence: Evidence,
    p0: f64,
    parts: Vec<Part>,
    cusum: f64,
    /// When the present stretch began, and how the evidence was then.
    stretch_began: Duration,
    before: [f64; ALTERNATIVES],
}

impl Trial {
    pub(super) fn new(now: Duration, measure: Measure, p0: f64, evidence: Evidence) -> Self {
        let before = evidence.accounts();
        Self { measure, evidence, p0, parts: Vec::new(), cusum: 0.0, stretch_began: now, before }
    }

    pub(super) fn measure(&self) -> Measure {
        self.measure
    }

    pub(super) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The share that is accepted at present.
    pub(super) fn p0(&self) -> f64 {
        self.p0
    }

    /// Samples over the whole watch.
    pub(super) fn whole(&self) -> Tally {
        sum(self.taking_part().map(|part| part.whole))
    }

    /// Samples since things began to look bad.
    pub(super) fn stretch(&self) -> Tally {
        sum(self.taking_part().map(|part| part.stretch))
    }

    /// When things began to look bad.
    pub(super) fn stretch_began(&self) -> Duration {
        self.stretch_began
    }

    /// What a backend showed in the stretch.
    pub(super) fn stretch_of(&self, backend: &str) -> Tally {
        let part = self.parts.iter().find(|part| &*part.backend == backend);
        part.map(|part| part.stretch).unwrap_or_default()
    }

    /// Takes the samples since the last look. Nothing is learned from them where `p0` is hopeless.
    pub(super) fn update(&mut self, now: Duration, p0: f64, samples: &[BackendSample]) {
        self.parts.iter_mut().for_each(|part| part.usable = false);
        let mut all = Tally::default();
        let learn = p0 < HOPELESS;
        for (hint, sample) in samples.iter().enumerate() {
            let tally = self.measure.of(&sample.counts);
            let part = self.part(hint, &sample.backend);
            part.usable = sample.usable;
            part.whole += tally;
            if learn && !part.left {
                part.stretch += tally;
                all += tally;
            }
        }
        self.p0 = p0;
        let gain = if learn { self.evidence.update(now, p0, all) } else { 0.0 };
        self.cusum = (self.cusum + gain).max(0.0);
        if self.cusum == 0.0 {
            self.end_stretch(now);
        }
    }

    /// What it says now, if verdicts need `min_requests`.
    pub(super) fn call(&self, min_requests: u64) -> Call {
        let whole = self.whole();
        if !self.evidence.is_enough() || whole.n < min_requests || whole.bad < MIN_BAD {
            return Call::Fine;
        }
        let Some(worst) = self.taking_part().max_by_key(|part| part.stretch.bad) else {
            return Call::Fine;
        };
        let others = self.taking_part().filter(|part| !Arc::ptr_eq(&part.backend, &worst.backend));
        let serving = others.clone().filter(|part| part.usable || part.stretch.n > 0).count();
        let served = others.clone().any(|part| part.whole.n > 0);
        let rest = sum(others.map(|part| part.stretch));
        if serving == 0 || !served {
            return Call::Version;
        }
        let excess = if rest.bad >= MIN_BAD_ELSEWHERE { excess(rest, self.p0) } else { 0.0 };
        if excess >= CLEAR {
            return Call::Version;
        }
        let chance = at_most_by_chance(rest.bad, rest.n, worst.stretch.bad, worst.stretch.n);
        if chance * (serving + 1) as f64 <= BLAME_ALPHA {
            return Call::Backend(Arc::clone(&worst.backend));
        }
        if excess > 0.0 { Call::Version } else { Call::Unclear }
    }

    /// Takes a backend's samples out of the test for good.
    pub(super) fn leave_out(&mut self, now: Duration, backend: &str) {
        if let Some(part) = self.parts.iter_mut().find(|part| &*part.backend == backend) {
            part.left = true;
        }
        self.forget_stretch(now);
    }

    /// Takes back what the stretch brought: its cause was found elsewhere.
    pub(super) fn forget_stretch(&mut self, now: Duration) {
        self.evidence.go_back(self.before);
        self.cusum = 0.0;
        self.end_stretch(now);
    }

    fn end_stretch(&mut self, now: Duration) {
        self.parts.iter_mut().for_each(|part| part.stretch = Tally::default());
        self.stretch_began = now;
        self.before = self.evidence.accounts();
    }

    fn taking_part(&self) -> impl Iterator<Item = &Part> + Clone {
        self.parts.iter().filter(|part| !part.left)
    }

    /// The part of this backend, which most likely stands at `hint`.
    fn part(&mut self, hint: usize, backend: &Arc<str>) -> &mut Part {
        let is_it = |part: &Part| part.backend == *backend;
        let index = match self.parts.get(hint) {
            Some(part) if is_it(part) => hint,
            _ => self.parts.iter().position(is_it).unwrap_or_else(|| {
                let (whole, stretch) = (Tally::default(), Tally::default());
                let backend = Arc::clone(backend);
                self.parts.push(Part { backend, usable: false, left: false, whole, stretch });
                self.parts.len() - 1
            }),
        };
        &mut self.parts[index]
    }
}

/// How much likelier this is with its own share of bad samples than with `p0`, as a logarithm; zero
/// if its share is not above `p0`.
fn excess(tally: Tally, p0: f64) -> f64 {
    let share = tally.share();
    if share <= p0 {
        return 0.0;
    }
    let good = (tally.n - tally.bad) as f64;
    let of_good = if good > 0.0 { good * ((1.0 - share) / (1.0 - p0)).ln() } else { 0.0 };
    tally.bad as f64 * (share / p0).ln() + of_good
}

fn sum(tallies: impl Iterator<Item = Tally>) -> Tally {
    let mut sum = Tally::default();
    tallies.for_each(|tally| sum += tally);
    sum
}
