//! Points in time as people and programs write them, in UTC. Leap seconds do not exist here, as
//! they do not in Unix time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// A date and a time of day in the proleptic Gregorian calendar, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u64,
}

impl Civil {
    /// Of a point in time; what is before 1970 counts as its first moment.
    pub(crate) fn new(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Years begin in March here, so that the leap day is the last of its year; eras are the 400
        // years after which the calendar repeats.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Civil {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            hour: seconds / 3_600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            millisecond: u64::from(since.subsec_millis()),
        }
    }

    /// Appends it as RFC 3339 has it: `2024-02-29T23:59:58.123Z`.
    pub(crate) fn write_rfc3339(self, out: &mut Vec<u8>) {
        padded(out, self.year, 4);
        for (separator, field) in [
            (b'-', self.month),
            (b'-', self.day),
            (b'T', self.hour),
            (b':', self.minute),
            (b':', self.second),
        ] {
            out.push(separator);
            padded(out, field, 2);
        }
        out.push(b'.');
        padded(out, self.millisecond, 3);
        out.push(b'Z');
    }

    /// Appends it as the common log format has it: `29/Feb/2024:23:59:58 +0000`.
    pub(crate) fn write_common(self, out: &mut Vec<u8>) {
        padded(out, self.day, 2);
        out.push(b'/');
        out.extend_from_slice(MONTHS[(self.month as usize - 1) % 12]);
        out.push(b'/');
        padded(out, self.year, 4);
        for field in [self.hour, self.minute, self.second] {
            out.push(b':');
            padded(out, field, 2);
        }
        out.extend_from_slice(b" +0000");
    }
}

/// A time since the Unix epoch for people and programs, in UTC: `2024-02-29T23:59:58.123Z`.
#[must_use]
pub fn date(since_epoch: Duration) -> String {
    let mut out = Vec::new();
    let time = UNIX_EPOCH.checked_add(since_epoch).unwrap_or(UNIX_EPOCH);
    Civil::new(time).write_rfc3339(&mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends a number with at least `width` digits.
pub(crate) fn padded(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits.len())));
    out.extend_from_slice(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc3339(millis: u64) -> String {
        date(Duration::from_millis(millis))
    }

    #[test]
    fn the_calendar_is_right_at_its_edges() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_251_198_123, "2024-02-29T23:59:58.123Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (1_735_689_600_001, "2025-01-01T00:00:00.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(millis), expected);
        }
    }

    #[test]
    fn the_common_log_format_names_the_month() {
        let mut out = Vec::new();
        Civil::new(UNIX_EPOCH + Duration::from_secs(1_709_251_198)).write_common(&mut out);
        assert_eq!(out, b"29/Feb/2024:23:59:58 +0000");
    }
}
