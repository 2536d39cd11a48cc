//! What is loaded if the user names nothing: a Tidegate as a process of its own, in front of three
//! small replicas on threads of this one.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tempfile::TempDir;
use tidegate::certs::generate::{Authority, PemPair, Validity};
use tidegate::state::tls::{Trust, authorities};

use crate::arguments::Arguments;
use crate::{LoadError, Protocol, Target};

const REPLICAS: usize = 3;

/// For the proxy to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// For the proxy to end by itself.
const FAREWELL: Duration = Duration::from_secs(5);

/// The first argument of a process that is to become the proxy.
const BECOME: &str = "--become-and-end-with";

/// The proxy and what it needs; it ends when this is dropped.
pub struct BuiltIn {
    _proxy: Proxy,
    authority: String,
    http: u16,
    https: u16,
}

/// Its process.
struct Proxy(Child);

impl BuiltIn {
    /// Starts everything and waits until it answers.
    pub fn start(arguments: &Arguments) -> Result<Self, LoadError> {
        let replicas = (0..REPLICAS)
            .map(|_| start_replica(arguments.size(), arguments.chunked))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|error| LoadError::Setup("no replicas", error.to_string()))?;
        let (authority, pair) = certificate()?;
        let dir =
            TempDir::new().map_err(|error| LoadError::Setup("no folder", error.to_string()))?;
        let config = configuration(arguments.workers, &replicas);
        for (name, text) in
            [("tidegate.toml", &config), ("cert.pem", &pair.cert), ("key.pem", &pair.key)]
        {
            std::fs::write(dir.path().join(name), text)
                .map_err(|error| LoadError::Setup("no configuration", error.to_string()))?;
        }
        let program = arguments
            .tidegate
            .clone()
            .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tidegate")));
        let log = File::create(dir.path().join("log"))
            .map_err(|error| LoadError::Setup("no log", error.to_string()))?;
        let mut proxy = Proxy::start(&program, dir.path(), log)?;
        proxy.wait(dir.path())?;
        let (http, https) = (port_of(dir.path(), "http")?, port_of(dir.path(), "https")?);
        // It has read what is in there. Whoever ends us later, the folder is gone.
        drop(dir);
        Ok(Self { _proxy: proxy, authority, http, https })
    }

    /// What there is to load of it: the protocol that is asked for, or each of them.
    pub fn targets(&self, arguments: &Arguments) -> Result<Vec<Target>, LoadError> {
        if let Some(only) = arguments.protocol {
            only.check(arguments)?;
        }
        let all = [
            (Protocol::Http1, false),
            (Protocol::Http1, true),
            (Protocol::Http2, true),
            (Protocol::Websocket, false),
            (Protocol::Websocket, true),
        ];
        all.into_iter()
            .filter(|&(protocol, tls)| {
                arguments.protocol.is_none_or(|wanted| wanted == protocol)
                    && (tls || !arguments.tls)
            })
            .map(|(protocol, tls)| self.target(protocol, tls, arguments))
            .collect()
    }

    fn target(
        &self,
        protocol: Protocol,
        tls: bool,
        arguments: &Arguments,
    ) -> Result<Target, LoadError> {
        let (scheme, port) = if tls { ("https", self.https) } else { ("http", self.http) };
        let path = if protocol == Protocol::Websocket { "/echo" } else { "/" };
        let roots = authorities(self.authority.as_bytes())
            .map_err(|error| LoadError::Setup("no trust", error.to_string()))?;
        let url = format!("{scheme}://127.0.0.1:{port}{path}");
        Target::new(&url, protocol, Trust::Authorities(roots), arguments)
    }
}

