//! Failures in a row, counted where they happen: on the data plane, by all workers together.
//!
//! What one tick of the control plane would notice a quarter of a second late, these notice with
//! the very request. Two runs are kept, because a backend that breaks its responses off may well go
//! on answering requests that have no body: among those that have one, only whole ones end the run.

use std::sync::atomic::{AtomicU32, Ordering};

/// How an attempt ended, as far as its backend is to be judged by it.
///
/// An attempt counts when it has ended: for an answer that is when its last byte was read, not when
/// its head was. A client that left, a stale connection and a backend that refused a stream
/// unprocessed say nothing and are not counted at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer below 500.
    Success {
        /// It had a body.
        body: bool,
    },
    /// An answer of 500, 501 or above 504: a failure in every rate, but more often a page's fault
    /// than the backend's, so it neither makes a run nor ends one.
    ServerError {
        /// It had a body.
        body: bool,
    },
    /// No connection, a reset, a timeout, an answer that is not HTTP, or one of 502, 503, 504.
    Failure,
    /// An answer that broke off in its body.
    BrokeOff,
}

impl Outcome {
    /// That of an answer with this status that came to its end. `grpc_failed` is whether it told by
    /// its gRPC status of a failure that is the backend's.
    #[must_use]
    pub fn of_answer(status: u16, body: bool, grpc_failed: bool) -> Self {
        match status {
            502..=504 => Self::Failure,
            500.. => Self::ServerError { body },
            _ if grpc_failed => Self::ServerError { body },
            _ => Self::Success { body },
        }
    }
}

/// What a worker has to tell the control plane at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// A response broke off: suspect the backend, and judge its pool now rather than at the tick.
    BrokeOff,
    /// So many attempts in a row failed.
    Failures(u32),
    /// So many responses with a body in a row broke off.
    BrokenOff(u32),
}

/// The runs of one backend. Shared by all workers; a success costs two loads.
#[derive(Debug, Default)]
pub struct Streak {
    failures: AtomicU32,
    broken_off: AtomicU32,
}

impl Streak {
    /// Counts an outcome. `limit` is [`Settings::consecutive_failures`](super::Settings); 0 means
    /// that no run is long enough.
    ///
    /// A run that reaches the limit is told of once, and counting begins anew.
    pub fn count(&self, outcome: Outcome, limit: u32) -> Option<Alarm> {
        match outcome {
            Outcome::Success { body } => {
                end(&self.failures);
                if body {
                    end(&self.broken_off);
                }
                None
            }
            Outcome::ServerError { body } => {
                if body {
                    end(&self.broken_off);
                }
                None
            }
            Outcome::Failure => grow(&self.failures, limit).map(Alarm::Failures),
            Outcome::BrokeOff => {
                let failures = grow(&self.failures, limit).map(Alarm::Failures);
                let broken_off = grow(&self.broken_off, limit).map(Alarm::BrokenOff);
                broken_off.or(failures).or(Some(Alarm::BrokeOff))
            }
        }
    }

    /// Forgets both: the backend is out, and is to be judged by what comes when it is back.
    pub fn reset(&self) {
        end(&self.failures);
        end(&self.broken_off);
    }
}

/// Only written if there is something to end: most of the time the line is shared and read.
fn end(run: &AtomicU32) {
    if run.load(Ordering::Relaxed) != 0 {
        run.store(0, Ordering::Relaxed);
    }
}

fn grow(run: &AtomicU32, limit: u32) -> Option<u32> {
    let length = run.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    // Of several workers past the limit at once only the one that reached it tells.
    (length == limit).then(|| {
        run.store(0, Ordering::Relaxed);
        length
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `s` a success with a body, `n` one without, `5` a 500, `f` a failure, `x` broken off; gives
    /// every alarm with the place where it came.
    fn alarms(story: &str, limit: u32) -> Vec<(usize, Alarm)> {
        let streak = Streak::default();
        let outcome = |c| match c {
            's' => Outcome::Success { body: true },
            'n' => Outcome::Success { body: false },
            '5' => Outcome::ServerError { body: false },
            'x' => Outcome::BrokeOff,
            _ => Outcome::Failure,
        };
        let count = |(at, c)| streak.count(outcome(c), limit).map(|alarm| (at, alarm));
        story.chars().enumerate().filter_map(count).collect()
    }

    #[test]
    fn outcomes_of_answers() {
        for (status, grpc_failed, outcome) in [
            (200, false, Outcome::Success { body: true }),
            (404, false, Outcome::Success { body: true }),
            (200, true, Outcome::ServerError { body: true }),
            (500, false, Outcome::ServerError { body: true }),
            (501, false, Outcome::ServerError { body: true }),
            (502, false, Outcome::Failure),
            (504, true, Outcome::Failure),
            (505, false, Outcome::ServerError { body: true }),
        ] {
            assert_eq!(Outcome::of_answer(status, true, grpc_failed), outcome, "{status}");
        }
    }

    #[test]
    fn failures_in_a_row() {
        let failures = Alarm::Failures(3);
        assert_eq!(alarms("ffsffnfffsfff", 3), [(8, failures), (12, failures)]);
        assert_eq!(alarms("ffffff", 3), [(2, failures), (5, failures)]);
        assert_eq!(alarms("f", 1), [(0, Alarm::Failures(1))]);
        assert_eq!(alarms(&"f".repeat(100), 0), []);
    }

    #[test]
    fn a_500_neither_makes_a_run_nor_ends_one() {
        assert_eq!(alarms("f5f5f55555", 3), [(4, Alarm::Failures(3))]);
    }

    #[test]
    fn every_broken_off_response_is_told_of() {
        assert_eq!(alarms("sxsxs", 3), [(1, Alarm::BrokeOff), (3, Alarm::BrokeOff)]);
    }

    #[test]
    fn only_whole_bodies_end_a_run_of_broken_off_ones() {
        let run = [(0, Alarm::BrokeOff), (2, Alarm::BrokeOff), (4, Alarm::BrokenOff(3))];
        assert_eq!(alarms("xnxnx", 3), run);
        assert_eq!(alarms("xnxsxnx", 3).last(), Some(&(6, Alarm::BrokeOff)));
        // Both runs at once: the one that says more.
        assert_eq!(alarms("ffx", 3), [(2, Alarm::Failures(3))]);
        assert_eq!(alarms("xxx", 3)[2], (2, Alarm::BrokenOff(3)));
    }

    #[test]
    fn a_reset_begins_anew() {
        let streak = Streak::default();
        for _ in 0..2 {
            streak.count(Outcome::BrokeOff, 3);
            streak.count(Outcome::Failure, 3);
            streak.reset();
        }
        assert_eq!(streak.count(Outcome::Failure, 3), None);
    }
}
