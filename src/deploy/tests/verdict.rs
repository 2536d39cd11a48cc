//! The verdict, look by look.

use std::sync::Arc;
use std::time::Duration;

use super::simulation::RULES;
use crate::deploy::{
    BackendSample, Baseline, Counts, Doubt, Finding, Latencies, Measure, Percentiles, Rules,
    Verdict,
};

const WATCH: Duration = Duration::from_secs(600);

fn tick(n: u64) -> Duration {
    Duration::from_millis(250 * n)
}

fn baseline(requests: u64, failed: u64) -> Baseline {
    let p95_at_most = Some(Duration::from_millis(50));
    Baseline { requests, failed, timed: requests, p95_at_most, percentiles: Percentiles::default() }
}

fn verdict(rules: Rules, baseline: Baseline) -> Verdict {
    Verdict::new(Duration::ZERO, WATCH, rules, baseline)
}

fn counts(requests: u64, failed: u64) -> Counts {
    Counts { requests, failed, ..Counts::default() }
}

/// Backends `a`, `b` and so on, all usable.
fn backends(counts: &[Counts]) -> Vec<BackendSample> {
    let backend = |n: usize| Arc::from(char::from(b'a' + n as u8).to_string());
    let sample = |(n, counts): (usize, &Counts)| BackendSample {
        backend: backend(n),
        usable: true,
        counts: *counts,
    };
    counts.iter().enumerate().map(sample).collect()
}

/// The same samples in every look; gives the first finding that is not `Fit`.
fn first_finding(verdict: &mut Verdict, looks: u64, new: &[BackendSample]) -> Option<Finding> {
    (1..=looks).map(|n| verdict.observe(tick(n), new, None)).find(|found| *found != Finding::Fit)
}

#[track_caller]
fn is_bad(finding: &Finding, measure: Option<Measure>, words: &str) {
    let Finding::Bad(fault) = finding else { panic!("{finding:?}") };
    assert_eq!((fault.measure, &*fault.words), (measure, words));
}

#[test]
fn silence_is_never_held_against_a_version() {
    let mut verdict = verdict(RULES, baseline(600, 0));
    assert_eq!(first_finding(&mut verdict, 2400, &backends(&[counts(0, 0); 3])), None);
    let words = "0 requests, 0 failed; a verdict takes 20";
    assert_eq!(verdict.undecided(), Some((Doubt::FewRequests, words.to_owned())));
}

#[test]
fn a_single_failure_at_one_request_a_second_is_not_either() {
    for failing in 0..600 {
        let mut verdict = verdict(RULES, baseline(600, 0));
        for second in 0..600 {
            let new = backends(&[counts(1, u64::from(second == failing))]);
            let found = verdict.observe(Duration::from_secs(second), &new, None);
            assert_eq!(found, Finding::Fit, "failure at {failing}, second {second}");
        }
    }
}

#[test]
fn a_bad_version_is_found_and_told_in_words() {
    let mut verdict = verdict(RULES, baseline(30_000, 12));
    let found = first_finding(&mut verdict, 10, &backends(&[counts(40, 8); 3])).unwrap();
    let words = "120 of 600 requests failed within 1.3 s (20%, 1% accepted)";
    is_bad(&found, Some(Measure::Errors), words);
    assert_eq!(verdict.undecided(), None);
    let [errors, latency] = &verdict.tests()[..] else { panic!("two tests") };
    assert_eq!((errors.n, errors.bad, errors.threshold.round()), (600, 120, 1000.0));
    assert!(errors.evidence >= errors.threshold);
    assert!(errors.interval.0 > 0.14 && errors.interval.1 < 0.27, "{:?}", errors.interval);
    assert_eq!(errors.accepted_from, "error_rate; the old version failed 12 of 30000 before");
    assert_eq!(latency.accepted_from, "slower than 150 ms, from the old version's p95");
}

