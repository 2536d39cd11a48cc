//! "Did you mean ...?"

/// A hint for a word that is not among the known ones: the nearest of them if it is near enough
/// to be a slip of the fingers, else all of them if they are few.
pub(super) fn suggest<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(nearest) = nearest(word, known.clone()) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    let known: Vec<String> = known.map(|word| format!("`{word}`")).collect();
    match known.len() {
        0 => None,
        1 => Some(format!("only {} is known here", known[0])),
        2..=16 => Some(format!("known here are {}", known.join(", "))),
        _ => None,
    }
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase().replace('-', "_");
    let limit = (folded.chars().count() / 3).max(1);
    known
        .map(|candidate| {
            // `health_check` for `health` is many letters away and yet plain.
            let begun = candidate.len() >= 4 && folded.starts_with(candidate);
            (if begun { 1 } else { distance(&folded, &candidate.to_lowercase()) }, candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string
/// alignment). Words of absurd length are far from everything.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut current = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            current[j] = replaced.min(last[j] + 1).min(current[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                current[j] = current[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "ab", 1),
            ("abc", "abcd", 1),
            ("abc", "axc", 1),
            ("abc", "acb", 1),
            ("abc", "xyz", 3),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_slip_is_answered_with_the_nearest_word() {
        let known = ["interval", "timeout", "fall", "rise"].into_iter();
        for (word, expected) in [
            ("intervall", "did you mean `interval`?"),
            ("tiemout", "did you mean `timeout`?"),
            ("interval-ms", "did you mean `interval`?"),
            ("Rise", "did you mean `rise`?"),
            ("colour", "known here are `interval`, `timeout`, `fall`, `rise`"),
        ] {
            assert_eq!(suggest(word, known.clone()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn nothing_known_means_no_hint() {
        assert_eq!(suggest("word", std::iter::empty()), None);
    }
}
