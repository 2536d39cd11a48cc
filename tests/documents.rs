//! The configurations in the README are taken as they stand.

use std::path::Path;

use tidegate::config;

#[test]
fn configurations_in_the_readme_have_no_errors_and_no_warnings() {
    let mut found = 0;
    for text in include_str!("../README.md").split("```toml\n").skip(1) {
        let text = text.split("```").next().unwrap_or_default();
        match config::parse(text, Path::new("README.md"), &|_| None) {
            Ok(parsed) => assert_eq!(parsed.warnings, []),
            Err(errors) => panic!("{errors}"),
        }
        found += 1;
    }
    assert!(found > 0, "the README shows a configuration");
}
