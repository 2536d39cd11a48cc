//! Environment variables inside string values: `${NAME}` and `${NAME:-default}`.
//!
//! This happens after parsing, so a value can never change the structure of the file.

use std::borrow::Cow;

use super::values::Problem;

/// `text` with its variables replaced. As in a shell, the default also stands in for a variable
/// that is set but empty; `$${` gives a plain `${`, and any other `$` is itself.
pub(super) fn expand<'a>(
    text: &'a str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Cow<'a, str>, Problem> {
    // Most have none, and for one byte there is a quick way to look.
    if !text.contains('$') {
        return Ok(text.into());
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        let (before, reference) = (&rest[..dollar], &rest[dollar + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = reference;
            continue;
        }
        expanded.push_str(before);
        let Some((inside, after)) = reference.split_once('}') else {
            let problem = Problem::new("`${` without a closing `}`");
            return Err(problem.help("write `$${` for a plain `${`"));
        };
        expanded.push_str(&look_up(inside, env)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded.into())
}

fn look_up(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let problem = Problem::new(format!("`{name}` is no name of an environment variable"));
        return Err(
            problem.help("write `${NAME}` or `${NAME:-default}`, or `$${` for a plain `${`")
        );
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let problem = Problem::new(format!("environment variable `{name}` is not set"));
            Err(problem.help(format!("set it, or give a default: `${{{name}:-...}}`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${HOST}", "db1"),
            ("${HOST}:${PORT:-80}", "db1:80"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${NOPE:-}", ""),
            ("${NOPE:-a:-b}", "a:-b"),
            ("$HOST $ {", "$HOST $ {"),
            ("$${HOST}", "${HOST}"),
            ("a$${b}${HOST}ü", "a${b}db1ü"),
        ] {
            assert_eq!(expand(text, &env), Ok(expected.into()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_an_error() {
        for (text, expected) in [
            ("${NOPE}", "environment variable `NOPE` is not set"),
            ("${HOST", "`${` without a closing `}`"),
            ("${}", "`` is no name of an environment variable"),
            ("${1A}", "`1A` is no name of an environment variable"),
            ("${A B}", "`A B` is no name of an environment variable"),
        ] {
            let problem = expand(text, &env).unwrap_err();
            assert_eq!(problem.message, expected, "{text}");
        }
    }

    #[test]
    fn values_are_not_expanded_again() {
        let env = |_: &str| Some("${HOST}".to_owned());
        assert_eq!(expand("${A}", &env), Ok("${HOST}".into()));
    }
}
