//! A whole Tidegate inside the test process, on ports of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::app::{self, Options, Running};
use tidegate::certs::generate::PemPair;
use tidegate::control::status::BackendStatus;
use tidegate::control::{ReloadError, ReloadReport};
use tokio::net::TcpSocket;

use super::backend::Backend;
use super::wire::Wire;
use super::{eventually, in_time, tls};

/// A running proxy; its files are removed with it.
pub struct Proxy {
    running: Running,
    dir: TempDir,
}

/// The part of a configuration that all tests share: ports of its own, two workers.
pub const BASE: &str = r#"
[server]
workers = 2
shutdown_timeout = "5s"

[admin]
bind = "127.0.0.1:0"

[listeners.http]
bind = "127.0.0.1:0"
"#;

/// A TLS listener named `https` for `localhost`, to be put behind a configuration.
pub const HTTPS: &str = r#"
[listeners.https]
bind = "127.0.0.1:0"
tls = { certificates = [{ cert = "cert.pem", key = "key.pem" }] }
"#;

/// One route to one pool named `app` of these backends, checked every 100 ms by a connect.
pub fn pool_of(backends: &[&Backend]) -> String {
    app(backends, "", CHECKED_BY_CONNECT)
}

/// As [`pool_of`], for backends of any kind.
pub fn pool_at(backends: &[SocketAddr]) -> String {
    app_at(backends, "", CHECKED_BY_CONNECT)
}

/// One route to one pool named `app` of these backends, with `keys` of its own and then `sections`.
pub fn app(backends: &[&Backend], keys: &str, sections: &str) -> String {
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    app_at(&addresses, keys, sections)
}

/// As [`app`], for backends of any kind.
pub fn app_at(backends: &[SocketAddr], keys: &str, sections: &str) -> String {
    let addresses: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[[routes]]\npool = \"app\"\n[pools.app]\nbackends = [{}]\n{keys}\n{sections}\n",
        addresses.join(", ")
    )
}

/// Probes by a connect every 100 ms.
const CHECKED_BY_CONNECT: &str = "[pools.app.health]\ntype = \"tcp\"\ninterval = \"100ms\"\n";

/// Probes by a GET for `/health` every 100 ms, and two of them make a verdict.
pub const HEALTH: &str = "[pools.app.health]\npath = \"/health\"\ninterval = \"100ms\"\n";

/// What the certificate is for that a proxy has unless a test brings its own.
const NAMES: &[&str] = &["localhost", "127.0.0.1", "app.example.com", "*.example.org"];

/// Puts a certificate and its key where a configuration finds them.
pub fn write_pair(dir: &Path, name: &str, pair: &PemPair) {
    std::fs::write(dir.join(format!("{name}cert.pem")), &pair.cert).unwrap();
    std::fs::write(dir.join(format!("{name}key.pem")), &pair.key).unwrap();
}

/// As [`pool_of`], but checked only once, so that each further connection is for a request.
pub fn quiet_pool_of(backends: &[&Backend]) -> String {
    pool_of(backends).replace("100ms", "1h")
}

impl Proxy {
    /// Starts a proxy with [`BASE`] and this configuration behind it, and waits until it is ready.
    pub async fn start(config: &str) -> Proxy {
        Proxy::start_whole(&format!("{BASE}{config}")).await
    }

    /// Starts a proxy with more keys of `[server]`, and a configuration behind that.
    pub async fn start_with(server: &str, config: &str) -> Proxy {
        let base = BASE.replace("[server]", &format!("[server]\n{server}"));
        Proxy::start_whole(&format!("{base}{config}")).await
    }

    /// Starts a proxy in front of these backends.
    pub async fn before(backends: &[&Backend]) -> Proxy {
        Proxy::start(&pool_of(backends)).await
    }

    /// Starts a proxy with a whole configuration, and waits until it is ready.
    pub async fn start_whole(config: &str) -> Proxy {
        let proxy = Proxy::start_unready(config).await;
        proxy.ready().await;
        proxy
    }

    /// Starts a proxy with a whole configuration, whatever is known of its backends.
    pub async fn start_unready(config: &str) -> Proxy {
        Proxy::start_as(config, &[("", tls::issue(NAMES))]).await
    }

    /// Starts a proxy as [`start`](Self::start) does, that parks connections after so long.
    pub async fn parking(park_after: Duration, config: &str) -> Proxy {
        let options = Options { park_after, ..Options::default() };
        let certificates = [("", tls::issue(NAMES))];
        let proxy = Proxy::start_by(options, &format!("{BASE}{config}"), &certificates).await;
        proxy.ready().await;
        proxy
    }

    /// Starts a proxy with a whole configuration and these certificates, each in `NAMEcert.pem`
    /// and `NAMEkey.pem`.
    pub async fn start_as(config: &str, certificates: &[(&str, PemPair)]) -> Proxy {
        Proxy::start_by(Options::default(), config, certificates).await
    }

    /// Starts a proxy with a whole configuration and a file that it names, whatever is known of its
    /// backends.
    pub async fn start_with_file(name: &str, text: &str, config: &str) -> Proxy {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        Proxy::start_in(dir, Options::default(), config).await
    }

