//! `tidegate demo`, from its first line to an empty folder.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ends the demo with the test, whatever its end.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it where its ports are free, and gives the text up to the last line of its guide.
fn start(temporary: &Path) -> (Demo, String) {
    for _ in 0..20 {
        let offset = fastrand::u16(1000..20_000).to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["demo", "--port-offset", &offset]).env("TMPDIR", temporary);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut demo = Demo(child.unwrap_or_else(|error| panic!("{error}")));
        let stdout = demo.0.stdout.take().unwrap_or_else(|| panic!("stdout is a pipe"));
        let mut guide = String::new();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            guide += &line;
            guide.push('\n');
            if line.starts_with("Ctrl-C here") {
                return (demo, guide);
            }
        }
        // A port is taken: it has ended.
    }
    panic!("the demo does not start, whatever its ports")
}

fn get(address: &str, path: &str) -> String {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    exchange().unwrap_or_else(|error| panic!("{address}{path}: {error}"))
}

#[test]
fn it_serves_what_it_says_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut demo, guide) = start(temporary.path());

    let proxy = guide.split_once("http://localhost:").unwrap().1.split_whitespace().next().unwrap();
    let answer = get(&format!("127.0.0.1:{proxy}"), "/api/whoami");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\"replica\":\"blue-"), "{answer}");
    for version in ["green", "red"] {
        assert!(guide.contains(&format!(" swap app {version}")), "{guide}");
    }
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1, "the folder of the demo");

    let number = demo.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &number]).status().unwrap().success());
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "nothing is left");
}