#[test]
fn a_slow_version_is_found() {
    let mut verdict = verdict(RULES, baseline(30_000, 12));
    assert_eq!(verdict.latency_limit(), Some(Duration::from_millis(150)));
    let slow = Counts { requests: 40, failed: 0, timed: 40, slow: 20 };
    let found = first_finding(&mut verdict, 10, &backends(&[slow; 3])).unwrap();
    let words = "300 of 600 responses within 1.3 s took longer than 150 ms (50%, 5% accepted)";
    is_bad(&found, Some(Measure::Latency), words);
}

#[test]
fn latency_is_judged_only_beside_enough_of_the_old_version() {
    for timed in [199, 200] {
        let verdict = verdict(RULES, baseline(timed, 0));
        assert_eq!(verdict.latency_limit().is_some(), timed == 200);
        assert_eq!(verdict.tests().len(), if timed == 200 { 2 } else { 1 });
    }
    let few = verdict(RULES, baseline(12, 0));
    let words = "latency is not judged: only 12 responses of the old version to compare with, and it takes 200";
    assert_eq!(few.latency_not_judged(), Some(words));
    let off = verdict(Rules { latency_factor: None, ..RULES }, baseline(600, 0));
    assert_eq!(off.latency_not_judged(), Some("latency is not judged: latency_factor is 0"));
}

#[test]
fn the_floor_is_never_held_against_a_version() {
    let mut fast = Latencies::default();
    (0..1000).for_each(|_| fast.record(Duration::from_millis(2)));
    let baseline = Baseline { p95_at_most: fast.quantile_at_most(0.95), ..baseline(1000, 0) };
    assert_eq!(verdict(RULES, baseline).latency_limit(), Some(Duration::from_millis(100)));
}

#[test]
fn a_new_version_may_fail_as_much_as_the_old_one_did() {
    // 5 % of the old one's failed: at most 10.6 % are accepted.
    let mut verdict = verdict(RULES, baseline(30_000, 1500));
    assert_eq!(first_finding(&mut verdict, 400, &backends(&[counts(100, 8); 3])), None);
    let errors = &verdict.tests()[0];
    assert!((0.10..0.11).contains(&errors.accepted), "{}", errors.accepted);
    assert_eq!(errors.accepted_from, "the old version failing 1500 of 30000 before");
}

#[test]
fn an_old_version_that_failed_itself_is_no_yardstick() {
    let mut verdict = verdict(RULES, baseline(1000, 300));
    assert_eq!(first_finding(&mut verdict, 400, &backends(&[counts(100, 100); 3])), None);
    let words =
        "the old version was failing itself: 300 of 1000 before, 0 of 0 in the last half minute";
    assert_eq!(verdict.undecided(), Some((Doubt::OldFailing, words.to_owned())));
    assert_eq!(verdict.tests()[0].not_judged.as_deref(), Some(words));
}

#[test]
fn a_short_history_without_a_failure_excuses_nothing() {
    let mut verdict = verdict(RULES, baseline(5, 0));
    assert_eq!(verdict.tests()[0].accepted.to_bits(), 0.01f64.to_bits());
    assert!(first_finding(&mut verdict, 10, &backends(&[counts(40, 8); 3])).is_some());
}

#[test]
fn few_requests_bring_no_verdict() {
    let mut few = verdict(RULES, baseline(600, 0));
    assert_eq!(first_finding(&mut few, 19, &backends(&[counts(1, 1)])), None);
    let words = "19 requests, 19 failed; a verdict takes 20";
    assert_eq!(few.undecided(), Some((Doubt::FewFailed, words.to_owned())));
    assert_ne!(few.observe(tick(20), &backends(&[counts(1, 1)]), None), Finding::Fit);
    let rules = Rules { min_requests: 1, ..RULES };
    let mut eager = verdict(rules, baseline(600, 0));
    assert_eq!(first_finding(&mut eager, 4, &backends(&[counts(1, 1)])), None, "five bad ones");
}

