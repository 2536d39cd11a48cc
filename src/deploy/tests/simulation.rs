//! A seeded simulation of watches, with the real code of the verdict: Poisson arrivals over the
//! backends of a version, failures and log-normal latencies. Used by the tests and by the bench
//! `verdict`, which prints the tables.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::deploy::{BackendSample, Baseline, Counts, Figures, Finding, Latencies, Rules, Verdict};

/// The rules that the configuration has by default.
pub const RULES: Rules = Rules {
    min_requests: 20,
    error_rate: 0.01,
    error_rate_factor: 2.0,
    latency_factor: Some(3.0),
    latency_floor: Duration::from_millis(100),
    confidence: 0.999,
};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(250);
/// Looks that precede the first latency sample.
const GRACE: u32 = 12;
/// Logarithm of the median latency in seconds, and the spread around it.
const MEDIAN: f64 = -3.9;
const SPREAD: f64 = 0.5;

/// Whom a trouble strikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Whom {
    /// All backends of the new version.
    Version,
    /// One of them.
    Backend,
    /// Both versions.
    Both,
}

/// Something that makes requests fail for a while.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Whom it strikes.
    pub whom: Whom,
    /// Looks after the switch when it begins; `None`: anywhere in the watch.
    pub from: Option<u32>,
    /// How many looks it lasts.
    pub lasts: u32,
    /// The share that fails of it.
    pub failing: f64,
    /// How many times slower it makes responses.
    pub slower: f64,
}

/// One kind of watch.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Requests a second, over both versions.
    pub rate: f64,
    /// Length of the watch in looks.
    pub looks: u32,
    /// Backends of each version.
    pub backends: usize,
    /// Share of the old version.
    pub control: f64,
    /// Share of requests that fail of either version.
    pub failing: f64,
    /// The share of slow responses of the new version, if it is not that of the latencies.
    pub slow: Option<f64>,
    /// Requests that the old version served without a failure before; `None`: all of a watch, with
    /// the failures that come.
    pub clean_history: Option<u64>,
    /// The trouble, if there is one.
    pub trouble: Option<Trouble>,
}

/// An equal new version in a watch of ten minutes.
pub const EQUAL: Scenario = Scenario {
    rate: 50.0,
    looks: 2400,
    backends: 3,
    control: 0.0,
    failing: 0.001,
    slow: None,
    clean_history: None,
    trouble: None,
};

