use super::*;
use crate::balance::stable_hash;

fn members(weights: impl IntoIterator<Item = u32>) -> Vec<Member> {
    weights
        .into_iter()
        .enumerate()
        .map(|(i, weight)| Member { key: stable_hash(&i.to_le_bytes()), weight })
        .collect()
}

fn nobody(_: usize) -> bool {
    false
}

const ALL: [Policy; 4] =
    [Policy::LeastConnections, Policy::RoundRobin, Policy::RandomTwo, Policy::IpHash];

/// How often each member is picked in `count` picks at constant loads.
fn counts(policy: Policy, weights: &[u32], loads: &[u32], count: u64) -> Vec<u64> {
    let candidates = Candidates::new(policy, &members(weights.iter().copied()));
    let mut rng = fastrand::Rng::with_seed(count);
    let mut counts = vec![0; weights.len()];
    for turn in 0..count {
        counts[candidates.pick(|i| loads[i], nobody, &mut rng, turn, turn).unwrap()] += 1;
    }
    counts
}

fn assert_near(got: u64, want: f64, tolerance: f64) {
    assert!((got as f64 - want).abs() <= want * tolerance, "{got} for {want}");
}

#[test]
fn least_connections_takes_the_least_loaded_for_its_weight() {
    let table: &[(&[u32], &[u32], usize)] = &[
        (&[1, 1, 1], &[3, 2, 4], 1),
        (&[1, 1], &[1, 0], 1),
        (&[1, 4], &[1, 5], 1),
        (&[1, 4], &[1, 8], 0),
        (&[1, 100], &[0, 1], 0),
        (&[u32::MAX, u32::MAX - 1], &[u32::MAX, u32::MAX], 0),
        (&[1, u32::MAX], &[u32::MAX - 1, u32::MAX], 1),
    ];
    for (weights, loads, want) in table {
        let counts = counts(Policy::LeastConnections, weights, loads, 50);
        assert_eq!(counts[*want], 50, "{weights:?} under {loads:?}: {counts:?}");
    }
}

#[test]
fn ties_are_broken_at_random_by_weight() {
    let even = counts(Policy::LeastConnections, &[1; 5], &[2, 2, 9, 2, 2], 40_000);
    assert_eq!(even[2], 0);
    for i in [0, 1, 3, 4] {
        assert_near(even[i], 10_000.0, 0.05);
    }
    let idle = counts(Policy::LeastConnections, &[1, 2, 5], &[0; 3], 80_000);
    for (got, want) in idle.into_iter().zip([10_000.0, 20_000.0, 50_000.0]) {
        assert_near(got, want, 0.05);
    }
}

/// Requests arrive one by one and the oldest leaves once `held` are in flight.
fn in_flight(policy: Policy, weights: &[u32], held: usize) -> Vec<u32> {
    let candidates = Candidates::new(policy, &members(weights.iter().copied()));
    let mut rng = fastrand::Rng::with_seed(3);
    let mut loads = vec![0u32; weights.len()];
    let mut queue = std::collections::VecDeque::new();
    for turn in 0..20 * held as u64 {
        let i = candidates.pick(|i| loads[i], nobody, &mut rng, turn, turn).unwrap();
        loads[i] += 1;
        queue.push_back(i);
        if queue.len() > held {
            loads[queue.pop_front().unwrap()] -= 1;
        }
    }
    loads
}

#[test]
fn least_connections_spreads_what_is_in_flight_by_weight() {
    for (load, want) in
        in_flight(Policy::LeastConnections, &[1, 2, 3], 600).iter().zip([100, 200, 300])
    {
        assert!(load.abs_diff(want) <= 2, "{load} for {want}");
    }
}

#[test]
fn many_members_are_kept_as_level_by_a_sample() {
    let least = in_flight(Policy::LeastConnections, &[1; 500], 5_000);
    assert!(least.iter().all(|load| (6..=12).contains(load)), "{least:?}");
    let two = in_flight(Policy::RandomTwo, &[1; 500], 5_000);
    assert!(two.iter().all(|load| *load <= 15), "{two:?}");
}

