//! What copies of live requests showed: the new version's answers beside the old one's.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Shadow;
use super::rules::Rules;
use super::statistics::share_interval;
use super::words::{Percent, Words};

/// Pairs that must speak against the new version before it is refused.
const MIN_PAIRS: u64 = 5;

/// Share of answers that may be slower, as in the verdict.
const SLOWER: f64 = 0.05;

/// From so many pairs on a new version may be refused before the time is over ...
const HOPELESS_PAIRS: u64 = 20;

/// ... if surely more than this share of them differ. So far beyond what is accepted that looking at
/// it again and again does no harm.
const HOPELESS: f64 = 0.5;

/// An answer to a request, or to its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// How long its head was waited for.
    pub after: Duration,
}

/// Why a copy has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// There was nobody to ask, or the answer broke off.
    Failed,
    /// It did not come in this time, and was waited for no longer.
    NotWithin(Duration),
}

/// How the answer to a copy stands beside that to its original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Of the same class, and about as fast.
    Same,
    /// Of the same class, and much slower.
    Slower,
    /// Of another class, or there was none.
    Different,
}

impl Likeness {
    /// Holds the answer to a copy, if there was one, beside that to its original. `None`: the old
    /// version failed itself, or was no faster than a copy is waited for, and that is no measure.
    #[must_use]
    pub fn of(original: Answered, copy: Result<Answered, NoAnswer>, rules: &Rules) -> Option<Self> {
        if class(original.status) == 5 {
            return None;
        }
        if let Err(NoAnswer::NotWithin(patience)) = copy
            && original.after > patience / 2
        {
            return None;
        }
        let Some(copy) = copy.ok().filter(|copy| class(copy.status) == class(original.status))
        else {
            return Some(Self::Different);
        };
        let limit = rules.latency_factor.map(|factor| {
            // A factor beyond reason must not overflow.
            let beside = original.after.as_secs_f64() * factor;
            Duration::try_from_secs_f64(beside).unwrap_or(Duration::MAX).max(rules.latency_floor)
        });
        let is_slower = limit.is_some_and(|limit| copy.after > limit);
        Some(if is_slower { Self::Slower } else { Self::Same })
    }
}

/// The class of a status. Not modified is as good as the document: the client has one of either
/// version, and the other knows another validator.
fn class(status: u16) -> u16 {
    if status == 304 { 2 } else { status / 100 }
}

/// Pairs of answers to the same GET request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowTally {
    /// Pairs.
    pub compared: u64,
    /// Those where the new version failed, or where the classes of the statuses differ.
    pub differing: u64,
    /// Those whose times were compared: the others differ, or came before `grace` was over.
    pub timed: u64,
    /// Those where the new one took longer than `latency_floor` and `latency_factor` times as long.
    pub slower: u64,
    /// Copies without an answer to compare theirs with: the original failed, its client left, or it
    /// took about as long as a copy is waited for.
    pub alone: u64,
    /// Requests that were not copied although they were drawn: as many as may be were under way.
    pub skipped: u64,
}

impl ShadowTally {
    /// What was added since an earlier tally of the same counters.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            compared: self.compared.saturating_sub(before.compared),
            differing: self.differing.saturating_sub(before.differing),
            timed: self.timed.saturating_sub(before.timed),
            slower: self.slower.saturating_sub(before.slower),
            alone: self.alone.saturating_sub(before.alone),
            skipped: self.skipped.saturating_sub(before.skipped),
        }
    }

    /// Why the new version is refused, if it is: in words. It takes certainty, as everywhere: a few
    /// pairs that differ prove nothing. To be asked once, at the end.
    #[must_use]
    pub fn refusal(&self, rules: &Rules) -> Option<String> {
        let judge = |bad, of, accepted, what: &str| {
            let is_certain = share_interval(bad, of).0 > accepted;
            (bad >= MIN_PAIRS && is_certain).then(|| {
                let share = Percent(accepted);
                format!("{bad} of {of} copied requests {what}, {share} are accepted")
            })
        };
        let differ = "got no answer or one of another class";
        judge(self.differing, self.compared, rules.error_rate, differ)
            .or_else(|| judge(self.slower, self.timed, SLOWER, "were answered much slower"))
    }

    /// Whether there is no use in going on: that may be asked at any time.
    #[must_use]
    pub fn is_hopeless(&self, rules: &Rules) -> bool {
        self.compared >= HOPELESS_PAIRS
            && share_interval(self.differing, self.compared).0 > HOPELESS
            && self.refusal(rules).is_some()
    }
}

impl fmt::Display for ShadowTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compared, differing, timed, slower, alone, skipped } = self;
        match compared {
            0 => f.write_str("nothing to compare")?,
            _ => write!(f, "{compared} compared, {differing} differing")?,
        }
        if *timed > 0 {
            write!(f, ", {slower} of {timed} much slower")?;
        }
        if *alone > 0 {
            write!(f, ", {alone} without an answer of the old version")?;
        }
        if *skipped > 0 {
            write!(f, ", {skipped} not copied for want of room")?;
        }
        Ok(())
    }
}

