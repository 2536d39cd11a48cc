//! The evidence against "its share of bad samples is at most p0": a likelihood-ratio e-process.
//!
//! Think of a gambler who starts with 1 and bets against that claim. As long as the claim is true he
//! cannot expect to win, whenever he stops and however often somebody looks: the chance that he ever
//! gets to X is at most 1/X (Ville's inequality). So evidence of 1,000 is a certainty of 99.9 %.
//!
//! He plays four shares above p0 at once, half of his money at the start. The other half he puts in
//! little by little: money that is in while all is well melts away, so that without fresh money a
//! fault that begins late would be noticed late. A fifth of the whole goes in over the first thirty
//! seconds, when most bad versions show.
//!
//! A burst is not independent evidence: what is won within a second counts only up to a cap that is
//! just below what a verdict needs, so that no single second can bring one about.

use std::collections::VecDeque;
use std::time::Duration;

use super::sample::Tally;

/// Shares that are played against p0.
pub(super) const ALTERNATIVES: usize = 4;

/// What is put in at the start.
const AT_START: f64 = 0.6;

/// How money is split between the accounts: a small excess takes the longest to show.
const SPLIT: [f64; ALTERNATIVES] = [0.5, 0.3, 0.12, 0.08];

/// What is put in over the first while ...
const EARLY_MONEY: f64 = 0.16;

/// ... which is this long, on a horizon that is at least four times as long.
const EARLY: Duration = Duration::from_secs(30);

/// Gains are capped over this time. A little under a second, so that looks at every 250 ms count as
/// four to the second when they come a moment early or late.
const CAPPED: Duration = Duration::from_millis(875);

/// The cap as a share of what the money at the start needs to gain for a verdict.
const CAP: f64 = 0.95;

/// A running bet.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    threshold: f64,
    /// No account grows beyond this, so that a long fault that led to nothing is forgotten in time.
    ceiling: f64,
    /// The cap of gains within a second, as a logarithm.
    cap: f64,
    started: Duration,
    horizon: Duration,
    /// What was put in so far, of 1.
    put_in: f64,
    accounts: [f64; ALTERNATIVES],
    /// Gains of the last second.
    gains: VecDeque<(Duration, [f64; ALTERNATIVES])>,
    odds: Odds,
}

/// What a sample is worth on each account, as logarithms.
#[derive(Clone, Copy, Debug)]
struct Odds {
    p0: f64,
    bad: [f64; ALTERNATIVES],
    good: [f64; ALTERNATIVES],
}

impl Odds {
    fn new(p0: f64) -> Self {
        let shares = [p0.powf(0.8), p0.powf(0.6), p0.powf(0.3), f64::midpoint(1.0, p0).max(0.9)];
        Self {
            p0,
            bad: shares.map(|share| (share / p0).ln()),
            good: shares.map(|share| ((1.0 - share) / (1.0 - p0)).ln()),
        }
    }
}

impl Evidence {
    /// A bet that starts at `now`, is to last for `horizon`, and decides with `confidence` (at least
    /// 0.5 and below 1.0).
    pub(super) fn new(now: Duration, horizon: Duration, confidence: f64) -> Self {
        let threshold = 1.0 / (1.0 - confidence);
        Self {
            threshold,
            ceiling: (1e3 * threshold).max(1e9),
            cap: CAP * (threshold / AT_START).ln(),
            started: now,
            horizon,
            put_in: AT_START,
            accounts: SPLIT.map(|part| AT_START * part),
            gains: VecDeque::with_capacity(4),
            odds: Odds::new(0.01),
        }
    }

    /// What it takes for a verdict.
    pub(super) fn threshold(&self) -> f64 {
        self.threshold
    }

    /// What there is.
    pub(super) fn value(&self) -> f64 {
        self.accounts.iter().sum()
    }

    /// Whether that is enough.
    pub(super) fn is_enough(&self) -> bool {
        self.value() >= self.threshold
    }

    /// The accounts as they are, for [`go_back`](Self::go_back).
    pub(super) fn accounts(&self) -> [f64; ALTERNATIVES] {
        self.accounts
    }

    /// Forgets what was won since the accounts were like this.
    pub(super) fn go_back(&mut self, accounts: [f64; ALTERNATIVES]) {
        for (account, before) in self.accounts.iter_mut().zip(accounts) {
            *account = account.min(before);
        }
    }

