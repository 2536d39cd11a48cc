//! A lookup among 10 and among 10,000 routes: it must cost the same.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::state::route::{RouteEntry, RouteTable};

/// Half of the routes differ in their host (every tenth a wildcard), half in their path.
fn entries(count: usize) -> Vec<RouteEntry<usize>> {
    (0..count)
        .map(|i| {
            let (host, path) = match i % 10 {
                0 => (format!("*.tenant{i}.example.com"), "/".to_owned()),
                odd if odd % 2 == 1 => (format!("app{i}.example.com"), "/".to_owned()),
                _ => ("shared.example.com".to_owned(), format!("/service/{i}")),
            };
            RouteEntry { listeners: None, hosts: vec![host], path, value: i }
        })
        .collect()
}

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for count in [10, 10_000] {
        let table = RouteTable::new(entries(count)).unwrap_or_else(|e| panic!("{e}"));
        // Many different requests, so that the larger table is not only measured in cache.
        let requests: Vec<(String, String)> = (0..4096)
            .map(|k| {
                let i = k * 37 % count;
                match i % 10 {
                    0 => (format!("a.b.Tenant{i}.example.com"), "/index.html".to_owned()),
                    odd if odd % 2 == 1 => (format!("app{i}.example.com:8080"), "/x/y".to_owned()),
                    _ => ("shared.example.com".to_owned(), format!("/service/{i}/items")),
                }
            })
            .collect();
        let mut next = 0;
        group.bench_function(format!("{count} routes"), |b| {
            b.iter(|| {
                next = (next + 1) % requests.len();
                let (host, path) = &requests[next];
                black_box(table.lookup(0, host, path))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookups);
criterion_main!(benches);
