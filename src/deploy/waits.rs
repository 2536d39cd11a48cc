//! Requests that a new version leaves waiting. Nothing is known of how they will end, so no test
//! counts them; but where they outnumber those that are answered, nothing is known of the version.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::words::Words;

/// The age from which on an attempt without a response head waits for long.
pub const LONG_WAIT: Duration = Duration::from_secs(5);

/// Who waits for long has waited for at least so long when that is seen first, whatever the time
/// between two looks.
const SURELY: Duration = Duration::from_secs(4);

/// How far back it is looked: longer than long polling takes.
const SPAN: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Duration,
    waiting: u64,
    ended: u64,
}

/// Attempts that wait for long, beside those that ended meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct LongWaits {
    looks: VecDeque<Look>,
}

impl LongWaits {
    /// Takes a look: how many wait for long now, and how many attempts ended since the last look.
    pub(super) fn look(&mut self, at: Duration, waiting: u64, ended: u64) {
        self.looks.push_back(Look { at, waiting, ended });
        while self.looks.front().is_some_and(|look| at.saturating_sub(look.at) > SPAN) {
            self.looks.pop_front();
        }
    }

    /// How many there are.
    pub(super) fn waiting(&self) -> u64 {
        self.looks.back().map_or(0, |look| look.waiting)
    }

    /// Whether more wait than were answered since most of them began. A version whose answers always
    /// take that long, as with long polling, answers others meanwhile.
    pub(super) fn prevail(&self) -> bool {
        let waiting = self.waiting();
        let are_most = |look: &&Look| 2 * look.waiting > waiting;
        let first = self.looks.iter().rev().take_while(are_most).last();
        let since = first.map(|look| look.at.saturating_sub(SURELY)).unwrap_or_default();
        let ended = self.looks.iter().rev().take_while(|look| look.at > since);
        waiting > ended.map(|look| look.ended).sum()
    }
}

/// What is to be told of them after the other figures; nothing if there are none.
impl fmt::Display for LongWaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.waiting() {
            0 => Ok(()),
            n => write!(f, ", {n} without an answer for more than {}", Words(LONG_WAIT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found after looks of a second each, at which so many wait and so many have ended.
    fn after(looks: &[(u64, u64, u64)]) -> LongWaits {
        let (mut waits, mut at) = (LongWaits::default(), Duration::ZERO);
        for &(n, waiting, ended) in looks {
            for _ in 0..n {
                at += Duration::from_secs(1);
                waits.look(at, waiting, ended);
            }
        }
        waits
    }

    #[test]
    fn a_version_that_hangs_answers_nobody_meanwhile() {
        assert!(after(&[(20, 0, 1000), (5, 0, 0), (3, 60, 0)]).prevail());
        assert!(after(&[(20, 1, 1000), (5, 1, 0), (3, 60, 0)]).prevail(), "one waited all along");
        assert!(!after(&[(20, 0, 1000), (5, 0, 0), (3, 60, 30)]).prevail());
    }

    #[test]
    fn long_polling_and_an_answer_that_takes_long_are_no_hang() {
        assert!(!after(&[(5, 0, 0), (40, 50, 2)]).prevail());
        assert!(!after(&[(30, 0, 1), (1, 1, 1)]).prevail());
        let over = after(&[(5, 0, 0), (9, 3, 0), (1, 0, 3)]);
        assert!(!over.prevail() && over.to_string().is_empty());
    }
}
