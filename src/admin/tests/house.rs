//! A control plane with an admin API on a port of its own, and a client of it.

use std::{fs, io};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::admin::{Address, AdminState, bind, serve};
use crate::balance::affinity::Key;
use crate::control::governor::{Setting, read_config};
use crate::control::{Governor, Store};
use crate::state::{Shared, Snapshot};
use crate::telemetry::AccessLog;

pub const GOOD: &str = r#"
    [listeners.http]
    bind = "127.0.0.1:0"
    [[routes]]
    pool = "app"
    [pools.app]
    backends = ["127.0.0.1:1"]
    [pools.app.health]
    interval = "1h"
"#;

/// A control plane with an admin API on a port of its own.
pub struct House {
    pub directory: TempDir,
    pub address: Address,
    pub state: AdminState,
    pub stop: Option<oneshot::Sender<()>>,
    pub serving: JoinHandle<io::Result<()>>,
}

impl House {
    pub async fn new(config: &str) -> Self {
        Self::at(config, |_| Address::Tcp(([127, 0, 0, 1], 0).into())).await
    }

    pub async fn at(config: &str, address: impl Fn(&TempDir) -> Address) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidegate.toml");
        fs::write(directory.path().join("token"), "secret\n").unwrap();
        fs::write(&path, config).unwrap();
        let (shared, mailboxes) = Shared::new(1, "".into(), Snapshot::empty(), u64::MAX);
        let affinity_key = Key::new(b"key");
        let parsed = read_config(&path).unwrap();
        let access_log = AccessLog::new().unwrap();
        let setting = Setting {
            path,
            workers: 1,
            affinity_key,
            open_files: 1024,
            log: None,
            access_log: access_log.clone(),
            store: Store::default(),
        };
        let mut governor = Governor::new(&shared, setting, mailboxes.notices);
        let state = AdminState { control: governor.handle(), shared, access_log };
        governor.begin(parsed).unwrap();
        tokio::spawn(governor.run());
        let socket = bind(&address(&directory)).unwrap();
        let address = socket.address().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(serve(socket, state.clone(), until));
        House { directory, address, state, stop: Some(stop), serving }
    }

    pub fn write_config(&self, config: &str) {
        fs::write(self.directory.path().join("tidegate.toml"), config).unwrap();
    }

    pub async fn connect(&self) -> TcpStream {
        let Address::Tcp(address) = self.address else { panic!("not a TCP socket") };
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends a request with the given further fields and body.
    pub async fn ask(&self, line: &str, fields: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!("{line} HTTP/1.1\r\nContent-Length: {length}\r\n{fields}");
        exchange(self.connect().await, &format!("{head}Connection: close\r\n\r\n{body}")).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "Host: localhost\r\n", "").await
    }

    pub async fn reload(&self) -> Answer {
        self.ask("POST /api/reload", &format!("Host: localhost\r\n{JSON}"), "{}").await
    }
}

pub const JSON: &str = "Content-Type: application/json\r\n";

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The status, once it is clear that the body tells the error as every error is told.
    pub fn refusal(&self) -> u16 {
        assert!(self.json()["error"].as_str().is_some_and(|words| !words.is_empty()));
        self.status
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.into(), body: body.into() }
}
