use std::fmt;
use std::time::Duration;

use super::*;
use crate::config::model::Policy;

fn t(text: &str) -> Scalar<'_> {
    Scalar::Text { text: text.into(), from_env: false }
}

fn help<T: fmt::Debug>(result: Result<T, Problem>) -> String {
    result.unwrap_err().help.unwrap_or_default()
}

#[test]
fn durations() {
    for (written, milliseconds) in [
        ("250ms", 250),
        ("10s", 10_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("1h30m", 5_400_000),
        ("1m1s1ms", 61_001),
        ("2d", 172_800_000),
        ("0s", 0),
        ("0", 0),
        ("3650d", 315_360_000_000),
    ] {
        assert_eq!(duration(&t(written)), Ok(Duration::from_millis(milliseconds)), "{written}");
    }
    for wrong in [
        "",
        "s",
        "10",
        "10 s",
        "-1s",
        "1.5s",
        "1s1m",
        "1s1s",
        "5sec",
        "5S",
        "1h30",
        "3651d",
        "99999999999999999999s",
        "18446744073709551615d",
    ] {
        assert!(duration(&t(wrong)).is_err(), "{wrong}");
    }
    assert_eq!(help(duration(&t("10"))), "write \"10s\"");
    assert_eq!(help(duration(&Scalar::Integer(7))), "write \"7s\"");
}

#[test]
fn durations_that_must_be_and_that_may_be_zero() {
    assert!(positive_duration(&t("0s")).is_err());
    assert_eq!(positive_duration(&t("1ms")), Ok(Duration::from_millis(1)));
    assert_eq!(duration_or_none(&t("0s")), Ok(None));
    assert_eq!(duration_or_none(&t("1s")), Ok(Some(Duration::from_secs(1))));
}

#[test]
fn sizes() {
    for (written, bytes) in [
        (t("0"), 0),
        (t("100"), 100),
        (t("5B"), 5),
        (t("64KiB"), 65_536),
        (t("32MiB"), 32 << 20),
        (t("1GiB"), 1 << 30),
        (t("2TiB"), 2 << 40),
        (t("10MB"), 10_000_000),
        (Scalar::Integer(4096), 4096),
    ] {
        assert_eq!(size(&written), Ok(bytes), "{written}");
    }
    for wrong in ["", "KiB", "-1", "1.5MiB", "64 KiB", "64kib", "1XB", "18446744073709551615KiB"] {
        assert!(size(&t(wrong)).is_err(), "{wrong}");
    }
    assert!(size(&Scalar::Integer(-1)).is_err());
    assert_eq!(help(size(&t("64k"))), "did you mean \"64KiB\"?");
    assert_eq!(help(size(&t("1M"))), "did you mean \"1MiB\"?");
    assert_eq!(size_or_none(&t("0")), Ok(None));
    assert_eq!(
        help(size_within(8192..=16_384)(&t("1KiB"))),
        "it must be from \"8KiB\" to \"16KiB\""
    );
}

#[test]
fn shares() {
    for (written, fraction) in
        [("0%", 0.0), ("20%", 0.2), ("99.9%", 0.999), ("0.5%", 0.005), ("100%", 1.0), ("5 %", 0.05)]
    {
        assert_eq!(share(&t(written)), Ok(fraction), "{written}");
    }
    for wrong in ["", "%", "20", "-1%", "101%", "1e1%", "1.2.3%", "inf%", "NaN%", ".%"] {
        assert!(share(&t(wrong)).is_err(), "{wrong}");
    }
    assert_eq!(help(share(&Scalar::Float(0.2))), "write \"20%\"");
    assert_eq!(help(share(&Scalar::Integer(20))), "write \"20%\"");
    assert!(share_between(0.0, 1.0)(&t("0%")).is_err());
    assert!(share_between(0.0, 1.0)(&t("100%")).is_err());
    assert_eq!(share_between(0.0, 1.0)(&t("1%")), Ok(0.01));
}

#[test]
fn rates() {
    for (written, per_second) in [("10/s", 10.0), ("600/m", 10.0), ("1800/h", 0.5), ("0/s", 0.0)] {
        assert_eq!(rate(&t(written)), Ok(per_second), "{written}");
    }
    for wrong in ["", "10", "10/", "/s", "10/d", "-1/s", "1.5/s", "10/s/s"] {
        assert!(rate(&t(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn status_ranges() {
    for (written, first, last) in [
        (t("200"), 200, 200),
        (t("200-399"), 200, 399),
        (t("100-599"), 100, 599),
        (t("200 - 204"), 200, 204),
        (Scalar::Integer(204), 204, 204),
    ] {
        assert_eq!(status_range(&written), Ok(StatusRange { first, last }), "{written}");
    }
    for wrong in ["", "-", "99", "600", "300-200", "200-", "2xx", "200-300-400", "200-600"] {
        assert!(status_range(&t(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn reasons_to_retry() {
    for (written, reason) in [
        (t("connect"), RetryOn::Connect),
        (t("reset"), RetryOn::Reset),
        (t("refused_stream"), RetryOn::RefusedStream),
        (t("timeout"), RetryOn::Timeout),
        (t("503"), RetryOn::Status(503)),
        (Scalar::Integer(429), RetryOn::Status(429)),
    ] {
        assert_eq!(retry_on(&written), Ok(reason), "{written}");
    }
    assert_eq!(help(retry_on(&t("timeouts"))), "did you mean `timeout`?");
    assert!(retry_on(&t("200")).is_err());
}

#[test]
fn numbers() {
    assert_eq!(whole::<u16>(1..=65_535)(&Scalar::Integer(80)), Ok(80));
    for wrong in [Scalar::Integer(0), Scalar::Integer(65_536), Scalar::Float(1.0), t("80")] {
        assert!(whole::<u16>(1..=65_535)(&wrong).is_err(), "{wrong}");
    }
    assert_eq!(count_or_none(&Scalar::Integer(0)), Ok(None));
    assert_eq!(count_or_none(&Scalar::Integer(5)), Ok(Some(5)));
    assert!(positive(&Scalar::Integer(0)).is_err());
}

#[test]
fn factors() {
    assert_eq!(factor(&Scalar::Float(2.5)), Ok(2.5));
    assert_eq!(factor(&Scalar::Integer(3)), Ok(3.0));
    for wrong in [0.5, -1.0, f64::NAN, f64::INFINITY] {
        assert!(factor(&Scalar::Float(wrong)).is_err(), "{wrong}");
    }
    assert_eq!(factor_or_none(&Scalar::Integer(0)), Ok(None));
    assert_eq!(factor_or_none(&Scalar::Float(0.0)), Ok(None));
    assert_eq!(factor_or_none(&Scalar::Float(1.5)), Ok(Some(1.5)));
    assert!(factor_or_none(&Scalar::Integer(1)).is_err());
    assert!(factor_or_none(&t("x")).is_err());
}

#[test]
fn words() {
    assert_eq!(choice::<Policy>(&t("round_robin")), Ok(Policy::RoundRobin));
    assert_eq!(help(choice::<Policy>(&t("least_connection"))), "did you mean `least_connections`?");
    assert_eq!(
        help(choice::<Policy>(&Scalar::Boolean(true))),
        "known here are `least_connections`, `round_robin`, `random_two`, `ip_hash`"
    );
}

#[test]
fn names() {
    for good in ["app", "app-2.eu_west", "A", &"x".repeat(64)] {
        assert_eq!(name(good), Ok(()), "{good}");
    }
    for wrong in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(65)] {
        assert!(name(wrong).is_err(), "{wrong}");
    }
}
