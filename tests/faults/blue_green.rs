//! A pool with two versions, three replicas each, and the commands that swap them.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::interval;

use crate::backend::{Behaviour, HEALTH};
use crate::connection::Target;
use crate::program::Program;
use crate::replica::Replica;
use crate::site;
use crate::support::{eventually, proxy, tls};

/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(10);

/// The proxy and both versions.
pub struct BlueGreen {
    pub program: Program,
    pub blue: Vec<Replica>,
    pub green: Vec<Replica>,
    /// Without TLS, then with it.
    pub targets: [Target; 2],
    _certificates: TempDir,
}

impl BlueGreen {
    /// Starts it with these keys of `[pools.app.swap]`; blue serves.
    pub async fn start(swap: &str) -> BlueGreen {
        let replicas = |version: &str| -> Vec<Replica> {
            (1..=3).map(|number| Replica::start(format!("{version}-{number}"))).collect()
        };
        let (blue, green) = (replicas("blue"), replicas("green"));
        let certificates = TempDir::new().unwrap();
        proxy::write_pair(certificates.path(), "", &tls::issue(&["localhost"]));
        let dir = certificates.path().display();
        let config = format!(
            "[listeners.https]\nbind = \"127.0.0.1:0\"\n\
             tls = {{ certificates = [{{ cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\" }}] }}\n\
             [[routes]]\npool = \"app\"\n[pools.app]\nactive = \"blue\"\n\
             versions.blue.backends = [{}]\nversions.green.backends = [{}]\n\
             [pools.app.health]\npath = \"{HEALTH}\"\ninterval = \"50ms\"\n\
             flap_guard = {{ downs = 0 }}\n\
             [pools.app.swap]\n{swap}\n",
            list(&blue),
            list(&green),
        );
        let program = Program::start_by(site::command(), "state_dir = \"state\"", &config).await;
        let plain = program.http().await.into();
        let https = program.address("https").await;
        let secured = Target { address: https, tls: Some(tls::client(&[b"http/1.1"])) };
        let site = BlueGreen {
            program,
            blue,
            green,
            targets: [plain, secured],
            _certificates: certificates,
        };
        eventually("blue is well", async || site.blue_is_well().await).await;
        site
    }

    async fn blue_is_well(&self) -> bool {
        let status = self.status().await;
        let backends = &status["versions"]["blue"]["backends"];
        self.blue.iter().all(|it| backends[it.address.to_string()]["state"] == "healthy")
    }

    /// What the status says of the pool.
    pub async fn status(&self) -> Value {
        let Some(answer) = self.program.admin("/api/status").await else { return Value::Null };
        let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        status["pools"]["app"].clone()
    }

    /// The version that serves.
    pub async fn active(&self) -> String {
        self.status().await["active"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until this version serves.
    pub async fn comes_to_serve(&self, version: &str) {
        let mut looks = interval(LOOK);
        while self.active().await != version {
            looks.tick().await;
        }
    }

    /// Where the proxy listens without TLS now: another port after each start.
    pub async fn target_now(&self) -> Target {
        self.program.http().await.into()
    }

    /// `tidegate swap app VERSION` with these further arguments, to its end.
    pub async fn swap(&self, version: &str, arguments: &[&str]) -> Output {
        self.command(&[&["swap", "app", version], arguments].concat()).await
    }

    /// A command that talks to the proxy, to its end.
    pub async fn command(&self, arguments: &[&str]) -> Output {
        site::ask(&self.program, arguments).await
    }

    /// Makes every replica of green behave so.
    pub fn green_behaves(&mut self, behaviour: Behaviour) {
        self.green.iter_mut().for_each(|replica| replica.behave(behaviour));
    }
}

fn list(replicas: &[Replica]) -> String {
    let addresses = replicas.iter().map(|replica| format!("\"{}\"", replica.address));
    addresses.collect::<Vec<_>>().join(", ")
}
