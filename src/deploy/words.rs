//! Numbers as people write them.

use std::fmt;
use std::time::Duration;

/// A time: `250 ms`, `1.5 s`, `10 min`, `2 h 5 min`.
pub(super) struct Words(pub(super) Duration);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.as_millis());
        match seconds {
            0 if millis == 0 && !self.0.is_zero() => write!(f, "{} µs", self.0.as_micros()),
            0 => write!(f, "{millis} ms"),
            1..60 => write!(f, "{} s", (millis as f64 / 100.0).round() / 10.0),
            60..3600 if seconds % 60 == 0 => write!(f, "{} min", seconds / 60),
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            _ if seconds / 60 % 60 == 0 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }
}

/// A share: `20.6%`, `1%`, `0.05%`.
pub(super) struct Percent(pub(super) f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        let scale = if percent < 1.0 { 1000.0 } else { 10.0 };
        write!(f, "{}%", (percent * scale).round() / scale)
    }
}

/// So many of something: `1 request`, `3 requests`.
pub(super) fn plural(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        let words = |millis| Words(Duration::from_millis(millis)).to_string();
        let all = [0, 250, 1000, 1540, 60_000, 90_000, 3_600_000, 7_500_000].map(words);
        assert_eq!(
            all,
            ["0 ms", "250 ms", "1 s", "1.5 s", "1 min", "1 min 30 s", "1 h", "2 h 5 min"]
        );
        assert_eq!(Words(Duration::from_micros(40)).to_string(), "40 µs");
    }

    #[test]
    fn shares_read_well() {
        let all = [0.0, 0.0005, 0.01, 0.2063, 1.0].map(|share| Percent(share).to_string());
        assert_eq!(all, ["0%", "0.05%", "1%", "20.6%", "100%"]);
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!([plural(1, "request"), plural(0, "request")], ["1 request", "0 requests"]);
    }
}
