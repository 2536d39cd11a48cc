//! How the swaps of a pool went, for metrics. Written by the governor only.

use std::sync::atomic::{AtomicBool, Ordering};

use super::counters::Counter;
use crate::deploy::Outcome;

const OUTCOMES: [Outcome; 5] =
    [Outcome::Kept, Outcome::Undecided, Outcome::RolledBack, Outcome::Refused, Outcome::Cancelled];

/// Swaps by how they ended, and whether another version serves than the file wants.
#[derive(Debug, Default)]
pub struct SwapCounts {
    results: [Counter; OUTCOMES.len()],
    overridden: AtomicBool,
}

impl SwapCounts {
    /// A swap has ended.
    pub fn count(&self, outcome: Outcome) {
        let place = OUTCOMES.iter().position(|known| *known == outcome).unwrap_or_default();
        self.results[place].add(1);
    }

    /// How many ended how, by the word for it.
    pub fn results(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.iter().zip(&self.results).map(|(outcome, count)| (outcome.label(), count.get()))
    }

    /// Whether another version serves than the file wants.
    pub fn is_overridden(&self) -> bool {
        self.overridden.load(Ordering::Relaxed)
    }

    /// See [`is_overridden`](Self::is_overridden).
    pub fn set_overridden(&self, overridden: bool) {
        self.overridden.store(overridden, Ordering::Relaxed);
    }
}
