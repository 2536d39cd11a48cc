//! A `tidegate run` of its own, with its configuration in a folder of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;
use tokio::net::UnixStream;

use crate::support::wire::{Message, Wire};
use crate::support::{PATIENCE, eventually};

/// A running program. Dropped, it is killed.
pub struct Program {
    child: Child,
    dir: TempDir,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts it with these keys of `[server]` and this configuration, and waits until it is ready.
    pub async fn start(server: &str, config: &str) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("run");
        Program::start_by(command, server, config).await
    }

    /// The same by another command, which `-c FILE` is added to.
    pub async fn start_by(command: Command, server: &str, config: &str) -> Program {
        let dir = TempDir::new().unwrap();
        write(dir.path(), server, config);
        let (child, log) = spawn(command, dir.path());
        let program = Program { child, dir, log };
        eventually("ready", async || program.ready().await == Some(200)).await;
        program
    }

    /// Writes another configuration, for the next reload.
    pub fn configure(&self, server: &str, config: &str) {
        write(self.dir.path(), server, config);
    }

    /// The status of `/readyz`, if anybody answers.
    pub async fn ready(&self) -> Option<u16> {
        Some(self.admin("/readyz").await?.status())
    }

    /// What the admin API answers.
    pub async fn admin(&self, path: &str) -> Option<Message> {
        let mut wire = Wire::over(self.connect_to_admin().await?);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        wire.try_send(request).await.ok()?;
        wire.response().await.ok()
    }

    /// A connection to the admin API, if there is room for one.
    pub async fn connect_to_admin(&self) -> Option<UnixStream> {
        UnixStream::connect(self.dir.path().join("admin.sock")).await.ok()
    }

    /// Where the listener `http` accepts.
    pub async fn http(&self) -> SocketAddr {
        self.address("http").await
    }

    /// Where a listener accepts.
    pub async fn address(&self, listener: &str) -> SocketAddr {
        let status = self.admin("/api/status").await.unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
        status["listeners"][listener]["addresses"][0].as_str().unwrap().parse().unwrap()
    }

    /// The state of a backend of the pool `app`.
    pub async fn state_of(&self, backend: SocketAddr) -> String {
        let status = self.admin("/api/status").await.unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.body).unwrap();
        let backends = &status["pools"]["app"]["versions"][""]["backends"];
        backends[backend.to_string()]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, without any farewell.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it by a signal and starts it again, in the same folder.
    pub async fn restart(&mut self, by: Signal) {
        self.signal(by);
        self.exit_code().await;
        self.start_again().await;
    }

    /// Starts it again in the same folder, after its end.
    pub async fn start_again(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("run");
        self.start_again_by(command).await;
    }

    /// Starts it again in the same folder, after its end, by a command that `-c FILE` is added to.
    pub async fn start_again_by(&mut self, command: Command) {
        (self.child, self.log) = spawn(command, self.dir.path());
        eventually("ready", async || self.ready().await == Some(200)).await;
    }

    /// The memory that it holds, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// What its memory is used for, as the system lists it.
    pub fn mappings(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/maps", self.child.id())).unwrap()
    }

    /// Waits for its end, and gives its exit code.
    pub async fn exit_code(&mut self) -> Option<i32> {
        if self.runs() {
            let (id, end) = (WaitId::Pid(self.pid()), WaitIdOptions::EXITED);
            // It is left there for the child's own handle.
            let end = tokio::task::spawn_blocking(move || waitid(id, end | WaitIdOptions::NOWAIT));
            let ended = tokio::time::timeout(PATIENCE, end).await;
            ended.unwrap_or_else(|_| panic!("it does not end:\n{}", self.log())).unwrap().unwrap();
        }
        self.child.wait().unwrap().code()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Its configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("tidegate.toml")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what tidegate logged:\n{}", self.log());
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_remove("TIDEGATE_ADMIN").env_remove("TIDEGATE_TOKEN");
    command.output().unwrap()
}

/// Its log is collected while it runs.
fn spawn(mut command: Command, dir: &Path) -> (Child, Arc<Mutex<Vec<String>>>) {
    command.arg("-c").arg(dir.join("tidegate.toml"));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
    (child, log)
}

fn write(dir: &Path, server: &str, config: &str) {
    let text = format!(
        "[server]\nworkers = 2\n{server}\n[admin]\nbind = \"unix:admin.sock\"\n\
         [listeners.http]\nbind = \"127.0.0.1:0\"\n{config}"
    );
    // Under another name first: a reload must not see half of it.
    std::fs::write(dir.join("new.toml"), text).unwrap();
    std::fs::rename(dir.join("new.toml"), dir.join("tidegate.toml")).unwrap();
}
