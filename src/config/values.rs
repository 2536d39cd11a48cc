//! The grammars of single values: durations, sizes, shares, rates, counts, words.
//!
//! Each takes what stands in the file and gives the value or the [`Problem`] with it.

mod scalar;

use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) use self::scalar::{Problem, Scalar};
use super::choice::Choice;
use super::model::{RetryOn, StatusRange};
use super::suggest::suggest;

/// Any text but an empty one.
pub(super) fn text(scalar: &Scalar) -> Result<String, Problem> {
    borrowed_text(scalar).map(str::to_owned)
}

/// The same where it is only looked at.
pub(super) fn borrowed_text<'a>(scalar: &'a Scalar) -> Result<&'a str, Problem> {
    match scalar {
        Scalar::Text { text, .. } if text.is_empty() => Err(Problem::new("this text is empty")),
        Scalar::Text { text, .. } => Ok(text),
        other => Err(Problem::expected("a text in quotes", other)),
    }
}

/// `true` or `false`.
pub(super) fn boolean(scalar: &Scalar) -> Result<bool, Problem> {
    match scalar {
        Scalar::Boolean(value) => Ok(*value),
        Scalar::Text { text, from_env: true } if text == "true" => Ok(true),
        Scalar::Text { text, from_env: true } if text == "false" => Ok(false),
        other => Err(Problem::expected("`true` or `false`", other)),
    }
}

/// A whole number within a range that fits its type.
pub(super) fn whole<N: TryFrom<i64>>(
    range: RangeInclusive<i64>,
) -> impl Fn(&Scalar) -> Result<N, Problem> {
    move |scalar| {
        let (low, high) = (range.start(), range.end());
        let number = scalar.integer().ok_or_else(|| Problem::expected("a whole number", scalar))?;
        N::try_from(number).ok().filter(|_| range.contains(&number)).ok_or_else(|| {
            Problem::new(format!("{number} is out of range")).help(match *high {
                i64::MAX => format!("it must be at least {low}"),
                high => format!("it must be from {low} to {high}"),
            })
        })
    }
}

/// A number of things, without an upper limit of its own.
pub(super) fn count(scalar: &Scalar) -> Result<usize, Problem> {
    whole(0..=i64::MAX)(scalar)
}

/// The same where 0 stands for "no limit".
pub(super) fn count_or_none(scalar: &Scalar) -> Result<Option<usize>, Problem> {
    count(scalar).map(|number| (number > 0).then_some(number))
}

/// A number that is counted up to: at least one.
pub(super) fn positive(scalar: &Scalar) -> Result<u32, Problem> {
    whole(1..=u32::MAX.into())(scalar)
}

/// How many times something else; at least 1.
pub(super) fn factor(scalar: &Scalar) -> Result<f64, Problem> {
    let number = match scalar {
        Scalar::Float(number) => Some(*number),
        Scalar::Text { text, from_env: true } => text.parse().ok(),
        other => other.integer().map(|number| number as f64),
    };
    match number {
        None => Err(Problem::expected("a number such as 2.5", scalar)),
        Some(number) if number.is_finite() && number >= 1.0 => Ok(number),
        Some(_) => {
            Err(Problem::new(format!("{scalar} is no factor")).help("it must be at least 1"))
        }
    }
}

/// The same above 1, or 0 for "off".
pub(super) fn factor_or_none(scalar: &Scalar) -> Result<Option<f64>, Problem> {
    match factor(scalar) {
        Ok(number) if number > 1.0 => Ok(Some(number)),
        _ if scalar.integer() == Some(0) || *scalar == Scalar::Float(0.0) => Ok(None),
        Err(problem) if problem.help.is_none() => Err(problem),
        _ => {
            let problem = Problem::new(format!("{scalar} is no factor"));
            Err(problem.help("it must be above 1, or 0 to turn this off"))
        }
    }
}

