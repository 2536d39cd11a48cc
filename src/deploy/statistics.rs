//! The few formulas that the verdict needs: intervals of a share, and the exact test of two shares.

/// The 95 % quantile of the normal distribution.
const Z_95: f64 = 1.645;

/// The 97.5 % quantile of the normal distribution: both ends of a 95 % interval.
const Z_97_5: f64 = 1.96;

/// Upper end of Wilson's one-sided 95 % interval for the share behind `bad` of `n`.
pub(super) fn wilson_upper(bad: u64, n: u64) -> f64 {
    if n == 0 {
        return 1.0;
    }
    let (share, n, z2) = (bad as f64 / n as f64, n as f64, Z_95 * Z_95);
    let spread = Z_95 * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    ((share + z2 / (2.0 * n) + spread) / (1.0 + z2 / n)).min(1.0)
}

/// An interval that holds the true share with 95 % certainty however often it is looked at: a
/// confidence sequence by Robbins' method of mixtures, over a Beta(1/2, 1/2) of shares.
pub(super) fn share_interval(bad: u64, n: u64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (bad, n) = (bad as f64, n as f64);
    let mixture = ln_beta(bad + 0.5, n - bad + 0.5) - ln_beta(0.5, 0.5);
    let least = mixture - (1.0f64 / 0.05).ln();
    let likely = |share: f64| times_ln(bad, share) + times_ln(n - bad, 1.0 - share) >= least;
    let best = bad / n;
    (boundary(best, 0.0, likely), boundary(best, 1.0, likely))
}

/// Where `holds` ends between `inside`, where it holds, and `outside`.
fn boundary(inside: f64, outside: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut inside, mut outside) = (inside, outside);
    for _ in 0..60 {
        let middle = f64::midpoint(inside, outside);
        if holds(middle) { inside = middle } else { outside = middle }
    }
    f64::midpoint(inside, outside)
}

/// `count * ln(share)`, where nothing times the logarithm of zero is nothing.
fn times_ln(count: f64, share: f64) -> f64 {
    if count == 0.0 { 0.0 } else { count * share.ln() }
}

/// Fisher's exact test, one-sided: how likely a group of `n` shows at most `bad` bad ones, if it
/// and another group, with `other_bad` of `other_n`, had the same share. 1.0 wherever that is no
/// surprise at all.
pub(super) fn at_most_by_chance(bad: u64, n: u64, other_bad: u64, other_n: u64) -> f64 {
    let (all_bad, all) = (bad + other_bad, n + other_n);
    if n == 0 || bad as f64 * all as f64 >= all_bad as f64 * n as f64 {
        return 1.0;
    }
    let ways = ln_choose(n, bad) + ln_choose(other_n, other_bad) - ln_choose(all, all_bad);
    let mut term = ways.exp();
    let mut sum = term;
    // From the highest count down: below the mean every term is smaller than the one before.
    for k in (1..=bad).rev() {
        let (k, n, t) = (k as f64, n as f64, all_bad as f64);
        term *= k * (other_n as f64 - t + k).max(0.0) / ((t - k + 1.0) * (n - k + 1.0));
        sum += term;
        if term < sum * 1e-9 {
            break;
        }
    }
    sum.min(1.0)
}

/// Ranks, from 1, of the order statistics that hold the quantile `q` of `n` samples between them
/// with 95 % certainty; the upper one may be above `n`.
pub(super) fn quantile_ranks(q: f64, n: u64) -> (u64, u64) {
    let (middle, spread) = (q * n as f64, Z_97_5 * (q * (1.0 - q) * n as f64).sqrt());
    ((middle - spread).floor().max(1.0) as u64, (middle + spread).ceil() as u64)
}

/// Rank, from 1, of the order statistic that is above the quantile `q` of `n` samples with 95 %
/// certainty; may be above `n`.
pub(super) fn upper_rank(q: f64, n: u64) -> u64 {
    (q * n as f64 + Z_95 * (q * (1.0 - q) * n as f64).sqrt()).ceil() as u64
}

fn ln_choose(n: u64, k: u64) -> f64 {
    ln_gamma(n as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((n - k) as f64 + 1.0)
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Logarithm of the gamma function for positive `x`: Stirling's series, which below 10 is reached
/// by the recurrence.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - product.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-3 * expected.abs(), "{found} is not {expected}");
    }

    #[test]
    fn ln_gamma_gives_factorials() {
        close(ln_gamma(5.0), 24.0f64.ln());
        close(ln_gamma(0.5), std::f64::consts::PI.sqrt().ln());
        close(ln_gamma(101.0), 363.739_375_555_563_5);
    }

    #[test]
    fn wilson_is_above_the_share_and_closes_in() {
        close(wilson_upper(0, 600), 0.004_49);
        close(wilson_upper(10, 100), 0.160_36);
        close(wilson_upper(10_000, 100_000), 0.101_57);
        close(wilson_upper(7, 7), 1.0);
    }

    #[test]
    fn an_anytime_interval_is_wider_than_one_of_a_fixed_sample() {
        let (low, high) = share_interval(10, 100);
        assert!(low < 0.055 && high > 0.174, "{low} {high}");
        assert!(low > 0.02 && high < 0.25, "{low} {high}");
        let (low, high) = share_interval(0, 100);
        assert!(low < 1e-9 && high > 0.03 && high < 0.1, "{low} {high}");
        assert_eq!(share_interval(0, 0), (0.0, 1.0));
    }

    #[test]
    fn fisher_agrees_with_counting_by_hand() {
        // Of 8 with 4 bad, a group of 4 has none in 1 of 70 ways, at most one in 17 of 70.
        close(at_most_by_chance(0, 4, 4, 4), 1.0 / 70.0);
        close(at_most_by_chance(1, 4, 3, 4), 17.0 / 70.0);
        // The rest of 5 shows none while one shows 20 of 20: one way of 53,130.
        close(at_most_by_chance(0, 5, 20, 20), 1.0 / 53_130.0);
        close(at_most_by_chance(2, 4, 2, 4), 1.0);
        close(at_most_by_chance(0, 0, 2, 4), 1.0);
        // Where a term with a smaller count is impossible.
        close(at_most_by_chance(1, 3, 3, 3), 0.2);
    }

    #[test]
    fn ranks_of_a_quantile() {
        assert_eq!(upper_rank(0.95, 200), 196);
        assert_eq!(upper_rank(0.95, 10), 11, "ten samples say nothing of their upper end");
        assert_eq!(quantile_ranks(0.5, 100), (40, 60));
        assert_eq!(quantile_ranks(0.5, 1), (1, 2));
    }
}
