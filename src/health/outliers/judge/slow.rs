//! Who takes longer than its siblings: by its median where it has answered enough, else by a run of late
//! heads.
//!
//! Least connections sends next to nothing to a backend on which somebody waits, so that one that is
//! two seconds slower has a handful of heads to be judged by while its siblings have thousands. But a
//! few are enough if they are late one after another: were it like its siblings, each would be so with
//! their chance, which is small and well known. In the order of the attempts, not by time: how few
//! there are says nothing, as their lateness is what keeps others away.

use std::time::Duration;

use super::{Court, Peer, Sign, surprise};
use crate::health::outliers::Mode;
use crate::health::outliers::latency::{Latencies, bucket};
use crate::health::outliers::traffic::{Slice, Traffic};
use crate::health::reason::EjectionReason;

/// Response heads that a median needs.
const HEADS: u64 = 5;
/// A healthy backend may look slow by chance once in so many requests, as a power of e: a million.
const CERTAINTY: f64 = 13.8;
/// Fewer late heads than this are no run: that one page is slow says nothing of its backend.
const RUN: u64 = 2;

impl Court<'_> {
    /// Finds out whether it is slow, has that cost it its share, and says whether that is not enough.
    pub(super) fn slow(&self, now: Duration, own: &mut Traffic) -> Option<(Sign, bool)> {
        let found = self.slow_median(own).or_else(|| self.late_in_a_row(own));
        let slowness = found.as_ref().map(|(slowness, _)| *slowness);
        let late_after = own.late_after.unwrap_or_default();
        let ejected = own.pace.on_tick(now, slowness, late_after, &mut own.trial);
        found.map(|(slowness, reason)| ((1.0 - 1.0 / slowness, reason), ejected))
    }

    /// Whether there is something to look into: only then the latencies are pooled.
    pub(super) fn may_be_slow(&self, own: &Traffic) -> bool {
        self.seems_slow(own).is_some() || self.run(own).is_some()
    }

    fn slow_median(&self, own: &Traffic) -> Option<Sign> {
        let (median, siblings, limit) = self.seems_slow(own)?;
        let mut heads = Latencies::default();
        let certain = own.latest_first().any(|slice| {
            heads.merge(&slice.latencies);
            self.is_surprising(&heads, slice.slot, limit)
        });
        let slowness = self.slowness(median, siblings)?;
        certain.then_some((slowness, EjectionReason::Slow { median, siblings, limit }))
    }

    /// Its latest heads were late one after another, and that is no chance by what its siblings were
    /// like in the same time.
    fn late_in_a_row(&self, own: &Traffic) -> Option<Sign> {
        let (limit, siblings) = self.run(own)?;
        let run = own.late_run;
        let rest = self.latencies_of_rest(run.since, &own.latencies_since(run.since));
        let (rest_late, rest_heads) = (rest.above(limit), rest.count());
        let certain = rarity(run.late, rest_late, rest_heads as f64) >= CERTAINTY;
        let reason = EjectionReason::LateInARow {
            late: run.late,
            limit,
            rest_late: rest_late.round() as u64,
            rest_heads,
        };
        // How late is not known of those who wait: at least so much.
        certain.then_some((self.slowness(limit, siblings)?, reason))
    }

    /// Beyond which age its latest heads were late, if there are enough of them and that would be slow
    /// for a median as well; and the median of its siblings.
    fn run(&self, own: &Traffic) -> Option<(Duration, Duration)> {
        let age = own.late_after.filter(|_| own.late_run.late >= RUN)?;
        let siblings = self.median_without(median(own))?;
        let limit = self.limit_over(siblings)?;
        // Where they are counted, which is a bucket above that age.
        (bucket(limit) <= bucket(age) + 1).then_some((age, siblings))
    }

    /// How many times its siblings' time it takes.
    fn slowness(&self, time: Duration, siblings: Duration) -> Option<f64> {
        let floor = self.settings.latency_floor.div_f64(self.settings.latency_factor?);
        Some(time.as_secs_f64() / siblings.max(floor).as_secs_f64().max(1e-6))
    }

    /// Its median, that of its siblings, and the limit, if it is above that.
    fn seems_slow(&self, own: &Traffic) -> Option<(Duration, Duration, Duration)> {
        let median = median(own)?;
        let siblings = self.median_without(Some(median))?;
        let limit = self.limit_over(siblings)?;
        (median > limit).then_some((median, siblings, limit))
    }

    /// Above which median this one would be slow. The least limit of all is the age at which
    /// attempts count as late, on all of them alike: were slow answers to count when they come on
    /// some and before they come on others, the latter would look worse than they are.
    pub(super) fn limit(&self, peer: &Peer<'_>) -> Option<Duration> {
        let judged = peer.in_service && self.settings.mode != Mode::Off;
        judged.then(|| self.median_without(median(peer.traffic)))?.and_then(|s| self.limit_over(s))
    }

    fn limit_over(&self, siblings: Duration) -> Option<Duration> {
        let factor = self.settings.latency_factor?;
        Some(siblings.mul_f64(factor).max(self.settings.latency_floor))
    }

    /// Whether most of these heads since a slot were late, and that is no chance by what its
    /// siblings were like in the same time.
    fn is_surprising(&self, heads: &Latencies, since: u64, limit: Duration) -> bool {
        let (late, count) = (heads.above(limit), heads.count() as f64);
        if late * 2.0 <= count {
            return false;
        }
        let rest = self.latencies_of_rest(since, heads);
        let usual = (rest.above(limit) + 0.5) / (rest.count() as f64 + 1.0);
        surprise(late / count, usual.max(0.01)) * count >= CERTAINTY
    }

    /// Of its siblings since a slot; `own` are its own since then.
    fn latencies_of_rest(&self, since: u64, own: &Latencies) -> Latencies {
        let mut rest = self.latencies.get(self.age(since)).cloned().unwrap_or_default();
        rest.remove(own);
        rest
    }

    /// The median of the siblings' medians; the higher one of two. So one backend that answers fast
    /// because it is broken makes nobody look slow, unless it is the only sibling.
    fn median_without(&self, own: Option<Duration>) -> Option<Duration> {
        let own = own.and_then(|own| self.medians.binary_search(&own).ok());
        let rest = self.medians.len() - usize::from(own.is_some());
        let at = rest / 2;
        let skipped = own.is_some_and(|own| own <= at);
        self.medians.get(at + usize::from(skipped)).copied().filter(|_| rest > 0)
    }
}

