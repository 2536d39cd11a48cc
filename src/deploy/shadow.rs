//! What copies of live requests showed: the new version's answers beside the old one's.

use super::rules::Rules;
use super::statistics::share_interval;
use super::words::{Percent, plural};

/// Pairs that must speak against the new version before it is refused.
const MIN_PAIRS: u64 = 5;

/// Share of answers that may be slower, as in the verdict.
const SLOWER: f64 = 0.05;

/// Pairs of answers to the same GET request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowTally {
    /// Pairs.
    pub compared: u64,
    /// Those where the new answer is 5xx or failed and the old one is not, or where the classes of
    /// their statuses differ otherwise.
    pub differing: u64,
    /// Those where the new one took longer than `latency_floor` and `latency_factor` times as long.
    pub slower: u64,
}

impl ShadowTally {
    /// Why the new version is refused, if it is: in words. It takes certainty, as everywhere: a few
    /// pairs that differ prove nothing.
    #[must_use]
    pub fn refusal(&self, rules: &Rules) -> Option<String> {
        let judge = |bad, accepted, what: &str| {
            let is_certain = share_interval(bad, self.compared).0 > accepted;
            (bad >= MIN_PAIRS && is_certain).then(|| {
                let (pairs, share) = (plural(self.compared, "pair"), Percent(accepted));
                format!("{bad} of {pairs} of answers {what}, {share} are accepted")
            })
        };
        judge(self.differing, rules.error_rate, "differ in the class of their status")
            .or_else(|| judge(self.slower, SLOWER, "are much slower"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::tests::simulation::RULES;

    fn refusal(compared: u64, differing: u64, slower: u64) -> Option<String> {
        ShadowTally { compared, differing, slower }.refusal(&RULES)
    }

    #[test]
    fn many_differences_refuse_and_few_do_not() {
        let words =
            "40 of 200 pairs of answers differ in the class of their status, 1% are accepted";
        assert_eq!(refusal(200, 40, 0).as_deref(), Some(words));
        assert_eq!(refusal(200, 2, 9), None);
        assert_eq!(refusal(1, 1, 0), None);
        assert_eq!(refusal(0, 0, 0), None);
        assert!(refusal(200, 0, 60).is_some_and(|words| words.contains("much slower")));
    }
}
