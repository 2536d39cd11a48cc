//! The real Socket.IO, client and server, through the proxy: its sessions begin with several HTTP
//! requests that must all reach the same replica.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use support::eventually;
use support::proxy::Proxy;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/socketio");
const CLIENTS: usize = 12;
const MESSAGES: usize = 8;

/// The folder with the scripts and what they need, installed once.
fn installed() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("socketio");
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["package.json", "package-lock.json", "replica.js", "clients.js"] {
            std::fs::copy(Path::new(SOURCES).join(file), folder.join(file)).unwrap();
        }
        let lock = std::fs::read(folder.join("package-lock.json")).unwrap();
        let stamp = folder.join("installed.json");
        if std::fs::read(&stamp).ok() != Some(lock.clone()) {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder);
            let output = npm.output().expect("npm must be installed");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::write(&stamp, lock).unwrap();
        }
        folder
    })
}

/// A replica, a process of its own. It ends when its input does.
struct Replica {
    child: Child,
    address: SocketAddr,
}

impl Replica {
    fn start(name: &str) -> Replica {
        let mut node = Command::new("node");
        node.args(["replica.js", name]).current_dir(installed());
        node.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.spawn().expect("node must be installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
        Replica { child, address }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of the clients.
#[derive(Debug)]
struct Outcome {
    failures: Vec<String>,
    replicas: BTreeSet<String>,
    transports: BTreeSet<String>,
}

/// Clients that go this way, through a proxy with these keys for its pool, to three replicas that
/// know nothing of each other.
async fn converse(way: &'static str, keys: &str) -> Outcome {
    let replicas =
        tokio::task::spawn_blocking(|| ["a", "b", "c"].map(Replica::start)).await.unwrap();
    let members: Vec<String> =
        replicas.iter().map(|replica| format!("\"{}\"", replica.address)).collect();
    let proxy = Proxy::start(&format!(
        "[[routes]]\npool = \"app\"\n[pools.app]\nbackends = [{}]\n{keys}\n",
        members.join(", ")
    ))
    .await;
    let usable = || proxy.metric("tidegate_pool_usable_backends", &[]);
    eventually("all serve", async || usable() == 3.0).await;

    let url = format!("http://{}", proxy.http());
    let clients = tokio::task::spawn_blocking(move || {
        let mut node = Command::new("node");
        node.args(["clients.js", &url, way, &CLIENTS.to_string(), &MESSAGES.to_string()]);
        node.current_dir(installed()).output().expect("node must be installed")
    });
    let output = clients.await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let served = told["served"].as_array().unwrap();
    let texts =
        |key: &str| served.iter().map(|client| client[key].as_str().unwrap().to_owned()).collect();
    let failures = told["failures"].as_array().unwrap();
    assert_eq!(served.len() + failures.len(), CLIENTS);
    Outcome {
        failures: failures.iter().map(ToString::to_string).collect(),
        replicas: texts("name"),
        transports: texts("transport"),
    }
}

const AFFINITY: &str = "affinity = { cookie = \"seat\" }";

async fn all_converse(way: &'static str, transport: &str) {
    let outcome = converse(way, AFFINITY).await;
    assert_eq!(outcome.failures, [""; 0]);
    assert_eq!(outcome.transports, BTreeSet::from([transport.to_owned()]));
    assert!(outcome.replicas.len() > 1, "{outcome:?}");
}

#[tokio::test]
async fn with_affinity_polling_works() {
    all_converse("polling", "polling").await;
}

#[tokio::test]
async fn with_affinity_polling_that_becomes_a_websocket_works() {
    all_converse("upgrade", "websocket").await;
}

#[tokio::test]
async fn with_affinity_websockets_work() {
    all_converse("websocket", "websocket").await;
}

#[tokio::test]
async fn without_affinity_websockets_work_since_each_is_one_connection() {
    let outcome = converse("websocket", "").await;
    assert_eq!(outcome.failures, [""; 0]);
}

#[tokio::test]
async fn without_affinity_polling_fails_so_the_tests_above_can_fail() {
    let outcome = converse("polling", "").await;
    assert!(!outcome.failures.is_empty(), "{outcome:?}");
}