#[test]
fn random_two_always_has_a_choice() {
    // Of two members the busier one is never taken, however much likelier its draw.
    assert_eq!(counts(Policy::RandomTwo, &[1, 1], &[5, 4], 1_000), [0, 1_000]);
    assert_eq!(counts(Policy::RandomTwo, &[1_000_000, 1], &[3_000_000, 1], 1_000), [0, 1_000]);
    assert_eq!(counts(Policy::RandomTwo, &[1], &[7], 10), [10]);
    // The most loaded of many is never the less loaded of two.
    assert_eq!(counts(Policy::RandomTwo, &[1, 1, 1], &[1, 9, 1], 1_000)[1], 0);
}

#[test]
fn round_robin_takes_turns() {
    assert_eq!(counts(Policy::RoundRobin, &[2, 2, 2], &[9, 0, 0], 300), [100; 3]);
    assert_eq!(counts(Policy::RoundRobin, &[1, 2, 3], &[0; 3], 600), [100, 200, 300]);
}

#[test]
fn ip_hash_spreads_clients_by_weight() {
    // By bids, and by a table.
    for weights in [vec![1, 3], [1, 3].repeat(20)] {
        let counts = counts(Policy::IpHash, &weights, &vec![0; weights.len()], 40_000);
        let heavy: u64 = counts.iter().skip(1).step_by(2).sum();
        assert_near(heavy, 30_000.0, 0.05);
    }
}

#[test]
fn ip_hash_gives_one_client_one_member() {
    for count in [1, 7, 32, 33, 500] {
        let candidates = Candidates::new(Policy::IpHash, &members(vec![1; count]));
        let mut rng = fastrand::Rng::with_seed(5);
        for hash in 0..200 {
            let first = candidates.pick(|_| 0, nobody, &mut rng, 0, hash);
            let again = candidates.pick(|_| 99, nobody, &mut rng, 1, hash);
            assert!(first.is_some());
            assert_eq!(first, again);
            // Passed over, it has one stand-in, not many; back again, it has its clients back.
            let gone = |i| Some(i) == first;
            let second = candidates.pick(|_| 0, gone, &mut rng, 2, hash);
            assert_eq!(second, candidates.pick(|_| 0, gone, &mut rng, 3, hash));
            assert!(count == 1 || second.is_some_and(|s| !gone(s)));
        }
    }
}

#[test]
fn a_weight_of_zero_counts_as_one() {
    for policy in ALL {
        let counts = counts(policy, &[0, 1], &[0, 0], 10_000);
        assert_near(counts[0], 5_000.0, 0.1);
    }
}

#[test]
fn picks_somebody_exactly_when_somebody_is_left() {
    let mut rng = fastrand::Rng::with_seed(11);
    for policy in ALL {
        for count in [0, 1, 2, 3, 10, 32, 33, 100, 700] {
            for heavy in [1, 3, 100_000] {
                let weights = (0..count).map(|i| if i % 3 == 0 { heavy } else { 1 });
                let candidates = Candidates::new(policy, &members(weights));
                assert_eq!((candidates.len(), candidates.is_empty()), (count as usize, count == 0));
                for left in [0.0, 0.02, 0.5, 1.0] {
                    let skipped: Vec<bool> = (0..count).map(|_| rng.f64() >= left).collect();
                    let somebody = skipped.contains(&false);
                    for turn in 0..20 {
                        let got = candidates.pick(
                            |i| i as u32 % 5,
                            |i| skipped[i],
                            &mut rng,
                            turn,
                            turn << 40,
                        );
                        assert_eq!(got.is_some(), somebody, "{policy:?} of {count}");
                        assert!(got.is_none_or(|i| !skipped[i]), "{policy:?} took a skipped one");
                    }
                }
            }
        }
    }
}