    async fn start_by(options: Options, config: &str, certificates: &[(&str, PemPair)]) -> Proxy {
        let dir = TempDir::new().unwrap();
        for (name, pair) in certificates {
            write_pair(dir.path(), name, pair);
        }
        std::fs::write(dir.path().join("ca.pem"), tls::authority().pem()).unwrap();
        Proxy::start_in(dir, options, config).await
    }

    async fn start_in(dir: TempDir, options: Options, config: &str) -> Proxy {
        let path = dir.path().join("tidegate.toml");
        std::fs::write(&path, config).unwrap();
        let options = Options { config_path: path, ..options };
        let running = tokio::task::spawn_blocking(move || app::start(options))
            .await
            .unwrap()
            .unwrap_or_else(|error| panic!("{error}\n{config}"));
        Proxy { running, dir }
    }

    /// Waits until every pool has had a verdict.
    pub async fn ready(&self) {
        let handle = self.running.handle();
        eventually("ready", async || {
            matches!(handle.readiness(), tidegate::control::Readiness::Ready)
        })
        .await;
    }

    /// Where the listener of this name accepts.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.running.listener_address(listener).unwrap()
    }

    /// Where plain text is accepted.
    pub fn http(&self) -> SocketAddr {
        self.address("http")
    }

    /// The directory of the configuration, with `cert.pem`, `key.pem` and `ca.pem`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("tidegate.toml")
    }

    /// The whole thing from inside.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// A plain client connection.
    pub async fn connect(&self) -> Wire {
        Wire::connect(self.http()).await
    }

    /// A plain client connection from another address of this machine.
    pub async fn connect_from(&self, address: &str) -> Wire {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        Wire::over(in_time("connecting", socket.connect(self.http())).await.unwrap())
    }

    /// Client settings that trust this proxy's certificates.
    pub fn client_tls(&self, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
        tls::client(alpn)
    }

    /// Reloads with [`BASE`] and this configuration behind it.
    pub async fn reload(&self, config: &str) -> Result<ReloadReport, Arc<ReloadError>> {
        std::fs::write(self.config_path(), format!("{BASE}{config}")).unwrap();
        in_time("a reload", self.running.handle().reload()).await
    }

    /// The state of a backend of the pool `app`, as `status` has it.
    pub fn state_of(&self, backend: &Backend) -> String {
        let status = serde_json::to_value(self.running.handle().status()).unwrap();
        let backends = &status["pools"]["app"]["versions"][""]["backends"];
        backends[backend.address.to_string()]["state"].as_str().unwrap_or("absent").to_owned()
    }

    /// What `status` has of a backend of the pool `app`.
    pub fn status_of(&self, backend: &Backend) -> BackendStatus {
        let status = self.running.handle().status();
        let backends = &status.pools["app"].versions[""].backends;
        backends[&*backend.address.to_string()].clone()
    }

    /// Waits until all of these, which are the whole of the pool `app`, are healthy and are picked.
    pub async fn all_serve(&self, backends: &[&Backend]) {
        for backend in backends {
            eventually("healthy", async || self.state_of(backend) == "healthy").await;
        }
        self.usable(backends.len()).await;
    }

    /// Waits until so many backends of the pool `app` may be picked.
    pub async fn usable(&self, count: usize) {
        let usable = || self.metric("tidegate_pool_usable_backends", &["pool=\"app\""]);
        eventually("so many may be picked", async || usable() == count as f64).await;
    }

    /// Requests in flight on a backend, over all pools.
    pub fn in_flight(&self, backend: &Backend) -> u32 {
        self.in_flight_at(backend.address)
    }

    /// As [`in_flight`](Self::in_flight), for a backend of any kind.
    pub fn in_flight_at(&self, address: SocketAddr) -> u32 {
        let snapshot = self.running.shared().snapshot.load();
        let label = address.to_string();
        snapshot
            .pools
            .values()
            .flat_map(|pool| pool.state.split.load().shares.clone())
            .flat_map(|share| share.version.members.clone())
            .filter(|member| *member.backend.label == *label)
            .map(|member| member.backend.in_flight())
            .sum()
    }

    /// The attempts that a backend of the pool `app` is judged by, and how many of them failed.
    pub fn judged(&self, address: SocketAddr) -> (u64, u64) {
        let snapshot = self.running.shared().snapshot.load();
        let label = address.to_string();
        let share = &snapshot.pools["app"].state.split.load().shares[0];
        let member = share.version.members.iter().find(|member| *member.backend.label == *label);
        let totals = member.unwrap().backend.totals();
        (totals.requests, totals.failures)
    }

    /// Requests that were recorded on a listener.
    pub fn recorded(&self, listener: &str) -> f64 {
        self.metric("tidegate_listener_requests_total", &[&format!("listener=\"{listener}\"")])
    }

    /// What Prometheus would read.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        tidegate::telemetry::metrics::render(self.running.shared(), 0, &mut |piece| {
            text.push_str(piece);
        });
        text
    }

    /// The sum of a metric over all series that hold every one of these pieces of label text.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        let series = text.lines().filter(|line| {
            let at_end = line.get(name.len()..).is_some_and(|rest| rest.starts_with(['{', ' ']));
            line.starts_with(name) && at_end && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Stops it as SIGTERM does.
    pub async fn stop(self) {
        self.running.shutdown().await;
    }
}
