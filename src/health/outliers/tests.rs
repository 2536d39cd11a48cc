//! Stories of pools under traffic: what is found, how soon, and that nothing else is.

mod actions;
mod failing;
mod slow;
mod story;
mod windows;

use std::time::Duration;

use super::{Peer, Settings, Totals, Traffic};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A moment at which all of them take part and have these totals.
fn at_once<T>(totals: &[Totals], judge: impl FnOnce(Duration, &mut [Peer<'_>]) -> T) -> T {
    let (now, window) = (ms(1_000_000), Settings::default().window);
    let seen = |totals: &Totals| {
        let mut traffic = Traffic::new(&Totals::default()).taking_part(true);
        traffic.observe(now, window, totals);
        traffic
    };
    let mut seen: Vec<Traffic> = totals.iter().map(seen).collect();
    let peers = seen.iter_mut().map(|traffic| Peer { traffic, in_service: true });
    judge(now, &mut peers.collect::<Vec<_>>())
}
