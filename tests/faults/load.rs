//! Requests that are due at a fixed rate, whether or not earlier ones were answered. Latency counts
//! from the moment a request was due, so that a stall is seen by all who came meanwhile.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::backend::NAME_FIELD;
use crate::support::wire::{Message, read_message};

/// After this the client gives a request up.
const PATIENCE: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// One request and what became of it. Times count from the begin of the load.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it should have been sent.
    pub due: Duration,
    /// How much later it was sent: what the machine, and not the proxy, made it wait.
    pub late: Duration,
    /// From `due` to the last byte, or to the failure.
    pub took: Duration,
    /// The replica that answered 200, or what went wrong.
    pub outcome: Result<String, String>,
}

/// A load under way.
pub struct Load {
    /// When it began.
    pub began: Instant,
    running: tokio::task::JoinHandle<Vec<Sample>>,
}

impl Load {
    /// Sends `rate` requests a second to this address for so long.
    pub fn start(target: SocketAddr, rate: u32, length: Duration) -> Load {
        let began = Instant::now();
        Load { began, running: tokio::spawn(run(target, rate, length, began)) }
    }

    /// Waits until the load has lasted so long.
    pub async fn reaches(&self, time: Duration) {
        sleep_until(self.began + time).await;
    }

    /// Waits for the last answer.
    pub async fn end(self) -> Vec<Sample> {
        self.running.await.unwrap()
    }
}

type Kept = Arc<Mutex<Vec<Connection>>>;

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

async fn run(target: SocketAddr, rate: u32, length: Duration, began: Instant) -> Vec<Sample> {
    let kept = Kept::default();
    let count = (length.as_secs_f64() * f64::from(rate)) as u32;
    let mut asked = Vec::new();
    for number in 0..count {
        let due = Duration::from_secs(1) * number / rate;
        sleep_until(began + due).await;
        let kept = Arc::clone(&kept);
        asked.push(tokio::spawn(async move {
            let late = began.elapsed() - due;
            let answer = timeout(PATIENCE, once(target, &kept)).await;
            let outcome = answer.unwrap_or_else(|_| Err("no answer in 10 s".to_owned()));
            Sample { due, late, took: began.elapsed() - due, outcome }
        }));
    }
    let mut samples = Vec::new();
    for asked in asked {
        samples.push(asked.await.unwrap());
    }
    samples
}

async fn once(target: SocketAddr, kept: &Kept) -> Result<String, String> {
    let waiting = kept.lock().unwrap().pop();
    let mut connection = match waiting {
        Some(connection) => connection,
        None => Connection::open(target).await.map_err(|error| format!("connecting: {error}"))?,
    };
    let answer = connection.ask().await.map_err(|error| error.to_string())?;
    if answer.field("connection") != Some("close") {
        kept.lock().unwrap().push(connection);
    }
    match answer.status() {
        200 => Ok(answer.field(NAME_FIELD).unwrap_or_default().to_owned()),
        status => Err(status.to_string()),
    }
}

impl Connection {
    async fn open(target: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, read: Vec::new() })
    }

    async fn ask(&mut self) -> io::Result<Message> {
        self.stream.write_all(REQUEST).await?;
        read_message(&mut self.stream, &mut self.read, false).await
    }
}
