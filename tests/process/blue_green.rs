//! The script of `config/examples/blue-green`, with real processes.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::program::Program;

const EXAMPLE: &str = "config/examples/blue-green";

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

struct Deploys {
    program: Program,
    folder: tempfile::TempDir,
    ports: [u16; 4],
}

impl Deploys {
    /// The example's configuration, on other ports and with shorter times.
    async fn new() -> Self {
        let ports = [(); 4].map(|()| free_port());
        let text = std::fs::read_to_string(Path::new(EXAMPLE).join("tidegate.toml")).unwrap();
        // The listener is the kit's.
        let (_, text) = text.split_once("[[routes]]").unwrap();
        let mut text = format!("[[routes]]{text}");
        for (from, to) in [4001, 4002, 5001, 5002].iter().zip(ports) {
            text = text.replace(&format!(":{from}"), &format!(":{to}"));
        }
        for (from, to) in [
            ("watch = \"60s\"", "watch = \"1s\""),
            ("gate_timeout = \"60s\"", "gate_timeout = \"10s\""),
            ("interval = \"1s\"", "interval = \"100ms\""),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let program = Program::start("state_dir = \"state\"", &text).await;
        Deploys { program, folder: tempfile::tempdir().unwrap(), ports }
    }

    fn admin(&self) -> String {
        let socket = self.program.config_path().with_file_name("admin.sock");
        format!("unix:{}", socket.display())
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// `deploy` with this app.
    fn deploy(&self, command: &str, arguments: &[&str]) -> Output {
        let [blue_1, blue_2, green_1, green_2] = self.ports;
        Command::new(Path::new(EXAMPLE).join("deploy"))
            .args(arguments)
            .env("TIDEGATE", env!("CARGO_BIN_EXE_tidegate"))
            .env("TIDEGATE_ADMIN", self.admin())
            .env("BACKENDS", "process")
            .env("COMMAND", command)
            .env("RUN_DIR", self.run_dir())
            .env("BLUE", format!("{blue_1} {blue_2}"))
            .env("GREEN", format!("{green_1} {green_2}"))
            .output()
            .unwrap()
    }

    /// The ports of which a process is known to the script.
    fn running(&self) -> Vec<u16> {
        let is_known = |port: &u16| self.run_dir().join(format!("{port}.pid")).exists();
        self.ports.iter().copied().filter(is_known).collect()
    }
}

impl Drop for Deploys {
    fn drop(&mut self) {
        for port in self.running() {
            let file = self.run_dir().join(format!("{port}.pid"));
            let pid = std::fs::read_to_string(file).unwrap_or_default();
            let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
        }
    }
}

const GOOD: &str = "python3 -m http.server --bind 127.0.0.1 $PORT";

#[tokio::test]
async fn a_deploy_lets_the_other_colour_serve_and_stops_the_first() {
    let deploys = Deploys::new().await;
    let [blue_1, blue_2, green_1, green_2] = deploys.ports;
    let first = deploys.deploy(GOOD, &["first"]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    assert_eq!(deploys.running(), [blue_1, blue_2]);

    let deploy = deploys.deploy(GOOD, &[]);
    // Nobody asks for anything meanwhile: it serves, undecided.
    assert_eq!(deploy.status.code(), Some(5), "{deploy:?}");
    assert_eq!(deploys.running(), [green_1, green_2]);
    assert!(String::from_utf8_lossy(&deploy.stdout).contains("app from blue to green"));

    let bad = deploys.deploy("false", &[]);
    assert_eq!(bad.status.code(), Some(4), "{bad:?}");
    assert_eq!(deploys.running(), [green_1, green_2], "green serves on, and blue is stopped");
}
