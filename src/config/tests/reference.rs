//! The files in `config/` are documentation, and documentation that is not tested lies.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::config::reader::Reader;
use crate::config::{Config, file, parse};

const REFERENCE: &str = include_str!("../../../config/reference.toml");
const MINIMAL: &str = include_str!("../../../config/minimal.toml");

fn env(name: &str) -> Option<String> {
    (name == "AFFINITY_SECRET").then(|| "0123456789abcdef".to_owned())
}

fn parse_reference(text: &str) -> Option<Arc<Config>> {
    parse(text, Path::new("config/reference.toml"), &env).ok().map(|parsed| parsed.config)
}

#[test]
fn the_files_parse_without_errors_and_warnings() {
    for text in [REFERENCE, MINIMAL] {
        let parsed = parse(text, Path::new("config/x.toml"), &|_| None);
        let parsed = parsed.unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(parsed.warnings, [], "{:?}", parsed.warnings);
    }
}

/// `# key = value` as `key = value`, in place of a live line of the same key in the same section.
fn with_examples(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut examples: Vec<&str> = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            examples.clear();
        }
        let example = line.strip_prefix("# ").and_then(|line| Some((key_of(line)?, line)));
        if let Some((key, line)) = example {
            examples.push(key);
            lines.push(line);
        } else if !key_of(line).is_some_and(|key| examples.contains(&key)) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'2').then_some(key)
}

#[test]
fn the_commented_examples_are_valid_too() {
    let text = with_examples(REFERENCE);
    let parsed = parse(&text, Path::new("config/reference.toml"), &env);
    let parsed = parsed.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(parsed.warnings, [], "{:?}", parsed.warnings);
    assert!(parsed.config.listeners["https"].tls.is_some());
}

#[test]
fn every_key_stands_in_the_reference() {
    let text = with_examples(REFERENCE);
    let root = toml::de::DeTable::parse(&text).unwrap();
    let reader = Reader::new(Path::new(""), &env);
    file::read(&reader, root.get_ref());
    let mut missing = BTreeSet::new();
    let mut present = BTreeSet::new();
    for (key, found) in reader.asked.borrow().iter() {
        let list = if *found { &mut present } else { &mut missing };
        list.insert(without_names(key));
    }
    assert!(present.contains("pools.*.swap.rollback.confidence"));
    assert!(present.contains("routes.redirect.port"));
    // Versions are asked for by the plain pool too, and so on: once is enough.
    let absent: Vec<_> = missing.difference(&present).collect();
    // Told in words only: the other form is there and no file may have both; and what has no meaning
    // beside the default `type` of a health check.
    let told = [
        "notify.secret",
        "pools.*.health.service",
        "pools.*.swap.expect_version.differs_from",
        "pools.*.swap.expect_version.json",
    ];
    assert_eq!(absent, told);
}

/// `pools.app.health` as `pools.*.health`, `routes[1].path` as `routes.path`.
fn without_names(key: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in key.split('.') {
        let named = matches!(parts.last(), Some(&("listeners" | "pools" | "versions")));
        let named = named && parts.first() != Some(&"routes");
        parts.push(if named { "*" } else { part.split('[').next().unwrap_or(part) });
    }
    parts.join(".")
}

/// The assignments that are not commented out: section, key, and first and last line.
fn assignments(text: &str) -> Vec<(&str, &str, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut section = "";
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        if line.starts_with('[') {
            section = line;
        } else if let Some(key) = key_of(line) {
            let closing = lines[first..].iter().position(|line| *line == "]").unwrap_or(0);
            let last = if line.ends_with('[') { first + closing } else { first };
            found.push((section, key, first, last));
        }
    }
    found
}

#[test]
fn what_is_written_is_the_default() {
    let whole = parse_reference(REFERENCE).unwrap();
    let mut not_defaults = Vec::new();
    for (section, key, first, last) in assignments(REFERENCE) {
        let kept = REFERENCE.lines().enumerate();
        let kept = kept.filter(|(number, _)| !(first..=last).contains(number));
        let text: Vec<&str> = kept.map(|(_, line)| line).collect();
        if parse_reference(&text.join("\n")).as_ref() != Some(&whole) {
            not_defaults.push(format!("{section} {key}"));
        }
    }
    assert_eq!(
        not_defaults,
        [
            "[server] state_dir",
            "[listeners.http] bind",
            "[listeners.https] bind",
            "[[routes]] pool",
            "[[routes]] path",
            "[[routes]] pool",
            "[[routes]] path",
            "[[routes]] redirect",
            "[pools.app] backends",
            "[pools.shop] active",
            "[pools.shop.versions.blue] backends",
            "[pools.shop.versions.green] backends",
        ]
    );
}

#[test]
fn no_text_makes_the_parser_panic() {
    let mut rng = fastrand::Rng::with_seed(7);
    let lines: Vec<&str> = REFERENCE.lines().filter(|line| !line.starts_with('#')).collect();
    for _ in 0..3000 {
        let mut lines = lines.clone();
        for _ in 0..rng.usize(0..4) {
            let (from, to) = (rng.usize(0..lines.len()), rng.usize(0..lines.len()));
            match rng.u8(0..3) {
                0 => lines.swap(from, to),
                1 => lines[to] = lines[from],
                _ => drop(lines.remove(from)),
            }
        }
        let mut text: Vec<char> = lines.join("\n").chars().collect();
        for _ in 0..rng.usize(0..6) {
            let at = rng.usize(0..text.len());
            let new = *rng.choice(&SPICE).unwrap();
            match rng.u8(0..3) {
                0 => text[at] = new,
                1 => text.insert(at, new),
                _ => drop(text.remove(at)),
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(errors) = parse(&text, Path::new("x.toml"), &env) {
            assert!(!errors.errors.is_empty());
            assert!(errors.render(true).contains("error"));
        }
    }
}

const SPICE: [char; 20] = [
    '"', '[', ']', '{', '}', '=', '.', ',', '$', '-', '0', '9', '%', 's', '\n', '\r', '\t', 'ü',
    '\u{feff}', '🌊',
];