#[test]
fn one_bad_backend_is_named_once_and_its_samples_leave_the_test() {
    let mut verdict = verdict(RULES, baseline(600, 0));
    let new = backends(&[counts(40, 0), counts(40, 40), counts(40, 0)]);
    let found = first_finding(&mut verdict, 10, &new).unwrap();
    let why = "200 of its 200 requests failed, of the other backends' 0 of 400".to_owned();
    assert_eq!(found, Finding::Lone { backend: Arc::from("b"), why });
    assert_eq!(verdict.tests()[0].bad, 0);
    for n in 11..200 {
        assert_eq!(verdict.observe(tick(n), &new, None), Finding::Fit);
    }
}

#[test]
fn it_is_the_version_if_the_others_fail_too_be_it_less() {
    let mut verdict = verdict(RULES, baseline(600, 0));
    let new = backends(&[counts(40, 10), counts(40, 40), counts(40, 10)]);
    let found = first_finding(&mut verdict, 10, &new).unwrap();
    is_bad(
        &found,
        Some(Measure::Errors),
        "300 of 600 requests failed within 1.3 s (50%, 1% accepted)",
    );
}

#[test]
fn a_version_with_one_backend_has_nobody_else_to_ask() {
    let mut single = verdict(RULES, baseline(600, 0));
    let found = first_finding(&mut single, 10, &backends(&[counts(40, 40)])).unwrap();
    assert!(matches!(found, Finding::Bad(_)));
    let mut last = verdict(RULES, baseline(600, 0));
    let mut new = backends(&[counts(40, 40), counts(0, 0)]);
    new[1].usable = false;
    let found = first_finding(&mut last, 10, &new).unwrap();
    assert!(matches!(found, Finding::Bad(_)), "the other one is out: {found:?}");
}

#[test]
fn most_backends_out_is_the_versions_fault_whatever_the_traffic_says() {
    let mut verdict = verdict(RULES, baseline(600, 0));
    let mut new = backends(&[counts(0, 0); 3]);
    new[0].usable = false;
    assert_eq!(verdict.observe(tick(1), &new, None), Finding::Fit);
    new[2].usable = false;
    let found = verdict.observe(tick(2), &new, None);
    is_bad(&found, None, "2 of 3 backends are not usable");
}

#[test]
fn what_the_old_version_does_meanwhile_is_accepted_too() {
    let mut verdict = verdict(RULES, baseline(30_000, 0));
    for n in 1..400 {
        let found = verdict.observe(tick(n), &backends(&[counts(40, 8); 3]), Some(counts(10, 2)));
        assert!(!matches!(found, Finding::Bad(_)), "{found:?}");
    }
    let from = &verdict.tests()[0].accepted_from;
    assert_eq!(from, "the old version failing 240 of 1200 meanwhile");
}

#[test]
fn a_control_that_cannot_tell_yet_is_waited_for() {
    let mut verdict = verdict(RULES, baseline(30_000, 0));
    let new = backends(&[counts(40, 8); 3]);
    let found: Vec<Finding> =
        (1..=20).map(|n| verdict.observe(tick(n), &new, Some(counts(3, 0)))).collect();
    let suspected = found.iter().position(|found| matches!(found, Finding::Suspect(_)));
    let bad = found.iter().position(|found| matches!(found, Finding::Bad(_)));
    assert_eq!((suspected, bad), (Some(4), Some(12)), "{found:?}");
}

#[test]
fn an_excused_version_is_not_judged_and_takes_fresh_evidence_after() {
    let mut verdict = verdict(RULES, baseline(600, 0));
    let new = backends(&[counts(40, 40); 3]);
    assert!(first_finding(&mut verdict, 10, &new).is_some());
    verdict.set_excused(tick(6), true);
    for n in 6..100 {
        assert_eq!(verdict.observe(tick(n), &new, None), Finding::Fit);
    }
    verdict.set_excused(tick(100), false);
    let found: Vec<bool> =
        (100..120).map(|n| verdict.observe(tick(n), &new, None) != Finding::Fit).collect();
    let again = found.iter().position(|found| *found);
    assert!(again.is_some_and(|looks| (1..=8).contains(&looks)), "{found:?}");
}
