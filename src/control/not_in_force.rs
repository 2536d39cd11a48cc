//! What a configuration asks for and this version does not do yet: told instead of passed over.

use crate::config::model::Pool;
use crate::config::{Diagnostic, Parsed};

/// A warning for every setting that the file gives, that is checked, and that nothing acts on.
/// Defaults that nobody wrote are not warned about.
pub fn not_in_force(parsed: &Parsed) -> Vec<Diagnostic> {
    let pools = parsed.config.pools.iter();
    pools.flat_map(|(name, pool)| of_pool(parsed, name, pool)).collect()
}

fn not_done(key: &str) -> String {
    format!("`{key}` is read and checked, but this version does not act on it yet")
}

fn of_pool(parsed: &Parsed, name: &str, pool: &Pool) -> Vec<Diagnostic> {
    let waiting = [("swap.shadow", pool.swap.shadow.share > 0.0)];
    let mut warnings = Vec::new();
    for (key, asked) in waiting {
        warnings.extend(asked.then(|| warning(parsed, &format!("pools.{name}.{key}"), not_done)));
    }
    warnings.into_iter().flatten().collect()
}

/// At the place where the key stands, if it does.
fn warning(parsed: &Parsed, key: &str, message: impl Fn(&str) -> String) -> Option<Diagnostic> {
    let place = *parsed.written.get(key)?;
    Some(Diagnostic::warning(message(key)).at(Some(place)).key(key))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn warnings(pool: &str) -> Vec<String> {
        let text = format!(
            "[listeners.http]\nbind = \"127.0.0.1:0\"\n[[routes]]\npool = \"app\"\n[pools.app]\n{pool}"
        );
        let parsed = crate::config::parse(&text, Path::new("test.toml"), &|_| None).unwrap();
        not_in_force(&parsed).into_iter().map(|warning| warning.key).collect()
    }

    #[test]
    fn defaults_are_silent() {
        assert!(warnings("backends = [\"127.0.0.1:1\"]").is_empty());
    }

    #[test]
    fn what_is_written_and_not_done_is_told() {
        let text = "active = \"blue\"\nversions.blue.backends = [\"127.0.0.1:1\"]\n\
                    versions.green.backends = [\"127.0.0.1:2\"]\nswap.shadow = { share = \"5%\" }";
        assert_eq!(warnings(text), ["pools.app.swap.shadow"]);
    }
}
