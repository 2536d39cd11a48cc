//! What the verdict promises, on as many simulated watches as an unoptimised build does in a moment.
//! The bench `verdict` runs ten thousand of each.

use super::simulation::{EQUAL, Ended, RULES, Scenario, Trouble, Whom, fault, watch};

/// Another seed, another set of watches: the promises hold for nearly all seeds, not for all.
const SEED: u64 = 2026;

/// A number of watches of this kind, and what to say if they go wrong.
#[track_caller]
fn all(scenario: Scenario, watches: u64, fits: impl Fn(Ended) -> bool) {
    for seed in SEED..SEED + watches {
        let ended = watch(&scenario, seed);
        assert!(fits(ended), "seed {seed}: {ended:?} of {scenario:?}");
    }
}

/// The median time to the verdict, with a known p0 of 1 %.
fn median(scenario: Scenario, watches: u64) -> f64 {
    let scenario = Scenario { clean_history: Some(2000), ..scenario };
    let ended = (SEED..SEED + watches).map(|seed| watch(&scenario, seed).rolled_back);
    let mut times: Vec<f64> = ended.map(|time| time.unwrap_or(f64::INFINITY)).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[track_caller]
fn within_a_quarter(found: f64, expected: f64) {
    assert!(
        (found / expected - 1.0).abs() <= 0.25,
        "{found} s instead of {expected} s, seed {SEED}"
    );
}

#[test]
fn an_equal_version_is_kept() {
    for (rate, watches) in [(1.0, 40), (50.0, 20), (500.0, 5)] {
        all(Scenario { rate, ..EQUAL }, watches, |ended| ended == Ended::default());
    }
}

#[test]
fn a_version_exactly_at_what_is_accepted_is_kept() {
    let at_p0 = Scenario { failing: 0.01, slow: Some(0.05), clean_history: Some(2000), ..EQUAL };
    for (rate, watches) in [(1.0, 20), (50.0, 10)] {
        all(Scenario { rate, ..at_p0 }, watches, |ended| ended.rolled_back.is_none());
    }
}

#[test]
fn a_bad_version_is_found_in_time() {
    let with =
        |rate, failing| Scenario { rate, trouble: fault(Whom::Version, 0, failing), ..EQUAL };
    within_a_quarter(median(with(1.0, 1.0), 101), 20.0);
    within_a_quarter(median(with(1.0, 0.2), 101), 29.0);
    within_a_quarter(median(with(50.0, 0.05), 41), 5.0);
    within_a_quarter(median(with(500.0, 0.05), 21), 1.25);
    for rate in [50.0, 500.0] {
        within_a_quarter(median(with(rate, 1.0), 21), 1.25);
        within_a_quarter(median(with(rate, 0.2), 21), 1.25);
    }
}

#[test]
fn a_late_fault_is_found_almost_as_fast() {
    let with = |from| Scenario { rate: 500.0, trouble: fault(Whom::Version, from, 0.2), ..EQUAL };
    assert!(median(with(20), 5) <= 1.75, "five seconds after the switch");
    assert!(median(with(1200), 3) <= 2.5, "five minutes after the switch");
}

#[test]
fn a_version_that_turns_five_times_slower_is_found_within_seconds_of_the_grace() {
    let slow =
        Trouble { whom: Whom::Version, from: Some(0), lasts: 2400, failing: 0.001, slower: 5.0 };
    assert!(median(Scenario { rate: 500.0, trouble: Some(slow), ..EQUAL }, 21) <= 3.0 + 5.0);
}

#[test]
fn one_bad_backend_is_named_and_the_version_kept() {
    for (rate, watches) in [(1.0, 20), (50.0, 10), (500.0, 2)] {
        let trouble = fault(Whom::Backend, 240, 1.0);
        all(Scenario { rate, trouble, ..EQUAL }, watches, |ended| {
            ended.rolled_back.is_none() && ended.named.is_some() && ended.slandered == 0
        });
    }
}

#[test]
fn an_outage_of_both_is_told_from_a_fault_by_the_control() {
    for (rate, watches) in [(1.0, 20), (50.0, 10), (500.0, 3)] {
        for failing in [0.3, 1.0] {
            let outage = Trouble { whom: Whom::Both, from: None, lasts: 40, failing, slower: 1.0 };
            let scenario = Scenario { rate, control: 0.05, trouble: Some(outage), ..EQUAL };
            all(scenario, watches, |ended| ended.rolled_back.is_none());
        }
    }
}

#[test]
fn the_rules_of_the_simulation_are_the_defaults() {
    let defaults = crate::config::model::Rollback::default();
    assert_eq!(u64::from(defaults.min_requests), RULES.min_requests);
    assert_eq!(defaults.error_rate.to_bits(), RULES.error_rate.to_bits());
    assert_eq!(defaults.error_rate_factor.to_bits(), RULES.error_rate_factor.to_bits());
    assert_eq!(defaults.latency_factor, RULES.latency_factor);
    assert_eq!(defaults.latency_floor, RULES.latency_floor);
    assert_eq!(defaults.confidence.to_bits(), RULES.confidence.to_bits());
}