    /// Takes the samples since the last look. Gives what they gain on the account of the lowest
    /// share, without a cap and as a logarithm: above zero if they speak against the claim.
    pub(super) fn update(&mut self, now: Duration, p0: f64, tally: Tally) -> f64 {
        self.put_in(now);
        while self.gains.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= CAPPED) {
            self.gains.pop_front();
        }
        if tally.n == 0 {
            return 0.0;
        }
        if p0.to_bits() != self.odds.p0.to_bits() {
            self.odds = Odds::new(p0);
        }
        let (bad, good) = (tally.bad as f64, tally.n.saturating_sub(tally.bad) as f64);
        let room = self.room();
        let mut gains = [0.0; ALTERNATIVES];
        for (j, gain) in gains.iter_mut().enumerate() {
            let uncapped = bad * self.odds.bad[j] + good * self.odds.good[j];
            *gain = uncapped.min(room[j]);
            self.accounts[j] = (self.accounts[j] * gain.exp()).min(self.ceiling);
        }
        self.gains.push_back((now, gains));
        bad * self.odds.bad[0] + good * self.odds.good[0]
    }

    /// What each account may still gain, so that no stretch of the last second is above the cap.
    /// One sample may always count in full.
    fn room(&self) -> [f64; ALTERNATIVES] {
        std::array::from_fn(|j| {
            let (mut sum, mut most) = (0.0, 0.0f64);
            for (_, gains) in self.gains.iter().rev() {
                sum += gains[j];
                most = most.max(sum);
            }
            self.cap.max(self.odds.bad[j]) - most
        })
    }

    /// Puts in what is due by now.
    fn put_in(&mut self, now: Duration) {
        let due = self.due(now.saturating_sub(self.started));
        let fresh = (due - self.put_in).max(0.0);
        self.put_in = self.put_in.max(due);
        for (account, part) in self.accounts.iter_mut().zip(SPLIT) {
            *account += fresh * part;
        }
    }

    /// What is to be in after this time.
    fn due(&self, elapsed: Duration) -> f64 {
        let (rest, horizon) = (1.0 - AT_START, self.horizon.as_secs_f64());
        let elapsed = elapsed.as_secs_f64().min(horizon);
        let early = EARLY.as_secs_f64();
        let later = if horizon < 4.0 * early {
            rest * elapsed / horizon.max(1.0)
        } else if elapsed < early {
            EARLY_MONEY * elapsed / early
        } else {
            EARLY_MONEY + (rest - EARLY_MONEY) * (elapsed - early) / (horizon - early)
        };
        AT_START + later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        Evidence::new(Duration::ZERO, Duration::from_secs(600), 0.999)
    }

    const fn tick(n: u32) -> Duration {
        Duration::from_millis(250 * n as u64)
    }

    /// The look at which there is enough, with these samples in every look.
    fn looks_until_enough(evidence: &mut Evidence, from: u32, tally: Tally) -> Option<u32> {
        (1..400).find(|n| {
            evidence.update(tick(from + n), 0.01, tally);
            evidence.is_enough()
        })
    }

    #[test]
    fn a_fault_from_the_start_is_seen_after_two_capped_seconds() {
        let all_bad = Tally { n: 125, bad: 125 };
        assert_eq!(looks_until_enough(&mut evidence(), 0, all_bad), Some(5));
    }

    #[test]
    fn a_late_fault_is_seen_after_three() {
        let mut evidence = evidence();
        for n in 1..2000 {
            evidence.update(tick(n), 0.01, Tally { n: 125, bad: 0 });
        }
        let all_bad = Tally { n: 125, bad: 125 };
        assert_eq!(looks_until_enough(&mut evidence, 2000, all_bad), Some(9));
    }

    #[test]
    fn no_more_is_put_in_than_there_is() {
        for horizon in [0, 20, 119, 120, 600, 86_400] {
            let mut evidence = Evidence::new(Duration::ZERO, Duration::from_secs(horizon), 0.999);
            for n in 0..10_000 {
                evidence.update(Duration::from_secs(10 * n), 0.01, Tally::default());
                assert!(evidence.value() <= 1.0 + 1e-9, "{horizon}: {}", evidence.value());
            }
            assert!(horizon == 0 || evidence.value() > 0.999, "{horizon}: {}", evidence.value());
        }
    }

    #[test]
    fn early_and_late_looks_are_capped_like_those_on_time() {
        let mut evidence = evidence();
        let jitter = [0, 20, 5, 30, 10];
        for (n, late) in (1..=4u32).zip(jitter) {
            evidence.update(tick(n) + Duration::from_millis(late), 0.01, Tally { n: 50, bad: 50 });
            assert!(!evidence.is_enough(), "look {n}");
        }
        evidence.update(tick(5), 0.01, Tally { n: 50, bad: 50 });
        assert!(evidence.is_enough());
    }

    #[test]
    fn good_samples_before_a_burst_make_no_room_for_it() {
        let mut evidence = evidence();
        for n in 1..100 {
            evidence.update(tick(n), 0.01, Tally { n: 1, bad: 0 });
        }
        let before = evidence.value();
        evidence.update(tick(100), 0.01, Tally { n: 1000, bad: 1000 });
        assert!(evidence.value() < 1.1 * before * evidence.cap.exp());
    }

    #[test]
    fn what_was_won_can_be_forgotten_and_what_was_lost_stays_lost() {
        let mut evidence = evidence();
        let before = evidence.accounts();
        evidence.update(tick(1), 0.01, Tally { n: 30, bad: 1 });
        let [lowest, .., highest] = evidence.accounts();
        evidence.go_back(before);
        assert_eq!(evidence.accounts()[0], before[0]);
        assert!(lowest > before[0] && highest < before[3]);
        assert_eq!(evidence.accounts()[3], highest);
    }

    #[test]
    fn a_bet_that_led_to_nothing_is_soon_forgotten() {
        let mut evidence = evidence();
        for n in 1..2000 {
            evidence.update(tick(n), 0.01, Tally { n: 12, bad: 12 });
        }
        assert!(evidence.value() <= 4e9);
        for n in 2000..2400 {
            evidence.update(tick(n), 0.01, Tally { n: 12, bad: 0 });
        }
        assert!(evidence.value() < 1.0, "{}", evidence.value());
    }
}
