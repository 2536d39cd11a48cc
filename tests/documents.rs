//! The configurations in the README are taken as they stand, and metrics are named as they are exported.

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

/// Everywhere that metrics are named for people.
fn expressions() -> Vec<String> {
    let dashboard = serde_json::from_str(include_str!("../config/grafana/tidegate.json"));
    let dashboard: serde_json::Value = dashboard.unwrap_or_else(|error| panic!("{error}"));
    let mut texts = vec![include_str!("../config/prometheus/alerts.yml").to_owned()];
    strings(&dashboard, &mut texts);
    let readme = include_str!("../README.md").split("```promql\n").skip(1);
    texts.extend(readme.map(|text| text.split("```").next().unwrap_or_default().to_owned()));
    texts
}

fn strings(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(all) => all.iter().for_each(|one| strings(one, texts)),
        serde_json::Value::Object(all) => all.values().for_each(|one| strings(one, texts)),
        _ => {}
    }
}

/// The metrics in a text, each with the labels that it is asked for by.
fn metrics(text: &str) -> Vec<(String, Vec<String>)> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("tidegate_").chain(text.match_indices("process_")) {
        if text[..at].ends_with(is_part) {
            continue;
        }
        let (name, rest) =
            text[at..].split_at(text[at..].find(|c| !is_part(c)).unwrap_or(text.len() - at));
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        let labels = selector.unwrap_or_default().split(',').filter_map(|pair| {
            let label = pair.split(['=', '!']).next().unwrap_or_default().trim();
            (!label.is_empty()).then(|| label.to_owned())
        });
        found.push((name.to_owned(), labels.collect()));
    }
    found
}

#[test]
fn dashboards_and_alerts_ask_for_what_is_exported() {
    // Every name stands there, before its labels.
    let source = include_str!("../src/telemetry/metrics.rs")
        .replace("BACKEND,", "\"pool\", \"version\", \"backend\",");
    let declared = |name: &str| {
        let (_, behind) = source.split_once(&format!("\"{name}\","))?;
        behind.split(");").next()
    };
    let mut asked = 0;
    for (name, labels) in expressions().iter().flat_map(|text| metrics(text)) {
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let declaration = declared(&name).or_else(|| declared(parts?));
        let declaration = declaration.unwrap_or_else(|| panic!("{name} is not exported"));
        for label in labels {
            // Prometheus itself tells which job.
            let known = label == "job" || declaration.contains(&format!("\"{label}\""));
            assert!(known, "{name} has no label {label}");
        }
        asked += 1;
    }
    assert!(asked > 50, "{asked}");
}