/// What fails from a look on.
pub const fn fault(whom: Whom, from: u32, failing: f64) -> Option<Trouble> {
    Some(Trouble { whom, from: Some(from), lasts: u32::MAX, failing, slower: 1.0 })
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ended {
    /// Seconds from the beginning of the trouble (or of the watch) until the version was found bad.
    pub rolled_back: Option<f64>,
    /// Seconds until the backend in trouble was named.
    pub named: Option<f64>,
    /// How often a backend was named that was not in trouble.
    pub slandered: u32,
}

/// Goes through one watch.
pub fn watch(scenario: &Scenario, seed: u64) -> Ended {
    let mut rng = Rng::with_seed(seed);
    let baseline = baseline(scenario, &mut rng);
    let horizon = LOOK * scenario.looks;
    let mut verdict = Verdict::new(Duration::ZERO, horizon, RULES, baseline);
    let limit = verdict.latency_limit();
    let begins = scenario.trouble.map_or(0, |trouble| {
        trouble.from.unwrap_or_else(|| rng.u32(0..scenario.looks.saturating_sub(trouble.lasts)))
    });
    let mut samples: Vec<BackendSample> = (0..scenario.backends)
        .map(|n| BackendSample {
            backend: Arc::from(format!("10.0.0.{n}:80")),
            usable: true,
            counts: Counts::default(),
        })
        .collect();
    let mut ended = Ended::default();
    for look in 0..scenario.looks {
        let now = LOOK * (look + 1);
        let trouble =
            scenario.trouble.filter(|trouble| look >= begins && look - begins < trouble.lasts);
        let timed = look >= GRACE && limit.is_some();
        let old = look_at_old(scenario, trouble, &mut rng);
        look_at_new(scenario, trouble, limit.filter(|_| timed), &mut samples, &mut rng);
        let since = f64::from((look + 1).saturating_sub(begins)) * LOOK.as_secs_f64();
        if verdict.is_excused() && look % 4 == 0 {
            verdict.set_excused(now, old_fails_its_probes(trouble, scenario.backends, &mut rng));
        }
        match verdict.observe(now, &samples, (scenario.control > 0.0).then_some(old)) {
            Finding::Fit | Finding::Unclear(_) => {}
            Finding::Lone { backend, .. } => {
                let struck = trouble.is_some_and(|trouble| trouble.whom == Whom::Backend);
                if struck && backend == samples[0].backend {
                    ended.named = Some(since);
                } else {
                    ended.slandered += 1;
                }
                for sample in samples.iter_mut().filter(|sample| sample.backend == backend) {
                    sample.usable = false;
                }
            }
            finding => {
                if old_fails_its_probes(trouble, scenario.backends, &mut rng) {
                    verdict.set_excused(now, true);
                } else if let Finding::Bad(_) = finding {
                    ended.rolled_back = Some(since);
                    break;
                }
            }
        }
    }
    ended
}

fn baseline(scenario: &Scenario, rng: &mut Rng) -> Baseline {
    let before = (scenario.rate * f64::from(scenario.looks) * LOOK.as_secs_f64()) as u64;
    let requests = scenario.clean_history.unwrap_or(before);
    let failing = if scenario.clean_history.is_some() { 0.0 } else { scenario.failing };
    let mut figures = Figures::default();
    figures.counts.requests = requests;
    figures.counts.failed = binomial(requests, failing, rng);
    let mut latencies = Latencies::default();
    // Two thousand are enough to know the percentile within what matters here.
    for _ in 0..requests.min(2000) {
        latencies.record(Duration::from_secs_f64((MEDIAN + SPREAD * normal(rng)).exp()));
    }
    figures.latencies = latencies;
    Baseline::of(&figures)
}

fn look_at_old(scenario: &Scenario, trouble: Option<Trouble>, rng: &mut Rng) -> Counts {
    let requests = poisson(scenario.rate * scenario.control * LOOK.as_secs_f64(), rng);
    let failing = match trouble {
        Some(trouble) if trouble.whom == Whom::Both => trouble.failing,
        _ => scenario.failing,
    };
    Counts { requests, failed: binomial(requests, failing, rng), timed: requests, slow: 0 }
}

fn look_at_new(
    scenario: &Scenario,
    trouble: Option<Trouble>,
    limit: Option<Duration>,
    samples: &mut [BackendSample],
    rng: &mut Rng,
) {
    let usable = samples.iter().filter(|sample| sample.usable).count().max(1);
    let rate = scenario.rate * (1.0 - scenario.control) * LOOK.as_secs_f64() / usable as f64;
    for (n, sample) in samples.iter_mut().enumerate() {
        sample.counts = Counts::default();
        if !sample.usable {
            continue;
        }
        let trouble = trouble.filter(|trouble| trouble.whom != Whom::Backend || n == 0);
        let requests = poisson(rate, rng);
        let failing = trouble.map_or(scenario.failing, |trouble| trouble.failing);
        sample.counts.requests = requests;
        sample.counts.failed = binomial(requests, failing, rng);
        if let Some(limit) = limit {
            let slower = trouble.map_or(1.0, |trouble| trouble.slower);
            let slow = scenario.slow.unwrap_or_else(|| share_above(limit, slower));
            sample.counts.timed = requests;
            sample.counts.slow = binomial(requests, slow, rng);
        }
    }
}

/// Whether fewer than half of the old version's backends pass.
fn old_fails_its_probes(trouble: Option<Trouble>, backends: usize, rng: &mut Rng) -> bool {
    let Some(trouble) = trouble.filter(|trouble| trouble.whom == Whom::Both) else { return false };
    let passed = (0..backends).filter(|_| rng.f64() >= trouble.failing).count();
    2 * passed < backends
}

/// The share of log-normal latencies above a limit, `slower` times as long as usual.
fn share_above(limit: Duration, slower: f64) -> f64 {
    let z = (limit.as_secs_f64().ln() - MEDIAN - slower.ln()) / SPREAD;
    // The logistic stand-in for the normal tail, within 0.0002.
    1.0 / (1.0 + (1.5976 * z + 0.070_56 * z * z * z).exp())
}

fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

/// How many arrive where `mean` are expected.
fn poisson(mean: f64, rng: &mut Rng) -> u64 {
    let least = (-mean).exp();
    let (mut product, mut n) = (rng.f64(), 0);
    while product > least {
        product *= rng.f64();
        n += 1;
    }
    n
}

/// How many of `n` it strikes: by the gaps between them where they are rare.
fn binomial(n: u64, share: f64, rng: &mut Rng) -> u64 {
    if share <= 0.0 || n == 0 {
        return 0;
    }
    if share > 0.1 {
        return (0..n).filter(|_| rng.f64() < share).count() as u64;
    }
    let ln_good = (1.0 - share).ln();
    let (mut at, mut struck) = (0.0, 0);
    loop {
        at += ((1.0 - rng.f64()).ln() / ln_good).floor() + 1.0;
        if at > n as f64 {
            return struck;
        }
        struck += 1;
    }
}
