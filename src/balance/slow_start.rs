//! Slow start: a backend that comes new or comes back gets its share bit by bit.
//!
//! Here is how much, and who at all. How a pick keeps to it is in
//! [`Candidates::pick_sparing`](super::Candidates::pick_sparing).

use std::time::Duration;

/// A ramp begins here: with less, low traffic would not reach it at all.
const FLOOR: f64 = 0.05;

/// The share of its traffic that a backend is to get, 0.05 to 1.0, so long after it began to serve:
/// in proportion to the time.
#[must_use]
pub fn ramp(in_service: Duration, slow_start: Duration) -> f64 {
    if in_service >= slow_start {
        return 1.0;
    }
    (in_service.as_secs_f64() / slow_start.as_secs_f64()).max(FLOOR)
}

/// Whether a backend that begins to serve now is to begin slowly; `siblings` are those of its
/// version that serve, each by how long it has.
///
/// Only if one of them has come to its full share: somebody has to carry the others' load, and
/// where a whole pool begins, or comes back, all are equally cold.
#[must_use]
pub fn begins_slowly(siblings: impl IntoIterator<Item = Duration>, slow_start: Duration) -> bool {
    !slow_start.is_zero() && siblings.into_iter().any(|in_service| in_service >= slow_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn ramps() {
        for (in_service, slow_start, share) in
            [(0, 10, 0.05), (1, 10, 0.1), (5, 10, 0.5), (10, 10, 1.0), (99, 10, 1.0), (0, 0, 1.0)]
        {
            assert_eq!(ramp(secs(in_service), secs(slow_start)), share, "{in_service} s");
        }
    }

    #[test]
    fn only_beside_one_that_has_its_full_share() {
        for (siblings, slow_start, slowly) in [
            (&[][..], 10, false),
            (&[0, 3, 9], 10, false),
            (&[0, 10], 10, true),
            (&[1000], 0, false),
        ] {
            let siblings = siblings.iter().copied().map(secs);
            assert_eq!(begins_slowly(siblings, secs(slow_start)), slowly);
        }
    }
}
