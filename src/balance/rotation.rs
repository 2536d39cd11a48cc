//! Round robin: which member has a given turn.
//!
//! The turn is a counter kept by the caller, so a rotation is read-only and shared without locks.
//! Equal weights rotate strictly. Unequal ones follow a schedule made once by smooth weighted round
//! robin (5:1:1 gives `a a b a c a a`, never five in a row and then the others), as long as
//! the schedule is short and cheap to make; beyond that, turns are points of a low-discrepancy
//! sequence (multiples of the golden ratio) over the table of draws, which keeps the same shares
//! with a little less order.

use super::draws::Draws;

/// The longest schedule that is made.
const MAX_SCHEDULE: u64 = 4096;
/// Most steps spent on making one, members times turns: about 4 ms.
const MAX_STEPS: u64 = 1 << 22;
/// 2^64 divided by the golden ratio.
pub(super) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

pub(super) enum Rotation {
    Strict { len: usize },
    Schedule(Box<[u32]>),
    Spread(Draws),
}

impl Rotation {
    /// Plans a rotation; weights must be above 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().fold(0, |a, &b| gcd(a, b)).max(1);
        let reduced: Vec<u32> = weights.iter().map(|w| w / divisor).collect();
        let turns: u64 = reduced.iter().map(|&w| u64::from(w)).sum();
        let len = weights.len();
        if turns == len as u64 {
            Self::Strict { len }
        } else if turns <= MAX_SCHEDULE && turns * len as u64 <= MAX_STEPS {
            Self::Schedule(smooth(&reduced, turns as i64))
        } else {
            Self::Spread(Draws::new(weights))
        }
    }

    /// The member whose turn it is, or the first after it that is not skipped. `None` from a spread
    /// only says that the member of this turn is skipped.
    pub(super) fn pick(&self, turn: u64, skip: impl Fn(usize) -> bool) -> Option<usize> {
        match self {
            Self::Strict { len } => from(*len, turn).find(|&i| !skip(i)),
            Self::Schedule(turns) => {
                from(turns.len(), turn).map(|t| turns[t] as usize).find(|&i| !skip(i))
            }
            Self::Spread(draws) => Some(draws.at(turn.wrapping_mul(GOLDEN))).filter(|&i| !skip(i)),
        }
    }
}

/// All of `0..len` once around, beginning at `start` modulo `len`.
pub(super) fn from(len: usize, start: u64) -> impl Iterator<Item = usize> {
    let start = start.checked_rem(len as u64).unwrap_or(0) as usize;
    (start..len).chain(0..start)
}

fn smooth(weights: &[u32], turns: i64) -> Box<[u32]> {
    let mut credit = vec![0i64; weights.len()];
    (0..turns)
        .map(|_| {
            let mut best = 0;
            for (i, &weight) in weights.iter().enumerate() {
                credit[i] += i64::from(weight);
                if credit[i] > credit[best] {
                    best = i;
                }
            }
            credit[best] -= turns;
            best as u32
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32], from: u64, count: u64) -> Vec<usize> {
        let rotation = Rotation::new(weights);
        (from..from + count).map(|t| rotation.pick(t, |_| false).unwrap()).collect()
    }

    #[test]
    fn equal_weights_rotate_strictly() {
        assert_eq!(turns(&[4, 4, 4], 0, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn weights_are_interleaved_smoothly() {
        assert_eq!(turns(&[5, 1, 1], 0, 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[10, 20], 0, 6), [1, 0, 1, 1, 0, 1]);
        assert_eq!(turns(&[100_000, 200_000], 0, 6), [1, 0, 1, 1, 0, 1], "by their ratio");
    }

    #[test]
    fn a_round_has_every_member_as_often_as_it_weighs() {
        for weights in [&[1u32, 2, 3][..], &[100, 7, 31], &[60, 1, 1, 1, 1], &[4000, 95, 1]] {
            let sum = weights.iter().sum::<u32>();
            let round = turns(weights, 12_345, u64::from(sum));
            for (i, &weight) in weights.iter().enumerate() {
                assert_eq!(round.iter().filter(|&&m| m == i).count() as u32, weight);
            }
        }
    }

    #[test]
    fn a_spread_stays_close_to_its_shares_from_any_turn_on() {
        let weights = [9_001u32, 1_009, 17, 5_003];
        let sum = weights.iter().sum::<u32>();
        assert!(matches!(Rotation::new(&weights), Rotation::Spread(_)));
        let count = 3_000;
        let seen = turns(&weights, u64::MAX - 100_000, count);
        for (i, &weight) in weights.iter().enumerate() {
            let got = seen.iter().filter(|&&m| m == i).count() as f64;
            let want = count as f64 * f64::from(weight) / f64::from(sum);
            assert!((got - want).abs() < 10.0, "member {i}: {got} for {want}");
        }
    }

    #[test]
    fn a_skipped_turn_goes_to_the_next() {
        let strict = Rotation::new(&[1, 1, 1]);
        assert_eq!(strict.pick(1, |i| i == 1), Some(2));
        assert_eq!(strict.pick(2, |i| i == 2), Some(0));
        assert_eq!(strict.pick(0, |_| true), None);
        let schedule = Rotation::new(&[5, 1, 1]);
        assert_eq!(schedule.pick(0, |i| i == 0), Some(1));
        assert_eq!(schedule.pick(3, |i| i == 0), Some(2));
    }
}
