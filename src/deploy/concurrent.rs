//! The old version as a control: what it did in the same last half minute as the new one.
//!
//! A cause that both share (a database, a network) shows on both at once. Wherever the old version
//! still takes a share of the traffic, a verdict therefore also asks whether the new one is
//! significantly worse than the old one was *in that very time*.

use std::collections::VecDeque;
use std::time::Duration;

use super::sample::{Counts, Measure, Tally};
use super::statistics::at_most_by_chance;

/// How far back the two are compared.
const WINDOW: Duration = Duration::from_secs(30);

/// What is called lately.
const LATELY: Duration = Duration::from_secs(5);

/// How long a verdict waits for a control that cannot tell because it has too few samples.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the control says of a suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// The new version is worse than the old one.
    Worse,
    /// The old one does as badly: the cause is not the new version.
    Shared,
    /// Too few samples of the old one so far.
    Unclear,
    /// There were never enough, and the new version has recovered meanwhile.
    Over,
}

/// Both versions over the last half minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Concurrent {
    looks: VecDeque<(Duration, Counts, Counts)>,
    new: Counts,
    old: Counts,
}

impl Concurrent {
    /// Adds what both did since the last look.
    pub(super) fn add(&mut self, now: Duration, new: Counts, old: Counts) {
        self.looks.push_back((now, new, old));
        self.new += new;
        self.old += old;
        while let Some((at, new, old)) = self.looks.front().copied()
            && now.saturating_sub(at) >= WINDOW
        {
            self.looks.pop_front();
            self.new = less(self.new, new);
            self.old = less(self.old, old);
        }
    }

    /// What the old version did meanwhile.
    pub(super) fn old(&self, measure: Measure) -> Tally {
        measure.of(&self.old)
    }

    /// Whether the new version, of which a share of `p0` is accepted, is worse, with an error of at
    /// most `alpha`, where a suspicion has stood since `since`.
    pub(super) fn compare(
        &self,
        now: Duration,
        measure: Measure,
        (p0, alpha): (f64, f64),
        since: Duration,
    ) -> Comparison {
        let (new, old) = (measure.of(&self.new), measure.of(&self.old));
        if at_most_by_chance(old.bad, old.n, new.bad, new.n) <= alpha {
            return Comparison::Worse;
        }
        // With twice as many bad samples expected as would be needed if none came, it is not for
        // want of samples.
        let expected = new.share() * old.n as f64;
        if expected >= 2.0 * (1.0 / alpha).ln() {
            return Comparison::Shared;
        }
        let waited = now.saturating_sub(since) >= PATIENCE;
        match self.lately(now, measure).share() > p0 {
            _ if !waited || old.bad > 0 => Comparison::Unclear,
            true => Comparison::Worse,
            false => Comparison::Over,
        }
    }

    /// What the new version did in the last few seconds.
    fn lately(&self, now: Duration, measure: Measure) -> Tally {
        let mut sum = Tally::default();
        let recent = self.looks.iter().rev();
        for (_, new, _) in recent.take_while(|(at, ..)| now.saturating_sub(*at) < LATELY) {
            sum += measure.of(new);
        }
        sum
    }
}

fn less(sum: Counts, part: Counts) -> Counts {
    Counts {
        requests: sum.requests - part.requests,
        failed: sum.failed - part.failed,
        timed: sum.timed - part.timed,
        slow: sum.slow - part.slow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALPHA: f64 = 0.001;

    fn counts(requests: u64, failed: u64) -> Counts {
        Counts { requests, failed, ..Counts::default() }
    }

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn compare(new: Counts, old: Counts) -> Comparison {
        let mut concurrent = Concurrent::default();
        concurrent.add(secs(100), new, old);
        concurrent.compare(secs(100), Measure::Errors, (0.01, ALPHA), secs(100))
    }

    #[test]
    fn the_control_decides_once_it_has_samples() {
        assert_eq!(compare(counts(600, 120), counts(25, 0)), Comparison::Unclear);
        assert_eq!(compare(counts(600, 120), counts(40, 0)), Comparison::Worse);
        assert_eq!(compare(counts(600, 120), counts(75, 12)), Comparison::Shared);
        assert_eq!(compare(counts(600, 120), Counts::default()), Comparison::Unclear);
    }

    #[test]
    fn a_control_without_samples_is_waited_for_only_so_long() {
        let mut concurrent = Concurrent::default();
        let at = |concurrent: &Concurrent, now| {
            concurrent.compare(secs(now), Measure::Errors, (0.01, ALPHA), secs(100))
        };
        concurrent.add(secs(100), counts(20, 20), counts(1, 0));
        assert_eq!(at(&concurrent, 100), Comparison::Unclear);
        concurrent.add(secs(114), counts(10, 10), counts(0, 0));
        assert_eq!(at(&concurrent, 114), Comparison::Unclear);
        assert_eq!(at(&concurrent, 115), Comparison::Worse);
        assert_eq!(at(&concurrent, 119), Comparison::Over, "it does not fail any more");
    }

    #[test]
    fn what_is_older_than_half_a_minute_does_not_count() {
        let mut concurrent = Concurrent::default();
        concurrent.add(secs(10), counts(9, 8), counts(7, 6));
        concurrent.add(secs(40), counts(1, 0), counts(2, 1));
        assert_eq!(concurrent.old(Measure::Errors), Tally { n: 2, bad: 1 });
        assert_eq!(concurrent.new, counts(1, 0));
    }
}