/// What a report tells of copying.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowFigures {
    /// Share of the GET requests that was copied.
    pub share: f64,
    /// For how long.
    pub lasted: Duration,
    /// What it came to.
    pub tally: ShadowTally,
}

impl ShadowFigures {
    pub(super) fn begin(plan: Shadow) -> Self {
        Self { share: plan.share, lasted: Duration::ZERO, tally: ShadowTally::default() }
    }
}

impl fmt::Display for ShadowFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, lasted) = (Percent(self.share), Words(self.lasted));
        write!(f, "{share} of the GET requests for {lasted}: {}", self.tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::tests::simulation::RULES;

    fn tally(compared: u64, differing: u64, slower: u64) -> ShadowTally {
        let timed = compared - differing;
        ShadowTally { compared, differing, timed, slower, ..ShadowTally::default() }
    }

    fn refusal(compared: u64, differing: u64, slower: u64) -> Option<String> {
        tally(compared, differing, slower).refusal(&RULES)
    }

    #[test]
    fn many_differences_refuse_and_few_do_not() {
        let words =
            "40 of 200 copied requests got no answer or one of another class, 1% are accepted";
        assert_eq!(refusal(200, 40, 0).as_deref(), Some(words));
        assert_eq!(refusal(200, 2, 9), None);
        assert_eq!(refusal(1, 1, 0), None);
        assert_eq!(refusal(0, 0, 0), None);
        assert!(refusal(200, 0, 60).is_some_and(|words| words.contains("much slower")));
    }

    #[test]
    fn only_a_plainly_bad_version_is_given_up_before_the_time_is_over() {
        assert!(tally(20, 20, 0).is_hopeless(&RULES));
        assert!(!tally(19, 19, 0).is_hopeless(&RULES));
        assert!(!tally(200, 100, 0).is_hopeless(&RULES));
        assert!(!tally(200, 0, 200).is_hopeless(&RULES));
    }

    #[test]
    fn answers_are_held_side_by_side_by_their_class_and_their_time() {
        use Likeness::{Different, Same, Slower};
        use NoAnswer::{Failed, NotWithin};
        const TEN_SECONDS: Duration = Duration::from_secs(10);
        let answered = |status, millis| Answered { status, after: Duration::from_millis(millis) };
        // RULES: a floor of 100 ms, three times as long.
        for (original, copy, likeness) in [
            ((200, 10), Ok((204, 10)), Some(Same)),
            ((200, 10), Ok((500, 10)), Some(Different)),
            ((200, 10), Ok((404, 10)), Some(Different)),
            ((200, 10), Err(Failed), Some(Different)),
            ((200, 9_999), Err(Failed), Some(Different)),
            ((200, 5_000), Err(NotWithin(TEN_SECONDS)), Some(Different)),
            ((200, 5_001), Err(NotWithin(TEN_SECONDS)), None),
            ((200, 30_000), Err(NotWithin(TEN_SECONDS)), None),
            ((404, 10), Ok((410, 10)), Some(Same)),
            ((304, 10), Ok((200, 10)), Some(Same)),
            ((302, 10), Ok((304, 10)), Some(Different)),
            ((500, 10), Ok((200, 10)), None),
            ((503, 10), Err(Failed), None),
            ((200, 10), Ok((200, 99)), Some(Same)),
            ((200, 10), Ok((200, 101)), Some(Slower)),
            ((200, 100), Ok((200, 299)), Some(Same)),
            ((200, 100), Ok((200, 301)), Some(Slower)),
        ] {
            let (original, copy) =
                (answered(original.0, original.1), copy.map(|(status, ms)| answered(status, ms)));
            assert_eq!(Likeness::of(original, copy, &RULES), likeness, "{original:?} {copy:?}");
        }
        let any = Rules { latency_factor: None, ..RULES };
        let slow = Likeness::of(answered(200, 1), Ok(answered(200, 60_000)), &any);
        assert_eq!(slow, Some(Same));
    }

    #[test]
    fn figures_read_well() {
        let plan = Shadow { share: 0.05, lasts: Duration::from_secs(30) };
        let mut figures = ShadowFigures::begin(plan);
        assert_eq!(figures.to_string(), "5% of the GET requests for 0 ms: nothing to compare");
        figures.tally = ShadowTally { alone: 2, skipped: 3, ..tally(120, 1, 0) };
        figures.lasted = Duration::from_secs(30);
        let words = "5% of the GET requests for 30 s: 120 compared, 1 differing, 0 of 119 much \
                     slower, 2 without an answer of the old version, 3 not copied for want of room";
        assert_eq!(figures.to_string(), words);
    }
}