/// Longest duration that is taken: what is meant by more than ten years is a typing error.
const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// `"250ms"`, `"10s"`, `"1h30m"`, `"2d"`; `"0"` needs no unit.
pub(super) fn duration(scalar: &Scalar) -> Result<Duration, Problem> {
    let Scalar::Text { text, .. } = scalar else {
        let problem = Problem::expected("a duration such as \"10s\"", scalar);
        return Err(match scalar {
            Scalar::Integer(number @ 0..) => problem.help(format!("write \"{number}s\"")),
            _ => problem,
        });
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let invalid = || {
        let problem = Problem::new(format!("\"{text}\" is no duration"));
        problem.help(if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("write \"{text}s\"")
        } else {
            "write it like \"250ms\", \"10s\", \"5m\" or \"1h30m\"".to_owned()
        })
    };
    let mut milliseconds = 0_u64;
    let mut units = DURATION_UNITS.iter();
    let mut rest: &str = text;
    loop {
        let (number, after) = leading_number(rest).ok_or_else(invalid)?;
        let unit_length = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        // The units stand in descending order, each at most once.
        let (_, scale) = units.find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        milliseconds = number.saturating_mul(*scale).saturating_add(milliseconds);
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    let duration = Duration::from_millis(milliseconds);
    if duration > MAX_DURATION {
        return Err(Problem::new(format!("\"{text}\" is too long")).help("the most is ten years"));
    }
    Ok(duration)
}

/// A duration above zero.
pub(super) fn positive_duration(scalar: &Scalar) -> Result<Duration, Problem> {
    match duration(scalar)? {
        Duration::ZERO => Err(Problem::new("this duration must be above zero")),
        duration => Ok(duration),
    }
}

/// A duration where zero stands for "none".
pub(super) fn duration_or_none(scalar: &Scalar) -> Result<Option<Duration>, Problem> {
    duration(scalar).map(|duration| (!duration.is_zero()).then_some(duration))
}

const SIZE_UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// `"64KiB"`, `"32MiB"`, `"10MB"`, or bytes as a plain number.
pub(super) fn size(scalar: &Scalar) -> Result<u64, Problem> {
    let text = match scalar {
        Scalar::Integer(number) => number.to_string(),
        Scalar::Text { text, .. } => text.to_string(),
        other => return Err(Problem::expected("a size such as \"64KiB\"", other)),
    };
    let invalid = |help: &str| Problem::new(format!("{scalar} is no size")).help(help);
    let usual = "write it like \"64KiB\", \"32MiB\" or 1000 (bytes)";
    let (number, unit) = leading_number(&text).ok_or_else(|| invalid(usual))?;
    let Some((_, scale)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        let meant = SIZE_UNITS.iter().rev().find(|(name, _)| {
            name.len() == 3 && name[..1].eq_ignore_ascii_case(unit.get(..1).unwrap_or_default())
        });
        return Err(match meant {
            Some((name, _)) => invalid(&format!("did you mean \"{number}{name}\"?")),
            None => invalid(usual),
        });
    };
    number.checked_mul(*scale).ok_or_else(|| Problem::new(format!("{scalar} is too large")))
}

/// A size within limits that are whole KiB.
pub(super) fn size_within(
    range: RangeInclusive<usize>,
) -> impl Fn(&Scalar) -> Result<usize, Problem> {
    move |scalar| {
        let size = usize::try_from(size(scalar)?).unwrap_or(usize::MAX);
        if range.contains(&size) {
            return Ok(size);
        }
        let (low, high) = (range.start() / 1024, range.end() / 1024);
        let help = format!("it must be from \"{low}KiB\" to \"{high}KiB\"");
        Err(Problem::new(format!("{scalar} is out of range")).help(help))
    }
}

/// A size where 0 stands for "no limit".
pub(super) fn size_or_none(scalar: &Scalar) -> Result<Option<u64>, Problem> {
    size(scalar).map(|size| (size > 0).then_some(size))
}

/// A size of 1 MiB or more, where 0 stands for "see for yourself".
pub(super) fn ample_or_none(scalar: &Scalar) -> Result<Option<u64>, Problem> {
    match size_or_none(scalar)? {
        Some(..1_048_576) => {
            let help = "it must be at least \"1MiB\", or 0";
            Err(Problem::new(format!("{scalar} is too little")).help(help))
        }
        size => Ok(size),
    }
}

/// `"20%"` as 0.2; from 0 to 100 per cent.
pub(super) fn share(scalar: &Scalar) -> Result<f64, Problem> {
    let Scalar::Text { text, .. } = scalar else {
        let problem = Problem::expected("a share such as \"20%\"", scalar);
        return Err(match scalar {
            Scalar::Float(number @ 0.0..=1.0) => {
                problem.help(format!("write \"{}%\"", (number * 1e6).round() / 1e4))
            }
            Scalar::Integer(number @ 0..=100) => problem.help(format!("write \"{number}%\"")),
            _ => problem,
        });
    };
    let is_decimal = |number: &&str| number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = text.strip_suffix('%').map(str::trim_end).filter(is_decimal);
    // Moving the point in the text rounds once, where a division would round twice.
    match number.and_then(|number| format!("{number}e-2").parse::<f64>().ok()) {
        None => Err(Problem::new(format!("\"{text}\" is no share")).help("write it like \"20%\"")),
        Some(share) if share <= 1.0 => Ok(share),
        Some(_) => Err(Problem::new(format!("\"{text}\" is more than everything"))),
    }
}

/// A share above zero.
pub(super) fn positive_share(scalar: &Scalar) -> Result<f64, Problem> {
    match share(scalar)? {
        0.0 => Err(Problem::new("this share must be above zero")),
        share => Ok(share),
    }
}

/// A share above `low` and below `high`.
pub(super) fn share_between(low: f64, high: f64) -> impl Fn(&Scalar) -> Result<f64, Problem> {
    move |scalar| {
        let share = share(scalar)?;
        if low < share && share < high {
            return Ok(share);
        }
        let help = format!("it must be above {}% and below {}%", low * 100.0, high * 100.0);
        Err(Problem::new(format!("{scalar} is out of range")).help(help))
    }
}

/// `"10/s"`, `"600/m"`, `"36000/h"` as a number per second.
pub(super) fn rate(scalar: &Scalar) -> Result<f64, Problem> {
    let Scalar::Text { text, .. } = scalar else {
        return Err(Problem::expected("a rate such as \"10/s\"", scalar));
    };
    let parsed = text.split_once('/').and_then(|(number, unit)| {
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        Some(f64::from(number.trim().parse::<u32>().ok()?) / seconds)
    });
    parsed.ok_or_else(|| {
        Problem::new(format!("\"{text}\" is no rate")).help("write it like \"10/s\" or \"600/m\"")
    })
}

/// `"200"` or `"200-399"`, or a status as a plain number.
pub(super) fn status_range(scalar: &Scalar) -> Result<StatusRange, Problem> {
    let text = match scalar {
        Scalar::Integer(number) => number.to_string(),
        Scalar::Text { text, .. } => text.to_string(),
        other => return Err(Problem::expected("a status such as \"200\"", other)),
    };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(StatusRange { first, last }),
        _ => {
            let problem = Problem::new(format!("{scalar} is no range of statuses"));
            Err(problem.help("write it like \"200\" or \"200-399\", within 100 and 599"))
        }
    }
}

