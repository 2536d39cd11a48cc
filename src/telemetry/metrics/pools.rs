//! Series of pools and their versions.

use std::time::Duration;

use super::text::{Text, code_counts};
use crate::balance::{Condition, Tier};
use crate::state::counters::HistogramSum;
use crate::state::{Pool, Snapshot, Split, Version};
use crate::telemetry::metrics as metric;

/// `now` is the time since the process started.
pub(super) fn write(snapshot: &Snapshot, now: Duration, text: &mut Text<'_>) {
    requests(snapshot, text);
    queues(snapshot, text);
    breakers(snapshot, now, text);
    versions(snapshot, text);
    swaps(snapshot, text);
}

fn requests(snapshot: &Snapshot, text: &mut Text<'_>) {
    let mut samples = text.family(&metric::POOL_REQUESTS);
    for pool in snapshot.pools.values() {
        let cells = &pool.state.cells;
        for (code, count) in code_counts(cells.cells().map(|cells| &cells.from_backend)) {
            samples.add(&[&pool.name, &code, "backend"], count);
        }
        for (code, count) in code_counts(cells.cells().map(|cells| &cells.from_proxy)) {
            samples.add(&[&pool.name, &code, "proxy"], count);
        }
    }
    let mut samples = text.family(&metric::POOL_ROUTED);
    for pool in snapshot.pools.values() {
        samples.add(&[&pool.name], pool.state.cells.sum(|cells| cells.requests.get()));
    }
    let mut samples = text.family(&metric::POOL_BUDGET_EXHAUSTED);
    for pool in snapshot.pools.values() {
        samples.add(&[&pool.name], pool.state.cells.sum(|cells| cells.budget_exhausted.get()));
    }
}

fn queues(snapshot: &Snapshot, text: &mut Text<'_>) {
    let mut samples = text.family(&metric::POOL_QUEUE_LENGTH);
    for pool in snapshot.pools.values() {
        samples.add(&[&pool.name], pool.state.line.len());
    }
    let mut samples = text.family(&metric::POOL_QUEUED);
    for pool in snapshot.pools.values() {
        samples.add(&[&pool.name], pool.state.cells.sum(|cells| cells.queued.get()));
    }
    let mut samples = text.family(&metric::POOL_QUEUE_WAIT);
    for pool in snapshot.pools.values().filter(|pool| pool.queue.is_limited()) {
        let mut sum = HistogramSum::default();
        pool.state.cells.cells().for_each(|cells| cells.queue_wait.add_to(&mut sum));
        samples.add_histogram(&[&pool.name], &sum);
    }
    let mut samples = text.family(&metric::POOL_QUEUE_REJECTED);
    for pool in snapshot.pools.values() {
        let cells = &pool.state.cells;
        samples.add(&[&pool.name, "full"], cells.sum(|cells| cells.queue_full.get()));
        samples.add(&[&pool.name, "timeout"], cells.sum(|cells| cells.queue_timeouts.get()));
    }
}

fn breakers(snapshot: &Snapshot, now: Duration, text: &mut Text<'_>) {
    let with_one = || snapshot.pools.values().filter(|pool| pool.circuit_breaker.is_some());
    let mut samples = text.family(&metric::POOL_BREAKER_STATE);
    for pool in with_one() {
        let state = pool.state.breaker.look(now).state.label();
        for each in ["closed", "open", "half_open"] {
            samples.add(&[&pool.name, each], state == each);
        }
    }
    let mut samples = text.family(&metric::POOL_BREAKER_TRANSITIONS);
    for pool in with_one() {
        for (key, count) in pool.state.breaker.transitions.counts() {
            samples.add(&[&pool.name, key.from, key.to, key.reason], count);
        }
    }
    let mut samples = text.family(&metric::POOL_BREAKER_REFUSED);
    for pool in with_one() {
        samples.add(&[&pool.name], pool.state.cells.sum(|cells| cells.circuit_open.get()));
    }
    let mut samples = text.family(&metric::POOL_FALLBACKS);
    for pool in snapshot.pools.values() {
        samples.add(&[&pool.name], pool.state.cells.sum(|cells| cells.fallbacks.get()));
    }
}

fn versions(snapshot: &Snapshot, text: &mut Text<'_>) {
    // Loaded once, so that what is said of a pool agrees.
    let splits: Vec<(&Pool, _)> =
        snapshot.pools.values().map(|pool| (&**pool, pool.state.split.load_full())).collect();
    let versions = || {
        splits.iter().flat_map(|(pool, split)| {
            split.shares.iter().map(|share| (&*pool.name, &share.version, share.share))
        })
    };
    let mut samples = text.family(&metric::POOL_BACKENDS);
    for (pool, version, _) in versions() {
        for condition in Condition::ALL {
            samples.add(&[pool, &version.name, condition.label()], number_in(version, condition));
        }
    }
    let mut samples = text.family(&metric::POOL_USABLE);
    for (pool, version, _) in versions() {
        samples.add(&[pool, &version.name], version.usable().len());
    }
    let mut samples = text.family(&metric::POOL_PANIC);
    for (pool, version, _) in versions() {
        samples.add(&[pool, &version.name], version.usable().tier == Tier::Panic);
    }
    let mut samples = text.family(&metric::POOL_ALL_DOWN);
    for (pool, version, _) in versions() {
        let down = matches!(version.usable().tier, Tier::AllDown | Tier::Empty);
        samples.add(&[pool, &version.name], down);
    }
    let mut samples = text.family(&metric::POOL_SHARE);
    for (pool, version, share) in versions() {
        samples.add(&[pool, &version.name], share);
    }
    let mut samples = text.family(&metric::POOL_ACTIVE_VERSION);
    for (pool, split) in &splits {
        let active = most(split);
        for (index, share) in split.shares.iter().enumerate() {
            samples.add(&[&pool.name, &share.version.name], active == Some(index));
        }
    }
}

/// Only of pools that have versions: others are never swapped.
fn swaps(snapshot: &Snapshot, text: &mut Text<'_>) {
    let versioned = || {
        let pools = snapshot.pools.values();
        pools.filter(|pool| pool.state.split.load().version("").is_none())
    };
    let mut samples = text.family(&metric::POOL_ACTIVE_OVERRIDE);
    for pool in versioned() {
        samples.add(&[&pool.name], pool.state.swaps.is_overridden());
    }
    let mut samples = text.family(&metric::SWAPS);
    for pool in versioned() {
        for (result, count) in pool.state.swaps.results() {
            samples.add(&[&pool.name, result], count);
        }
    }
    let mut samples = text.family(&metric::POOL_SHADOW);
    for pool in versioned() {
        let tally = pool.state.cells.shadow_tally();
        let same = tally.compared.saturating_sub(tally.differing + tally.slower);
        for (outcome, count) in [
            ("same", same),
            ("slower", tally.slower),
            ("different", tally.differing),
            ("not_compared", tally.alone),
            ("not_copied", tally.skipped),
        ] {
            samples.add(&[&pool.name, outcome], count);
        }
    }
}

fn number_in(version: &Version, condition: Condition) -> usize {
    version.members.iter().filter(|member| member.backend.condition() == condition).count()
}

/// The place of the version with the largest share.
fn most(split: &Split) -> Option<usize> {
    let shares = split.shares.iter().map(|share| share.share).enumerate();
    shares.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index)
}
