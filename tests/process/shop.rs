//! A pool with two versions behind a program of its own, and the commands about it.

use serde_json::Value;

use crate::program::{Program, run};
use crate::support::backend::Backend;
use crate::support::wire::Wire;
use crate::support::{eventually, in_time};

/// What happens survives a restart.
pub const KEPT: &str = "state_dir = \"state\"";
/// A watch that only a verdict or a rollback ends.
pub const LONG: &str = "watch = \"10m\"\ndrain_timeout = \"1s\"";
/// One that is soon over.
pub const SHORT: &str = "watch = \"100ms\"\ndrain_timeout = \"1s\"";

/// Two versions of one backend each.
pub struct Shop {
    pub blue: Backend,
    pub green: Backend,
}

impl Shop {
    pub async fn open() -> Shop {
        Shop { blue: Backend::named("blue").await, green: Backend::named("green").await }
    }

    /// The pool `shop`, with these keys of its swap.
    pub fn config(&self, active: &str, swap: &str) -> String {
        let (blue, green) = (self.blue.address, self.green.address);
        format!(
            "[[routes]]\npool = \"shop\"\n[pools.shop]\nactive = \"{active}\"\n\
             versions.blue.backends = [\"{blue}\"]\nversions.green.backends = [\"{green}\"]\n\
             [pools.shop.health]\npath = \"/health\"\ninterval = \"100ms\"\n\
             [pools.shop.swap]\n{swap}\n"
        )
    }
}

/// Runs a command beside the test: its exit code, and what it said.
pub async fn outcome(program: &Program, arguments: &[&str]) -> (Option<i32>, String) {
    let config = program.config_path();
    let mut all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    all.extend(["-c".to_owned(), config.to_str().unwrap().to_owned()]);
    let running = tokio::task::spawn_blocking(move || {
        run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let output = in_time("a command", running).await.unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).unwrap())
}

/// As [`outcome`], where only the exit code matters.
pub async fn command(program: &Program, arguments: &[&str]) -> Option<i32> {
    outcome(program, arguments).await.0
}

async fn status(program: &Program) -> Value {
    let status: Value =
        serde_json::from_slice(&program.admin("/api/status").await.unwrap().body).unwrap();
    status["pools"]["shop"].clone()
}

/// How it stands with the swaps of the pool.
pub async fn swaps(program: &Program) -> Value {
    status(program).await["swaps"].clone()
}

/// The share that a version takes.
pub async fn share(program: &Program, version: &str) -> f64 {
    status(program).await["versions"][version]["share"].as_f64().unwrap()
}

/// The state of a backend.
pub async fn backend_state(program: &Program, version: &str, address: &str) -> String {
    let backend = &status(program).await["versions"][version]["backends"][address];
    backend["state"].as_str().unwrap_or("absent").to_owned()
}

/// The report of a swap.
pub async fn report(program: &Program, id: u64) -> Value {
    let path = format!("/api/reports/{id}");
    serde_json::from_slice(&program.admin(&path).await.unwrap().body).unwrap()
}

/// Waits until the swap that runs is there.
pub async fn in_phase(program: &Program, phase: &str) {
    eventually(phase, async || swaps(program).await["running"]["phase"] == phase).await;
}

/// Who answers a client.
pub async fn serving(program: &Program) -> String {
    Wire::connect(program.http().await).await.get("/").await.text()
}
