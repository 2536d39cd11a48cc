mod checks;
mod reference;
mod rendering;
mod sections;

use std::path::Path;
use std::sync::Arc;

use super::{Config, Errors, Parsed, parse};

const MINIMAL: &str = r#"
[listeners.http]
bind = "0.0.0.0:8080"
[[routes]]
pool = "app"
[pools.app]
backends = ["127.0.0.1:3001"]
"#;

fn no_env(_: &str) -> Option<String> {
    None
}

fn try_parse(text: &str) -> Result<Parsed, Errors> {
    parse(text, Path::new("conf/app.toml"), &no_env)
}

/// A minimal file with more at its end.
fn with(more: &str) -> String {
    format!("{MINIMAL}{more}")
}

fn config_of(text: &str) -> Arc<Config> {
    try_parse(text).unwrap_or_else(|errors| panic!("{errors}")).config
}

/// The errors of a text, each as "key: message".
fn errors_of(text: &str) -> Vec<String> {
    let errors = try_parse(text).expect_err("a file with errors").errors;
    errors.iter().map(|error| format!("{}: {}", error.key, error.message)).collect()
}

/// The warnings of a text, each as "key: message".
fn warnings_of(text: &str) -> Vec<String> {
    let parsed = try_parse(text).unwrap_or_else(|errors| panic!("{errors}"));
    let line = |warning: &super::Diagnostic| format!("{}: {}", warning.key, warning.message);
    parsed.warnings.iter().map(line).collect()
}
