//! How errors look.

use super::{try_parse, with};
use crate::config::Diagnostic;

fn rendered(text: &str) -> String {
    try_parse(text).expect_err("a file with errors").to_string()
}

#[test]
fn an_unknown_key_is_shown_with_its_neighbour() {
    let text = "[listeners.http]\nbind = \"0.0.0.0:80\"\n[pools.app]\nbackends = [\"a:1\"]\n\
                [pools.app.health]\nintervall = \"2s\"\n";
    assert_eq!(
        rendered(text),
        "error: unknown key `intervall`
 --> conf/app.toml:6:1
  |
6 | intervall = \"2s\"
  | ^^^^^^^^^ in `pools.app.health`
  = help: did you mean `interval`?
"
    );
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = "colour = 1\n[server]\nworkers = \"two\"\nmax_requests = -1\n\
                [listeners.http]\nbind = \":80\"\n\n\n\n[[routes]]\n\tpool = \"ap\"\n\
                [pools.app]\nbackends = [\"a:1\"]\nslow_start = 5\n";
    assert_eq!(
        rendered(text),
        "error: unknown key `colour`
 --> conf/app.toml:1:1
  |
1 | colour = 1
  | ^^^^^^
  = help: known here are `server`, `admin`, `log`, `notify`, `listeners`, `routes`, `pools`

error: expected a whole number, found \"two\"
 --> conf/app.toml:3:11
  |
3 | workers = \"two\"
  |           ^^^^^ in `server.workers`

error: -1 is out of range
 --> conf/app.toml:4:16
  |
4 | max_requests = -1
  |                ^^ in `server.max_requests`
  = help: it must be at least 0

error: \":80\" is no address to listen on
 --> conf/app.toml:6:8
  |
6 | bind = \":80\"
  |        ^^^^^ in `listeners.http.bind`
  = help: did you mean \"0.0.0.0:80\", or \"[::]:80\" for both families?

error: there is no pool `ap`
  --> conf/app.toml:11:9
   |
11 | \tpool = \"ap\"
   | \t       ^^^^ in `routes[0].pool`
   = help: did you mean `app`?

error: expected a duration such as \"10s\", found 5
  --> conf/app.toml:14:14
   |
14 | slow_start = 5
   |              ^ in `pools.app.slow_start`
   = help: write \"5s\"
"
    );
}

#[test]
fn two_places_are_both_named() {
    let text = with("[[routes]]\npool = \"app\"\n");
    assert_eq!(
        rendered(&text),
        "error: two routes match the same requests
 --> conf/app.toml:8:1
  |
8 | [[routes]]
  | ^^^^^^^^^^ in `routes[1]`
  = note: the first, for any host, path `/`, is at conf/app.toml:4:1
  = help: make them differ in `hosts`, `path` or `listeners`
"
    );
}

#[test]
fn the_whole_file_has_no_line() {
    assert_eq!(
        rendered(""),
        "error: there is no listener
 --> conf/app.toml
  = help: add a section [listeners.http] with bind = \"0.0.0.0:8080\"
"
    );
}

#[test]
fn syntax_errors_come_alone_with_their_place() {
    let errors = try_parse("a = \nb = 1\nc = \"x\n").expect_err("syntax errors").errors;
    assert!(errors.len() >= 2, "{errors:?}");
    assert!(errors.iter().all(|error| error.span.is_some() && error.key.is_empty()));
}

#[test]
fn columns_count_characters() {
    let text = with("[log]\nlevel = \"ü\" # é\nformat = \"ä\"");
    let errors = rendered(&text);
    assert!(errors.contains("conf/app.toml:9:9\n"), "{errors}");
    assert!(errors.contains("\n  |         ^^^ in `log.level`\n"), "{errors}");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let errors = rendered(&with("[log]\nlevel = \"\\u001b[31m\""));
    assert!(!errors.contains('\u{1b}'), "{errors}");
}

#[test]
fn later_errors_point_at_the_place_too() {
    let text = with(
        "[listeners.s]\nbind = \"0.0.0.0:443\"\n[[listeners.s.tls.certificates]]\ncert = \"a.pem\"\nkey = \"a.key\"\n",
    );
    let parsed = try_parse(&text).unwrap();
    let tls = parsed.config.listeners["s"].tls.as_ref().unwrap();
    let cert = &tls.certificates[0].cert;
    assert_eq!(cert.value, std::path::absolute("conf/a.pem").unwrap());
    let error = Diagnostic::error("cannot be read").at(cert.span).render(&parsed.source, false);
    assert_eq!(
        error,
        "error: cannot be read
  --> conf/app.toml:11:8
   |
11 | cert = \"a.pem\"
   |        ^^^^^^^
"
    );
}

#[test]
fn color_only_adds_escapes() {
    let errors = try_parse("").expect_err("no listener");
    let colored = errors.render(true);
    assert!(colored.starts_with("\u{1b}[1;31merror"));
    let mut plain = String::new();
    for (index, part) in colored.split('\u{1b}').enumerate() {
        plain.push_str(if index == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_eq!(plain, errors.render(false));
}
