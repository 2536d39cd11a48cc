//! The date that answers bear (RFC 9110 section 6.6.1), formatted once a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The date, as of the latest look.
#[derive(Debug)]
pub struct Date {
    text: String,
    /// From then on it is another.
    until: Option<Instant>,
}

impl Date {
    /// None yet.
    pub fn new() -> Self {
        Date { text: String::new(), until: None }
    }

    /// The date at `now`. `wall` is asked for the time of day if it may have changed.
    pub fn at(&mut self, now: Instant, wall: impl FnOnce() -> SystemTime) -> &[u8] {
        if self.until.is_none_or(|until| until <= now) {
            // A clock that was never set may stand before what the format knows.
            let wall = wall().max(UNIX_EPOCH);
            let passed = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
            let left = Duration::from_secs(1) - Duration::from_nanos(u64::from(passed));
            self.text = httpdate::fmt_http_date(wall);
            self.until = Some(now + left);
        }
        self.text.as_bytes()
    }
}

impl Default for Date {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_formatted_when_a_second_is_over() {
        let mut date = Date::new();
        let (start, wall) = (Instant::now(), UNIX_EPOCH + Duration::from_millis(784_111_777_400));
        let first = date.at(start, || wall).to_vec();
        assert_eq!(first, b"Sun, 06 Nov 1994 08:49:37 GMT");
        let later = start + Duration::from_millis(599);
        assert_eq!(date.at(later, || panic!("no need to look")), first);
        let over = Duration::from_millis(600);
        assert_eq!(date.at(start + over, || wall + over), b"Sun, 06 Nov 1994 08:49:38 GMT");
    }
}
