//! A pick among 10 and among 10,000 members: the larger may cost at most three times the smaller.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::balance::{Candidates, Member, Policy, stable_hash};

const POLICIES: [Policy; 4] =
    [Policy::LeastConnections, Policy::RoundRobin, Policy::RandomTwo, Policy::IpHash];

fn members(count: u32, weight: impl Fn(u32) -> u32) -> Vec<Member> {
    (0..count).map(|i| Member { key: stable_hash(&i.to_le_bytes()), weight: weight(i) }).collect()
}

fn picks(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    let mut rng = fastrand::Rng::with_seed(1);
    for policy in POLICIES {
        for (kind, weight) in [("equal", (|_| 1) as fn(u32) -> u32), ("weighted", |i| 1 + i % 7)] {
            for count in [10, 10_000] {
                let members = members(count, weight);
                let candidates = Candidates::new(policy, &members);
                let loads: Vec<AtomicU32> =
                    members.iter().map(|_| AtomicU32::new(rng.u32(..20))).collect();
                let mut turn = 0u64;
                group.bench_function(format!("{policy:?}/{kind}/{count}"), |b| {
                    b.iter(|| {
                        turn += 1;
                        let hash = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                        let load = |i: usize| loads[i].load(Ordering::Relaxed);
                        black_box(candidates.pick(load, |_| false, &mut rng, turn, hash))
                    });
                });
            }
        }
    }
    group.finish();
}

fn builds(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    group.sample_size(10);
    for policy in POLICIES {
        for count in [10, 100, 1_000, 10_000] {
            let members = members(count, |i| 1 + i % 7);
            group.bench_function(format!("{policy:?}/{count}"), |b| {
                b.iter(|| black_box(Candidates::new(policy, &members)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, picks, builds);
criterion_main!(benches);
