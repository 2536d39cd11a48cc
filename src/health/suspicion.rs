//! Suspicion: a backend that may be ill is probed until there is a verdict, and others are preferred
//! until then. It costs a healthy backend next to nothing, so little is enough for it.
//!
//! Signs are a connect that failed, a connection that broke, a response that broke off (each of
//! them at once), and silence: somebody waits for a response head, for longer than is usual, and no
//! head came since. A slow page is not silence as long as others are answered.

use std::time::Duration;

/// How many times its p99 a backend may leave a request waiting.
const PATIENCE: u32 = 4;

/// How long a backend may be silent: `stall`, and four times its
/// [usual p99](super::outliers::Traffic::usual_p99) if that is longer.
#[must_use]
pub fn patience(stall: Duration, usual_p99: Option<Duration>) -> Duration {
    stall.max(usual_p99.unwrap_or_default().saturating_mul(PATIENCE))
}

/// After this a request that still waits is reason to ask again.
const AGAIN: Duration = Duration::from_secs(2);

/// What is known of a backend's silence. All times are since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// When its last response head came, on any worker.
    pub last_head: Duration,
    /// When a probe cleared it of suspicion the last time. Who began to wait before that has been
    /// asked about: a page that takes a minute is not to cause a probe at every look.
    pub cleared: Duration,
}

impl Silence {
    /// Whether a request that has been waiting since `began` makes the backend suspect: it waits
    /// for longer than `patience`, and nobody had a head from it for as long.
    ///
    /// To be asked for the attempts that wait, or as well for only the oldest that began after
    /// [`cleared`](Self::cleared) and the oldest of all.
    #[must_use]
    pub fn is_suspect(&self, now: Duration, began: Duration, patience: Duration) -> bool {
        let asked = began < self.cleared && now.saturating_sub(self.cleared) < AGAIN;
        !asked && now.saturating_sub(began.max(self.last_head)) > patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn patience_grows_with_the_p99() {
        assert_eq!(patience(ms(300), None), ms(300));
        assert_eq!(patience(ms(300), Some(ms(20))), ms(300));
        assert_eq!(patience(ms(300), Some(ms(500))), ms(2_000));
        assert_eq!(patience(ms(300), Some(Duration::MAX)), Duration::MAX);
    }

    #[test]
    fn silence() {
        let suspect = |last_head, cleared, began| {
            let silence = Silence { last_head: ms(last_head), cleared: ms(cleared) };
            silence.is_suspect(ms(10_000), ms(began), ms(300))
        };
        for (last_head, cleared, began, expected) in [
            (9_000, 0, 9_600, true),
            (9_000, 0, 9_700, false),
            // Others had a head: slow pages are no silence ...
            (9_750, 0, 9_600, false),
            // ... but one that came soon after this one began to wait says nothing for long.
            (9_650, 0, 9_600, true),
            // A probe passed after it began to wait: that was asked already,
            (9_000, 9_650, 9_600, false),
            (9_000, 9_500, 9_600, true),
            // and is asked again after two seconds.
            (7_000, 8_001, 7_500, false),
            (7_000, 8_000, 7_500, true),
            // Never a head at all.
            (0, 0, 9_000, true),
        ] {
            assert_eq!(
                suspect(last_head, cleared, began),
                expected,
                "{last_head} {cleared} {began}"
            );
        }
    }
}
