//! How long a backend keeps an idle connection open: learned, so that we always close first.
//!
//! A backend that closes a connection in the moment in which we send on it costs a request an
//! attempt, and one that is not safe to repeat an error. Its limit is known from `Keep-Alive:
//! timeout=` or seen when it closes idle connections. One closed connection says little, since a
//! restart closes all of them at any age; so it takes three, at different times and of about the
//! same age, until an age is believed. After ten minutes without a sign it is forgotten, as we may
//! have outlived the setting that it came from, and close too early to see another.

use std::collections::VecDeque;
use std::time::Duration;

/// Idle connections that it closed which are remembered.
const REMEMBERED: usize = 8;
/// So many of the same age are believed.
const ENOUGH: usize = 3;
/// Closed together is closed once.
const TOGETHER: Duration = Duration::from_millis(500);
/// What counts as the same age: this, or a tenth of it.
const SAME_AGE: Duration = Duration::from_millis(500);
/// How long something learned is believed.
const MEMORY: Duration = Duration::from_secs(600);
/// No limit is shorter: below it connections are hardly worth keeping, and what closes them so soon
/// is no timeout.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is known of one backend.
#[derive(Clone, Debug, Default)]
pub struct KeepAlive {
    /// By its own word, and when it said so.
    announced: Option<(Duration, Duration)>,
    /// When it closed an idle connection, and how long that had been idle; the oldest first.
    closed: VecDeque<(Duration, Duration)>,
}

impl KeepAlive {
    /// A response named its limit, see [`announced`].
    pub fn on_announced(&mut self, now: Duration, timeout: Duration) {
        self.announced = Some((now, timeout));
    }

    /// It closed a connection that had been idle for so long; also one on which a request had just
    /// been sent in vain.
    pub fn on_closed(&mut self, now: Duration, idle: Duration) {
        let together = |(at, _): &(Duration, Duration)| now.saturating_sub(*at) < TOGETHER;
        if idle < SHORTEST / 2 || self.closed.back().is_some_and(together) {
            return;
        }
        self.closed.push_back((now, idle));
        if self.closed.len() > REMEMBERED {
            self.closed.pop_front();
        }
    }

    /// For how long a connection to it may be idle and still be used; `None` if nothing is known.
    /// A tenth, and half a second at least, below what it keeps, for the way to it; in whole
    /// hundredths of a second, as no backend keeps time better and people are to read it.
    #[must_use]
    pub fn limit(&self, now: Duration) -> Option<Duration> {
        let fresh =
            |(at, age): (Duration, Duration)| (now.saturating_sub(at) < MEMORY).then_some(age);
        let announced = self.announced.and_then(fresh);
        let mut ages: Vec<Duration> = self.closed.iter().copied().filter_map(fresh).collect();
        ages.sort_unstable();
        let seen = ages.windows(ENOUGH).find_map(|same| {
            let (youngest, oldest) = (*same.first()?, *same.last()?);
            (oldest - youngest <= SAME_AGE.max(youngest / 10)).then_some(youngest)
        });
        let kept = announced.into_iter().chain(seen).min()?;
        let margin = (kept / 10).max(Duration::from_millis(500)).min(kept / 2);
        let limit = (kept - margin).max(SHORTEST);
        Some(limit - Duration::from_nanos((limit.as_nanos() % 10_000_000) as u64))
    }
}

/// The limit in a `Keep-Alive` field: `timeout=5, max=1000`. `None` without one; zero is none, since
/// then the connection is closed anyway.
#[must_use]
pub fn announced(field: &[u8]) -> Option<Duration> {
    let value = field.split(|&byte| byte == b',').find_map(|parameter| {
        let equals = parameter.iter().position(|&byte| byte == b'=')?;
        let (name, value) = parameter.split_at(equals);
        let ours = name.trim_ascii().eq_ignore_ascii_case(b"timeout");
        ours.then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })?;
    let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    let seconds: u32 = str::from_utf8(value).ok()?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Connections that it closed, as (second, idle milliseconds); the limit right after.
    fn learned(closed: &[(u64, u64)]) -> Option<u64> {
        let mut keep_alive = KeepAlive::default();
        for &(at, idle) in closed {
            keep_alive.on_closed(ms(at * 1_000), ms(idle));
        }
        let now = ms(closed.last().map_or(0, |last| last.0 * 1_000));
        keep_alive.limit(now).map(|limit| limit.as_millis() as u64)
    }

    #[test]
    fn three_of_one_age_are_believed() {
        for (closed, limit) in [
            (&[(10, 5_000), (20, 5_010)][..], None),
            (&[(10, 5_000), (20, 5_010), (30, 5_003)], Some(4_500)),
            (&[(10, 65_000), (20, 68_000), (30, 70_000)], Some(58_500)),
            // A restart closes connections of any age, and all at once.
            (&[(10, 100), (10, 3_000), (10, 3_100), (10, 3_200)], None),
            (&[(10, 8_000), (20, 3_000), (30, 20_000), (40, 800)], None),
            // What fits is found among what does not.
            (&[(1, 700), (10, 2_000), (20, 30_000), (30, 2_050), (40, 2_010)], Some(1_500)),
            // Fast closing backends keep a connection for a second at least.
            (&[(1, 700), (10, 710), (20, 720)], Some(1_000)),
            (&[(1, 100), (10, 100), (20, 100)], None),
        ] {
            assert_eq!(learned(closed), limit, "{closed:?}");
        }
    }

    #[test]
    fn its_own_word_counts_at_once_and_for_ten_minutes() {
        let mut keep_alive = KeepAlive::default();
        keep_alive.on_announced(ms(0), ms(5_000));
        assert_eq!(keep_alive.limit(ms(0)), Some(ms(4_500)));
        assert_eq!(keep_alive.limit(ms(599_999)), Some(ms(4_500)));
        assert_eq!(keep_alive.limit(ms(600_000)), None);
        keep_alive.on_announced(ms(700_000), ms(20_000));
        assert_eq!(keep_alive.limit(ms(700_000)), Some(ms(18_000)));
    }

    #[test]
    fn no_more_digits_are_told_than_are_known() {
        let mut keep_alive = KeepAlive::default();
        (1..=3).for_each(|at| keep_alive.on_closed(ms(at * 1_000), Duration::new(2, 150_744_185)));
        assert_eq!(keep_alive.limit(ms(3_000)), Some(ms(1_650)));
    }

    #[test]
    fn what_is_seen_is_forgotten_too() {
        let mut keep_alive = KeepAlive::default();
        for at in [0, 1_000, 2_000] {
            keep_alive.on_closed(ms(at), ms(5_000));
        }
        assert_eq!(keep_alive.limit(ms(599_000)), Some(ms(4_500)));
        assert_eq!(keep_alive.limit(ms(600_500)), None);
    }

    #[test]
    fn fields() {
        for (field, seconds) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=1000", Some(5)),
            ("max=100 , Timeout = \"72\"", Some(72)),
            ("timeout=0", None),
            ("timeout=-1", None),
            ("timeout=99999999999", None),
            ("timeout", None),
            ("max=5", None),
            ("", None),
        ] {
            assert_eq!(announced(field.as_bytes()), seconds.map(Duration::from_secs), "{field}");
        }
    }
}