/// Of the latest heads, as few slices as hold enough.
pub(super) fn median(traffic: &Traffic) -> Option<Duration> {
    let since = traffic.slot_with(HEADS, |slice: &Slice| slice.latencies.count())?;
    traffic.latencies_since(since).quantile(0.5)
}

/// How unlikely it is that so many in a row are late, as a power of e, if `late` of `count` others
/// are. The share that is usual is known only as well as so many can tell it (beta-binomial, from
/// Jeffreys' prior): two in a row beside 0 of 1,000 are one in 1.3 millions, not one in four.
fn rarity(in_a_row: u64, late: f64, count: f64) -> f64 {
    let one_more = |before: f64| ((count + 1.0 + before) / (late + 0.5 + before)).ln();
    // Further ones change nothing.
    (0..in_a_row.min(1_000)).map(|before| one_more(before as f64)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_rare_a_run_of_late_heads_is() {
        for (in_a_row, late, count, enough) in [
            (0, 0.0, 1e6, false),
            (1, 0.0, 10_000.0, false),
            (2, 0.0, 800.0, false),
            (2, 0.0, 900.0, true),
            (2, 1.0, 1_800.0, false),
            (3, 0.0, 100.0, false),
            (3, 0.0, 130.0, true),
            (5, 0.0, 40.0, true),
            // One in ten is late on the others: then it takes seven.
            (6, 100.0, 1_000.0, false),
            (7, 100.0, 1_000.0, true),
            (1_000_000, 900.0, 1_000.0, true),
            (1_000_000, 1_000.0, 1_000.0, false),
            (1_000_000, 0.0, 0.0, false),
        ] {
            let rarity = rarity(in_a_row, late, count);
            assert_eq!(rarity >= CERTAINTY, enough, "{in_a_row} {late} {count}: {rarity}");
        }
    }
}
