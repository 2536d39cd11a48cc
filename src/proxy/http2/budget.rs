//! What a client may do at no charge.
//!
//! Nearly every frame makes us work, and some make us work for nothing. So each frame that is no
//! request is paid for out of a budget. Time refills a budget, and so does useful work: who gets
//! answers may also reset streams, update windows and ping. The budgets follow one rule: an ordinary
//! client at full speed stays at half of them at most, and an attack is over within some hundreds of
//! frames.

use std::time::Duration;

use tokio::time::Instant;

use crate::state::H2Abuse;

/// The shortest message of gRPC, below which no DATA of ours is worth a new window.
const SMALLEST_DATA: usize = 5;

/// The budgets of one connection.
#[derive(Debug)]
pub(super) struct Budgets {
    streams: u32,
    buckets: [Bucket; H2Abuse::ALL.len()],
    clock: fn() -> Instant,
}

/// What a kind may cost. Per connection, of which an ordinary client has few.
fn budget(kind: H2Abuse, streams: u32) -> Budget {
    let streams = streams as f32;
    let (burst, per_second) = match kind {
        // A browser that leaves a page resets all its streams at once; then it does so again.
        // Refilled by answers: whoever hedges resets one stream for each answer.
        H2Abuse::RapidReset => (f32::max(200.0, 2.0 * streams), 30.0),
        // Software that is merely wrong shows a few of them. A front proxy carries those of all
        // its users.
        H2Abuse::MadeYouReset => (100.0, 5.0),
        // One or two at the start, and one each time a client widens its windows (twice as wide
        // each time).
        H2Abuse::Settings => (100.0, 1.0),
        // Refilled by what we send: some gRPC libraries ping once in every round trip of a
        // transfer, to measure it.
        H2Abuse::Ping => (100.0, 10.0),
        // Old browsers describe a tree at the start, and change it when a tab comes to the front.
        H2Abuse::Priority => (500.0, 50.0),
        // No client is known to send any regularly.
        H2Abuse::EmptyData => (50.0, 1.0),
        H2Abuse::EmptyHeaders => (20.0, 1.0),
        // Refilled by what we send: two for each frame of data (stream and connection), and two
        // for each 2 KiB, since libraries that update windows with every read do so from 4 KiB on.
        H2Abuse::WindowUpdate => (1000.0, 100.0),
        // What is open at once, and as much again in streams that are refused or reset: those have
        // budgets of their own, which run out first.
        H2Abuse::StreamChurn => (200.0 + 2.0 * streams, 60.0),
        // New frames of the future, and those that some browsers send to keep them possible.
        H2Abuse::UnknownFrames => (500.0, 50.0),
        // Not a matter of a budget.
        H2Abuse::Continuation | H2Abuse::HeaderList | H2Abuse::ZeroWindow | H2Abuse::Protocol => {
            (0.0, 0.0)
        }
    };
    Budget { burst, per_second }
}

impl Budgets {
    /// Those of a connection that begins now, and may have so many streams. The time is asked for when
    /// a budget runs low, and not before.
    pub(super) fn new(streams: u32, clock: fn() -> Instant) -> Budgets {
        let now = clock();
        let buckets = H2Abuse::ALL.map(|kind| Bucket::full(budget(kind, streams), now));
        Budgets { streams, buckets, clock }
    }

    /// Pays for something.
    ///
    /// # Errors
    /// If the budget is over: the connection is to end.
    pub(super) fn take(&mut self, kind: H2Abuse, cost: f32) -> Result<(), H2Abuse> {
        let budget = budget(kind, self.streams);
        let paid = self.buckets[kind.index()].take(budget, cost, &self.clock);
        if paid { Ok(()) } else { Err(kind) }
    }

    fn give(&mut self, kind: H2Abuse, tokens: f32) {
        self.buckets[kind.index()].give(budget(kind, self.streams), tokens);
    }

    /// An answer has begun, or ended with trailers.
    pub(super) fn sent_fields(&mut self) {
        self.give(H2Abuse::RapidReset, 1.0);
        self.give(H2Abuse::MadeYouReset, 0.1);
        self.give(H2Abuse::Ping, 1.0);
        self.give(H2Abuse::WindowUpdate, 2.0);
        self.give(H2Abuse::Priority, 4.0);
        self.give(H2Abuse::UnknownFrames, 4.0);
    }

    /// So much of an answer's content was sent.
    pub(super) fn sent_data(&mut self, bytes: usize) {
        self.give(H2Abuse::Ping, 1.0);
        if bytes >= SMALLEST_DATA {
            self.give(H2Abuse::WindowUpdate, 2.0 + bytes as f32 / 1024.0);
        }
    }

    /// An answer has come to its end, or was broken off by no fault of the client's, or by the client
    /// behind its head.
    pub(super) fn ended_stream(&mut self) {
        self.give(H2Abuse::StreamChurn, 1.0);
    }
}

/// How much of something is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// At once.
    pub(super) burst: f32,
    /// And so much more each second.
    pub(super) per_second: f32,
}

/// What is left of a budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    tokens: f32,
    /// Time is looked at only when the tokens run out; so far it has been paid for.
    paid_until: Instant,
}

impl Bucket {
    pub(super) fn full(budget: Budget, now: Instant) -> Bucket {
        Bucket { tokens: budget.burst, paid_until: now }
    }

    /// Takes tokens; false if there are not enough.
    pub(super) fn take(&mut self, budget: Budget, cost: f32, now: &impl Fn() -> Instant) -> bool {
        if self.tokens < cost {
            let now = now();
            let elapsed = now.saturating_duration_since(self.paid_until);
            self.give(budget, budget.per_second * elapsed.min(HOUR).as_secs_f32());
            self.paid_until = now;
        }
        if self.tokens < cost {
            return false;
        }
        self.tokens -= cost;
        true
    }

    /// Puts tokens back.
    pub(super) fn give(&mut self, budget: Budget, tokens: f32) {
        self.tokens = (self.tokens + tokens).min(budget.burst);
    }
}

/// Longer than any bucket takes to fill.
const HOUR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { burst: 10.0, per_second: 2.0 };

    fn takes(bucket: &mut Bucket, now: Instant) -> usize {
        std::iter::repeat_with(|| bucket.take(BUDGET, 1.0, &|| now))
            .take_while(|taken| *taken)
            .count()
    }

    #[test]
    fn a_burst_and_then_what_time_gives() {
        let start = Instant::now();
        let mut bucket = Bucket::full(BUDGET, start);
        assert_eq!(takes(&mut bucket, start), 10);
        assert_eq!(takes(&mut bucket, start + Duration::from_millis(400)), 0);
        assert_eq!(takes(&mut bucket, start + Duration::from_secs(2)), 4);
        // However long it was: no more than a burst.
        assert_eq!(takes(&mut bucket, start + Duration::from_secs(100_000)), 10);
    }

    #[test]
    fn work_refills_up_to_the_burst() {
        let now = Instant::now();
        let mut bucket = Bucket::full(BUDGET, now);
        bucket.give(BUDGET, 5.0);
        assert_eq!(takes(&mut bucket, now), 10);
        bucket.give(BUDGET, 3.0);
        assert_eq!(takes(&mut bucket, now), 3);
    }
}
