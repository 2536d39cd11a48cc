//! The script of `config/examples/blue-green`, with real processes.

use std::fs::{self, OpenOptions, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::program::Program;
use crate::shop::{KEPT, command, report};
use crate::support::wire::Wire;
use crate::support::{eventually, eventually_within, every, in_time};

const EXAMPLE: &str = "config/examples/blue-green";

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

struct Deploys {
    program: Program,
    /// Its configuration.
    text: String,
    folder: tempfile::TempDir,
    ports: [u16; 4],
}

impl Deploys {
    /// The example's configuration, on other ports and with shorter times.
    async fn new() -> Self {
        Deploys::watching("1s").await
    }

    /// The same with this time for the watch.
    async fn watching(time: &str) -> Self {
        let ports = [(); 4].map(|()| free_port());
        let text = std::fs::read_to_string(Path::new(EXAMPLE).join("tidegate.toml")).unwrap();
        // The listener is the kit's.
        let (_, text) = text.split_once("[[routes]]").unwrap();
        let mut text = format!("[[routes]]{text}");
        for (from, to) in [4001, 4002, 5001, 5002].iter().zip(ports) {
            text = text.replace(&format!(":{from}"), &format!(":{to}"));
        }
        for (from, to) in [
            ("watch = \"60s\"", &*format!("watch = \"{time}\"")),
            ("interval = \"1s\"", "interval = \"100ms\""),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let program = Program::start(KEPT, &text).await;
        Deploys { program, text, folder: tempfile::tempdir().unwrap(), ports }
    }

    /// A version that does not come up is soon refused from now on.
    async fn lose_patience(&self) {
        let text = self.text.replace("gate_timeout = \"60s\"", "gate_timeout = \"1s\"");
        self.program.configure(KEPT, &text);
        assert_eq!(command(&self.program, &["reload"]).await, Some(0));
    }

    fn admin(&self) -> String {
        let socket = self.program.config_path().with_file_name("admin.sock");
        format!("unix:{}", socket.display())
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// `deploy` with this app as plain processes.
    fn command(&self, app: &str, arguments: &[&str]) -> Command {
        let mut command = self.command_for("process", arguments);
        command.env("COMMAND", app).env("RUN_DIR", self.run_dir());
        command
    }

    /// `deploy` with backends that are run by this.
    fn command_for(&self, backends: &str, arguments: &[&str]) -> Command {
        let [blue_1, blue_2, green_1, green_2] = self.ports;
        // What runs in the background may have been told to ignore Ctrl-C, and a script cannot undo that.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT")
            .arg(Path::new(EXAMPLE).join("deploy"))
            .args(arguments)
            .env("TIDEGATE", env!("CARGO_BIN_EXE_tidegate"))
            .env("TIDEGATE_ADMIN", self.admin())
            .env("BACKENDS", backends)
            .env("BLUE", format!("{blue_1} {blue_2}"))
            .env("GREEN", format!("{green_1} {green_2}"));
        command
    }

    fn deploy(&self, app: &str, arguments: &[&str]) -> Output {
        self.command(app, arguments).output().unwrap()
    }

    /// What the status says of the pool.
    async fn status(&self) -> Value {
        let status = self.program.admin("/api/status").await.unwrap();
        let status: Value = serde_json::from_slice(&status.body).unwrap();
        status["pools"]["app"].clone()
    }

    /// What the script knows of the process of a port.
    fn pid_file(&self, port: u16) -> PathBuf {
        self.run_dir().join(format!("{port}.pid"))
    }

    fn known_pid(&self, port: u16) -> Option<String> {
        let known = fs::read_to_string(self.pid_file(port)).ok()?;
        known.split_whitespace().next().map(str::to_owned)
    }

    fn kill(&self, port: u16) {
        if let Some(pid) = self.known_pid(port) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    }

    /// What is left for a port after a restart of the machine: what the script knows of the first blue
    /// process, whose number is this one by now.
    fn leave_behind(&self, port: u16, number: u32) {
        let [blue_1, ..] = self.ports;
        let known = fs::read_to_string(self.pid_file(blue_1)).unwrap();
        let pid = self.known_pid(blue_1).unwrap();
        let known = known.replacen(&pid, &number.to_string(), 1);
        fs::write(self.pid_file(port), known).unwrap();
    }

    /// The ports of which a process is known to the script.
    fn running(&self) -> Vec<u16> {
        let is_known = |port: &u16| self.pid_file(*port).exists();
        self.ports.iter().copied().filter(is_known).collect()
    }
}

impl Drop for Deploys {
    fn drop(&mut self) {
        self.running().into_iter().for_each(|port| self.kill(port));
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

    deploys.lose_patience().await;
    let bad = deploys.deploy("false", &[]);
    assert_eq!(bad.status.code(), Some(4), "{bad:?}");
    assert_eq!(deploys.running(), [green_1, green_2], "green serves on, and blue is stopped");
}

/// Deploys while clients ask this four times a second, which leaves the new colour in doubt.
async fn both_are_left_running(watch: &str, request: &'static str, doubt: &str) {
    let deploys = Deploys::watching(watch).await;
    assert_eq!(deploys.deploy(GOOD, &["first"]).status.code(), Some(0));
    let http = deploys.program.http().await;
    let clients = tokio::spawn(async move {
        let (mut waiting, mut beat) = (Vec::new(), every(Duration::from_millis(250)));
        loop {
            beat.tick().await;
            let mut wire = Wire::connect(http).await;
            wire.send(request).await;
            waiting.push(wire);
        }
    });
    // Opening a pipe that nobody writes to takes for ever.
    let files = deploys.folder.path();
    assert!(Command::new("mkfifo").arg(files.join("hang")).status().unwrap().success());
    let mut deploy = deploys.command(&format!("{GOOD} --directory {}", files.display()), &[]);
    let ended = tokio::task::spawn_blocking(move || deploy.output().unwrap());
    let output = ended.await.unwrap();
    clients.abort();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(report(&deploys.program, 1).await["doubt"], doubt, "{output:?}");
    assert_eq!(deploys.status().await["active"], "green");
    assert_eq!(deploys.running(), deploys.ports, "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("rollback app` goes back to blue"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_colour_that_hangs_does_not_cost_the_one_that_answers() {
    // Who waits is told from who is answered after five seconds.
    both_are_left_running("7s", "GET /hang HTTP/1.1\r\nHost: test\r\n\r\n", "waiting").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_colour_that_fails_what_little_it_is_asked_does_not_cost_the_one_before() {
    // Python's file server knows no POST: 501.
    let post = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    both_are_left_running("2s", post, "few_failed").await;
}

#[tokio::test]
async fn a_process_that_only_has_the_number_of_an_old_one_is_not_stopped() {
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let number = other.id();
    let end = std::thread::spawn(move || other.wait());
    let deploys = Deploys::new().await;
    let [_, _, green_1, green_2] = deploys.ports;
    assert_eq!(deploys.deploy(GOOD, &["first"]).status.code(), Some(0));
    deploys.leave_behind(green_1, number);
    let deploy = deploys.deploy(GOOD, &[]);
    assert!(!end.is_finished(), "{deploy:?}");
    assert!(Command::new("kill").arg(number.to_string()).status().unwrap().success());
    assert_eq!(deploy.status.code(), Some(5), "{deploy:?}");
    assert_eq!(deploys.running(), [green_1, green_2]);
}

#[tokio::test]
async fn a_process_that_only_has_the_number_of_an_old_one_does_not_serve_in_its_stead() {
    let deploys = Deploys::new().await;
    let port = deploys.ports[0];
    assert_eq!(deploys.deploy(GOOD, &["first"]).status.code(), Some(0));
    deploys.kill(port);
    deploys.leave_behind(port, deploys.program.id());
    assert_eq!(deploys.deploy(GOOD, &["first"]).status.code(), Some(0));
    let number = deploys.program.id().to_string();
    assert_ne!(deploys.known_pid(port), Some(number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_that_is_interrupted_goes_back_and_stops_what_it_started() {
    let deploys = Deploys::watching("1h").await;
    let [blue_1, blue_2, ..] = deploys.ports;
    assert_eq!(deploys.deploy(GOOD, &["first"]).status.code(), Some(0));
    let deploy = Foreground::begin(deploys.command(GOOD, &[]));
    // Where much else runs, Python takes longer to start than steps of other tests.
    let in_watch = async || deploys.status().await["swaps"]["running"]["phase"] == "watch";
    eventually_within(Duration::from_secs(60), "a watch", in_watch).await;
    let output = deploy.interrupt().await;
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert_eq!(deploys.status().await["active"], "blue");
    assert_eq!(deploys.running(), [blue_1, blue_2]);
}

/// A script that runs as on a terminal, where Ctrl-C reaches all that runs in its foreground.
struct Foreground {
    script: Option<Child>,
    group: Pid,
    ended: bool,
}

impl Foreground {
    fn begin(mut command: Command) -> Self {
        let command = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let script = command.spawn().unwrap();
        let group = Pid::from_raw(i32::try_from(script.id()).unwrap()).unwrap();
        Foreground { script: Some(script), group, ended: false }
    }

    /// Ctrl-C, and what became of it.
    async fn interrupt(mut self) -> Output {
        kill_process_group(self.group, Signal::INT).unwrap();
        let waiting = self.script.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || waiting.wait_with_output().unwrap());
        let timely = in_time("the end of the script", async {
            let output = ended.await.unwrap();
            self.ended = true;
            output
        });
        timely.await
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if !self.ended {
            // Whoever waits for it would keep a test that has failed from its end.
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }
}

/// Stands for systemd: runs an app for `app@PORT.service`, and writes down what it was asked.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$@" >>"$UNITS/asked"
port=${2#app@}
port=${port%.service}
case $1 in
    start)
        # Where a test wants it to, it takes for ever.
        [ ! -p "$UNITS/held" ] || cat "$UNITS/held"
        python3 -m http.server --bind 127.0.0.1 "$port" >/dev/null 2>&1 </dev/null &
        echo $! >"$UNITS/$port.pid"
        ;;
    stop)
        [ ! -f "$UNITS/$port.pid" ] || kill -KILL "$(cat "$UNITS/$port.pid")"
        rm -f "$UNITS/$port.pid"
        ;;
esac
"#;

/// A `systemctl` of this folder that `deploy` finds in place of the real one.
struct Systemd {
    units: PathBuf,
}

impl Systemd {
    fn of(deploys: &Deploys) -> Self {
        let units = deploys.run_dir();
        fs::create_dir(&units).unwrap();
        let systemctl = units.join("systemctl");
        fs::write(&systemctl, SYSTEMCTL).unwrap();
        fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
        Systemd { units }
    }

    fn command(&self, deploys: &Deploys, arguments: &[&str]) -> Command {
        let path = format!("{}:{}", self.units.display(), std::env::var("PATH").unwrap());
        let mut command = deploys.command_for("systemd", arguments);
        command.env("PATH", path).env("UNITS", &self.units);
        command
    }

    fn deploy(&self, deploys: &Deploys, arguments: &[&str]) -> Output {
        self.command(deploys, arguments).output().unwrap()
    }

    /// What it was asked so far, a line each.
    fn asked(&self) -> String {
        fs::read_to_string(self.units.join("asked")).unwrap()
    }
}

#[tokio::test]
async fn with_systemd_each_backend_is_a_unit_by_its_port() {
    let deploys = Deploys::new().await;
    let systemd = Systemd::of(&deploys);
    let first = systemd.deploy(&deploys, &["first"]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let second = systemd.deploy(&deploys, &[]);
    assert_eq!(second.status.code(), Some(5), "{second:?}");

    let [blue_1, blue_2, green_1, green_2] =
        deploys.ports.map(|port| format!("app@{port}.service\n"));
    let expected = format!(
        "start {blue_1}start {blue_2}stop {green_1}stop {green_2}\
         start {green_1}start {green_2}stop {blue_1}stop {blue_2}"
    );
    assert_eq!(systemd.asked(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_that_is_interrupted_before_its_swap_leaves_what_serves_alone() {
    let deploys = Deploys::new().await;
    let systemd = Systemd::of(&deploys);
    // There is a version that served before.
    assert_eq!(systemd.deploy(&deploys, &["first"]).status.code(), Some(0));
    assert_eq!(systemd.deploy(&deploys, &[]).status.code(), Some(5));
    let before = deploys.status().await["swaps"].clone();
    let held = systemd.units.join("held");
    assert!(Command::new("mkfifo").arg(&held).status().unwrap().success());
    let deploy = Foreground::begin(systemd.command(&deploys, &[]));
    // Only a pipe that somebody reads can be opened so. Before that, what is to be interrupted may be
    // about to become another program, to which a signal is lost.
    let mut writer = OpenOptions::new();
    writer.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let mut holding = None;
    eventually("blue is being started", async || {
        holding = writer.open(&held).ok();
        holding.is_some()
    })
    .await;
    assert!(systemd.asked().ends_with(&format!("start app@{}.service\n", deploys.ports[0])));
    let output = deploy.interrupt().await;
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert_eq!(deploys.status().await["active"], "green");
    assert_eq!(deploys.status().await["swaps"], before, "nothing was asked for");
    let stopped = deploys.ports.map(|port| format!("stop app@{port}.service\n"))[..2].concat();
    assert!(systemd.asked().ends_with(&stopped), "{}", systemd.asked());
}
