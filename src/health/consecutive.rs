//! Passive detection by the simplest sign: requests that fail one after another. And how many of a
//! pool may be ejected at all.

use super::reason::EjectionReason;

/// Counts the requests of one backend that failed in a row.
///
/// Only failures that are the backend's fault are to be counted; a client that left says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Consecutive {
    limit: u32,
    run: u32,
}

impl Consecutive {
    /// Ejects at `limit` failures in a row; 0 means never.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { limit, run: 0 }
    }

    /// A request went well.
    pub fn on_success(&mut self) {
        self.run = 0;
    }

    /// A request failed. Once it says eject, it begins to count anew.
    #[must_use = "the backend is to be ejected, if enough others are left"]
    pub fn on_failure(&mut self) -> Option<EjectionReason> {
        self.run = self.run.saturating_add(1);
        if self.limit == 0 || self.run < self.limit {
            return None;
        }
        Some(EjectionReason::ConsecutiveFailures(std::mem::take(&mut self.run)))
    }
}

/// Whether one more backend may be ejected, of a pool of `total` in which `already_out` take no
/// traffic, for whatever reason. The share that is out, a fraction of the pool, may not come to
/// exceed `max_share`, and the last usable backend stays whatever the share.
#[must_use]
pub fn may_eject(total: usize, already_out: usize, max_share: f64) -> bool {
    let out = already_out.saturating_add(1);
    // A hair more than the share, so that 20 % of 5 is 1 in binary fractions too.
    out < total && out as f64 <= max_share * total as f64 + 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_failures_in_a_row_only() {
        let mut consecutive = Consecutive::new(3);
        let story = "ff.ff.fffff.fff";
        let ejected: Vec<usize> = story
            .char_indices()
            .filter(|&(_, c)| match c {
                'f' => consecutive.on_failure() == Some(EjectionReason::ConsecutiveFailures(3)),
                _ => {
                    consecutive.on_success();
                    false
                }
            })
            .map(|(at, _)| at)
            .collect();
        assert_eq!(ejected, [8, 14]);
    }

    #[test]
    fn limits_of_one_and_none() {
        assert!(Consecutive::new(1).on_failure().is_some());
        let mut never = Consecutive::new(0);
        assert!((0..100).all(|_| never.on_failure().is_none()));
    }

    #[test]
    fn how_many_may_be_ejected() {
        for (total, out, share, may) in [
            (0, 0, 1.0, false),
            (1, 0, 1.0, false),
            (2, 0, 1.0, true),
            (2, 1, 1.0, false),
            (2, 0, 0.5, true),
            (2, 0, 0.4, false),
            (3, 0, 0.5, true),
            (3, 1, 0.5, false),
            (3, 1, 1.0, true),
            (3, 2, 1.0, false),
            (5, 0, 0.2, true),
            (5, 1, 0.2, false),
            (10, 2, 0.3, true),
            (10, 3, 0.3, false),
            (10, 0, 0.0, false),
            (4, 9, 1.0, false),
        ] {
            assert_eq!(may_eject(total, out, share), may, "{out} of {total} at {share}");
        }
    }
}