impl Proxy {
    fn start(program: &Path, dir: &Path, log: File) -> Result<Self, LoadError> {
        let ourselves = std::env::current_exe()
            .map_err(|error| LoadError::Setup("no program", error.to_string()))?;
        Command::new(ourselves)
            .arg(BECOME)
            .arg(std::process::id().to_string())
            .arg(program)
            .arg("run")
            .arg("-c")
            .arg(dir.join("tidegate.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for us: what is under way is to be answered until we have stopped.
            .process_group(0)
            .spawn()
            .map(Self)
            .map_err(|error| LoadError::Proxy(error.to_string()))
    }

    fn wait(&mut self, dir: &Path) -> Result<(), LoadError> {
        let began = Instant::now();
        while !ask(dir, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            let ended = self.0.try_wait().ok().flatten().is_some();
            if ended || began.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
                return Err(LoadError::Proxy(log.trim_end().to_owned()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Becomes the proxy, if this process was started for that; gives why it could not.
///
/// A process can ask for its own end only, to come with its parent's. So this one does, and is then
/// replaced by the proxy, for which that still holds.
pub fn become_proxy() -> Option<std::io::Error> {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().filter(|first| first == BECOME)?;
    let (parent, program) = (arguments.next()?, arguments.next()?);
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return Some(error.into());
    }
    // It may have ended before that.
    let alive = getppid().is_some_and(|pid| pid.as_raw_nonzero().to_string().as_str() == parent);
    if !alive {
        return Some(std::io::Error::other("the load test has ended"));
    }
    let error = Command::new(&program).args(arguments).exec();
    Some(std::io::Error::other(format!("{}: {error}", program.display())))
}

/// What the admin API answers, head and body.
fn ask(dir: &Path, path: &str) -> Option<String> {
    let mut admin = UnixStream::connect(dir.join("admin.sock")).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    admin.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    admin.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn port_of(dir: &Path, listener: &str) -> Result<u16, LoadError> {
    let answer = ask(dir, "/api/status").unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let status: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    status["listeners"][listener]["addresses"][0]
        .as_str()
        .and_then(|address| address.parse::<SocketAddr>().ok())
        .map(|address| address.port())
        .ok_or_else(|| LoadError::Proxy(format!("its status names no listener: {answer}")))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // First in the way that lets it finish: a build that counts what it does writes that down
        // at its end.
        if let Some(proxy) = Pid::from_raw(self.0.id().cast_signed()) {
            let _ = kill_process(proxy, Signal::TERM);
        }
        let began = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && began.elapsed() < FAREWELL {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn certificate() -> Result<(String, PemPair), LoadError> {
    let valid = || Validity::of_days(SystemTime::now(), 1);
    let failed = |error: tidegate::certs::generate::GenerateError| {
        LoadError::Setup("no certificate", error.to_string())
    };
    let authority = Authority::new("load test", valid()).map_err(failed)?;
    let pair = authority.issue(&["127.0.0.1", "localhost"], valid()).map_err(failed)?;
    Ok((authority.pem(), pair))
}

fn configuration(workers: u32, replicas: &[SocketAddr]) -> String {
    let backends: Vec<String> = replicas.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        r#"[server]
workers = {workers}
[admin]
bind = "unix:admin.sock"
[log]
level = "warn"
[listeners.http]
bind = "127.0.0.1:0"
[listeners.https]
bind = "127.0.0.1:0"
tls = {{ certificates = [{{ cert = "cert.pem", key = "key.pem" }}] }}
[[routes]]
pool = "app"
[pools.app]
backends = [{}]
"#,
        backends.join(", ")
    )
}

/// A replica on a thread of its own, which ends with the process.
fn start_replica(size: usize, chunked: bool) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let body = Bytes::from(vec![b'x'; size]);
    let app = Router::new()
        .route("/echo", get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }))
        .fallback(async move |_sent: Bytes| answer(body.clone(), chunked))
        .layer(DefaultBodyLimit::disable());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                let _ = axum::serve(listener, app).await;
            }
        });
    });
    Ok(address)
}

fn answer(body: Bytes, chunked: bool) -> Response {
    if !chunked {
        return body.into_response();
    }
    let parts = [body.slice(..body.len() / 2), body.slice(body.len() / 2..)];
    let parts = parts.map(Ok::<_, Infallible>);
    Body::from_stream(futures_util::stream::iter(parts)).into_response()
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(_) | Message::Binary(_) = message
            && socket.send(message).await.is_err()
        {
            break;
        }
    }
}