fn status(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|status| (100..=599).contains(status))
}

/// What to retry on: a word or a status from 400 on.
pub(super) fn retry_on(scalar: &Scalar) -> Result<RetryOn, Problem> {
    let number = match scalar {
        Scalar::Integer(number) => number.to_string(),
        Scalar::Text { text, .. } => text.to_string(),
        other => return Err(Problem::expected("a reason to retry", other)),
    };
    Ok(match number.as_str() {
        "connect" => RetryOn::Connect,
        "reset" => RetryOn::Reset,
        "refused_stream" => RetryOn::RefusedStream,
        "timeout" => RetryOn::Timeout,
        other => match status(other).filter(|status| *status >= 400) {
            Some(status) => RetryOn::Status(status),
            None => {
                let known = ["connect", "reset", "refused_stream", "timeout"];
                let problem = Problem::new(format!(
                    "{scalar} is no reason to retry, nor a status from 400 on"
                ));
                return Err(Problem { help: suggest(other, known.into_iter()), ..problem });
            }
        },
    })
}

/// One of the words of an enum.
pub(super) fn choice<C: Choice>(scalar: &Scalar) -> Result<C, Problem> {
    let words = C::ALL.iter().map(|(word, _)| *word);
    let Scalar::Text { text, .. } = scalar else {
        let problem = Problem::expected("a word in quotes", scalar);
        return Err(Problem { help: suggest("", words), ..problem });
    };
    C::ALL.iter().find(|(word, _)| word == text).map(|(_, value)| *value).ok_or_else(|| {
        let problem = Problem::new(format!("\"{text}\" is not known here"));
        Problem { help: suggest(text, words), ..problem }
    })
}

/// Checks a name of a listener, pool, version or route: it appears in URLs and metric labels.
pub(super) fn name(text: &str) -> Result<(), Problem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let dots_only = text.chars().all(|c| c == '.');
    if text.len() <= 64 && text.chars().all(fits) && !dots_only {
        return Ok(());
    }
    let problem = Problem::new(format!("`{text}` cannot be a name"));
    Err(problem.help("names have up to 64 letters, digits, `-`, `_` and `.`"))
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests;
