//! The program under test as a process, with backends as processes behind it, and somebody who
//! looks at its status all the time.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use crate::backend::HEALTH;
use crate::machine::Starvation;
use crate::program::Program;
use crate::replica::Replica;
use crate::support::eventually;

/// Names another program to be measured, of the same command line.
const PROGRAM: &str = "TIDEGATE_FAULTS_PROGRAM";

/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(20);

/// A proxy and what stands behind it.
pub struct Site {
    pub program: Arc<Program>,
    pub address: SocketAddr,
    pub replicas: Vec<Replica>,
}

impl Site {
    /// Starts so many replicas, a pool of them with these further keys, and waits until all are well.
    pub async fn start(replicas: usize, pool: &str) -> Site {
        let replicas: Vec<Replica> =
            (1..=replicas).map(|number| Replica::start(number.to_string())).collect();
        let addresses: Vec<String> =
            replicas.iter().map(|replica| format!("\"{}\"", replica.address)).collect();
        let config = format!(
            "[[routes]]\npool = \"app\"\n[pools.app]\nbackends = [{}]\n{pool}\n\
             [pools.app.health]\npath = \"{HEALTH}\"\n\
             [pools.app.upstream]\nresponse_timeout = \"5s\"\n",
            addresses.join(", ")
        );
        let program = Arc::new(Program::start_by(command(), "", &config).await);
        let address = program.http().await;
        let site = Site { program, address, replicas };
        eventually("all are well", async || {
            let states = states(&site.program).await;
            states.len() == site.replicas.len() && states.values().all(|it| it.state == "healthy")
        })
        .await;
        site
    }
}

/// `tidegate run`, the one that was built with this test or the one that is named.
pub fn command() -> Command {
    let mut command = tidegate();
    command.arg("run");
    command
}

fn tidegate() -> Command {
    let path = std::env::var_os(PROGRAM);
    Command::new(path.unwrap_or_else(|| env!("CARGO_BIN_EXE_tidegate").into()))
}

/// Another command of it, about this program, to its end.
pub async fn ask(program: &Program, arguments: &[&str]) -> Output {
    let mut command = tidegate();
    command.args(arguments).arg("-c").arg(program.config_path());
    command.env_remove("TIDEGATE_ADMIN").env_remove("TIDEGATE_TOKEN");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What the status says of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: String,
    pub reason: String,
    /// What speaks against it and led to nothing yet.
    pub finding: String,
    pub suspected: bool,
    /// The part of its share that it is to get now, in tenths: slow start changes it all the time.
    pub tenths: u64,
}

impl Standing {
    /// Whether it takes no requests.
    pub fn is_out(&self) -> bool {
        ["unhealthy", "ejected"].contains(&self.state.as_str())
    }

    /// Whether it is left with next to nothing, as one that is slow is at first.
    pub fn is_shunned(&self) -> bool {
        self.is_out() || self.tenths <= 2
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.state, self.reason)?;
        if self.suspected {
            write!(f, "; suspected")?;
        }
        if self.tenths < 10 {
            write!(f, "; gets {} % of its share", self.tenths * 10)?;
        }
        if self.finding.is_empty() { Ok(()) } else { write!(f, "; {}", self.finding) }
    }
}

/// The status of every backend of the pool `app`, by address.
pub async fn states(program: &Program) -> HashMap<SocketAddr, Standing> {
    match program.admin("/api/status").await {
        Some(answer) => read(&serde_json::from_slice(&answer.body).unwrap_or_default()),
        None => HashMap::new(),
    }
}

/// The same by the command `tidegate status --json`.
pub async fn told_by_command(program: &Program) -> HashMap<SocketAddr, Standing> {
    let output = ask(program, &["status", "--json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read(&serde_json::from_slice(&output.stdout).unwrap())
}

fn read(status: &Value) -> HashMap<SocketAddr, Standing> {
    let versions = status["pools"]["app"]["versions"].as_object().into_iter().flatten();
    let backends = versions.flat_map(|(_, version)| version["backends"].as_object().unwrap());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let standing = |it: &Value| Standing {
        state: word(&it["state"]),
        reason: word(&it["reason"]),
        finding: word(&it["finding"]),
        suspected: it["suspected"] == true,
        tenths: (it["weight_ratio"].as_f64().unwrap_or(1.0) * 10.0).round() as u64,
    };
    backends.map(|(address, it)| (address.parse().unwrap(), standing(it))).collect()
}

/// A change that the status showed.
#[derive(Clone, Debug)]
pub struct Change {
    pub at: Instant,
    pub backend: SocketAddr,
    pub now: Standing,
}

/// Looks at the status until it is dropped.
pub struct Watch {
    seen: watch::Receiver<Vec<Change>>,
    starvation: Starvation,
    looking: JoinHandle<()>,
}

impl Watch {
    /// Begins to look.
    pub fn start(program: &Arc<Program>) -> Watch {
        let (shows, seen) = watch::channel(Vec::new());
        let looking = tokio::spawn(look(Arc::clone(program), shows));
        Watch { seen, starvation: Starvation::of(program.id()), looking }
    }

    /// How long the program's threads stood ready without a processor in the worst quarter of a second.
    pub fn starved(&self) -> Duration {
        self.starvation.worst()
    }

    /// Every change of this backend from then on.
    pub fn changes(&self, backend: SocketAddr, from: Instant) -> Vec<Change> {
        let seen = self.seen.borrow();
        seen.iter().filter(|it| it.backend == backend && it.at >= from).cloned().collect()
    }

    /// Ends with each change that is seen from now on.
    pub fn news(&self) -> watch::Receiver<Vec<Change>> {
        self.seen.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(program: Arc<Program>, shows: watch::Sender<Vec<Change>>) {
    let mut last = HashMap::new();
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        for (backend, now) in states(&program).await {
            if last.insert(backend, now.clone()).as_ref() != Some(&now) {
                let change = Change { at: Instant::now(), backend, now };
                shows.send_modify(|seen| seen.push(change));
            }
        }
    }
}
