//! The program as people call it: what it prints where, and its exit codes.

use std::fs;
use std::process::{Command, Output};

fn tidegate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_remove("TIDEGATE_ADMIN").env_remove("TIDEGATE_TOKEN");
    match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{error}"),
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn usage_errors_exit_64_and_go_to_stderr() {
    let wrong: [&[&str]; 5] =
        [&[], &["serve"], &["run"], &["status", "--yaml"], &["demo", "--port-offset", "many"]];
    for arguments in wrong {
        let output = tidegate(arguments);
        assert_eq!(code(&output), Some(64), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert!(stderr(&output).contains("tidegate") || stderr(&output).contains("--help"));
    }
}

#[test]
fn help_and_version_exit_0_and_go_to_stdout() {
    for arguments in [["--help"], ["--version"]] {
        let output = tidegate(&arguments);
        assert_eq!(code(&output), Some(0));
        assert!(stdout(&output).contains("tidegate"));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn without_a_proxy_commands_say_where_they_looked_and_what_to_do() {
    for command in ["status", "reload"] {
        let output = tidegate(&[command, "--admin", "unix:/nonexistent/admin.sock"]);
        assert_eq!(code(&output), Some(1));
        assert_eq!(stdout(&output), "");
        let error = stderr(&output);
        assert!(error.contains("unix:/nonexistent/admin.sock"), "{error}");
        assert!(error.contains("is tidegate running?"), "{error}");
    }
}

#[test]
fn the_admin_address_comes_from_the_configuration_if_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.toml");
    let text = minimal("admin.bind = \"unix:admin.sock\"");
    fs::write(&file, text).unwrap();
    let output = tidegate(&["status", "-c", file.to_str().unwrap()]);
    assert_eq!(code(&output), Some(1));
    let socket = format!("unix:{}", folder.path().join("admin.sock").display());
    assert!(stderr(&output).contains(&socket), "{}", stderr(&output));
}

#[test]
fn a_valid_configuration_is_said_to_be_valid() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.toml");
    fs::write(&file, minimal("")).unwrap();
    let output = tidegate(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!(stderr(&output), "");
    assert_eq!(stdout(&output), format!("{} is valid\n", file.display()));
    assert_eq!(code(&output), Some(0));
}

#[test]
fn every_error_is_shown_at_its_place_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.toml");
    fs::write(&file, minimal("[log]\nlevel = \"loud\"\n[admin]\nbnd = \"127.0.0.1:1\"")).unwrap();
    let output = tidegate(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!(code(&output), Some(1));
    assert_eq!(stdout(&output), "");
    let error = stderr(&output);
    assert!(error.contains("app.toml:2:9"), "{error}");
    assert!(error.contains("app.toml:4:1"), "{error}");
    assert!(error.ends_with(&format!("2 errors in {}\n", file.display())), "{error}");
}

#[test]
fn certificates_are_read_and_an_unreadable_one_is_told_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.toml");
    let listener = "[listeners.tls]\nbind = \"127.0.0.1:8443\"\n\
                    tls = { certificates = [{ cert = \"no.pem\", key = \"no.key\" }] }";
    fs::write(&file, minimal(listener)).unwrap();
    let output = tidegate(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!(code(&output), Some(1));
    let error = stderr(&output);
    assert!(error.contains("no.pem") && error.contains("app.toml:3:"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let output = tidegate(&["check", "-c", "/nonexistent/app.toml"]);
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains("/nonexistent/app.toml"), "{}", stderr(&output));
}

/// A small valid configuration that begins with `head`.
fn minimal(head: &str) -> String {
    format!(
        "{head}\n[listeners.http]\nbind = \"127.0.0.1:8080\"\n\
         [[routes]]\npool = \"app\"\n[pools.app]\nbackends = [\"127.0.0.1:3001\"]\n"
    )
}
