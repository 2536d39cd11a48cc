//! The well-behaved client: so many requests a second, come what may, each with its own patience.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use crate::support::wire::{Message, Stream, read_message};

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(20);
/// After this the client gives a request up.
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Who asks, and how.
#[derive(Clone)]
pub struct Good {
    pub address: SocketAddr,
    pub from: IpAddr,
    pub tls: Option<Arc<ClientConfig>>,
    /// On which connections.
    pub comes: Comes,
    /// A quick 503 with `Retry-After` is an answer too.
    pub takes_503: bool,
}

/// The connections that the well-behaved client asks on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Comes {
    /// Every other request has one of its own.
    Both,
    /// Each request has one of its own.
    Anew,
}

/// What became of the requests.
#[derive(Default)]
pub struct Outcome {
    pub asked: usize,
    /// The time that each answered one took, from the moment it was due.
    pub answered: Vec<Duration>,
    /// The first failures, in words.
    pub failures: Vec<String>,
}

impl Outcome {
    /// The share of requests that were answered, in percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.answered.len() as f64 / self.asked as f64
    }

    /// The 95th percentile of all requests; one without an answer took as long as anything.
    pub fn p95(&self) -> Duration {
        let mut times = self.answered.clone();
        times.resize(self.asked, PATIENCE);
        times.sort_unstable();
        times[(times.len() * 95).div_ceil(100) - 1]
    }
}

/// Connections to ask on.
pub type Kept = Arc<Mutex<Vec<Connection>>>;

/// A connection, and what was read ahead on it.
pub struct Connection {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

impl Good {
    /// Opens connections to keep before the flood begins.
    pub async fn warm_up(&self) -> Kept {
        let kept = Kept::default();
        for _ in 0..4 {
            let mut connection = self.connect().await.unwrap();
            self.ask(&mut connection).await.unwrap();
            kept.lock().unwrap().push(connection);
        }
        kept
    }

    /// Asks for so long, as often as it is due, whether or not earlier requests were answered.
    pub async fn ask_for(&self, time: Duration, kept: &Kept) -> Outcome {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let count = time.as_millis() / PAUSE.as_millis();
        let mut asked = Vec::new();
        for number in 0..count {
            let due = ticks.tick().await;
            let (good, kept) = (self.clone(), Arc::clone(kept));
            let fresh = self.comes == Comes::Anew || number % 2 == 1;
            asked.push(tokio::spawn(async move {
                let result = timeout(PATIENCE, good.once(fresh, &kept)).await;
                let result = result.unwrap_or_else(|_| Err("no answer in time".to_owned()));
                result.map(|()| due.elapsed())
            }));
        }
        let mut outcome = Outcome { asked: asked.len(), ..Outcome::default() };
        for asked in asked {
            match asked.await.unwrap() {
                Ok(time) => outcome.answered.push(time),
                Err(failure) => outcome.failures.push(failure),
            }
        }
        outcome.failures.truncate(5);
        outcome
    }

    async fn once(&self, fresh: bool, kept: &Kept) -> Result<(), String> {
        let waiting = if fresh { None } else { kept.lock().unwrap().pop() };
        let mut connection = match waiting {
            Some(connection) => connection,
            None => self.connect().await.map_err(|error| format!("connecting: {error}"))?,
        };
        let answer = self.ask(&mut connection).await?;
        if !fresh {
            kept.lock().unwrap().push(connection);
        }
        if self.is_fine(&answer) { Ok(()) } else { Err(answer.start) }
    }

    async fn connect(&self) -> std::io::Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.from, 0))?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)
            }
        };
        Ok(Connection { stream, read: Vec::new() })
    }

    async fn ask(&self, connection: &mut Connection) -> Result<Message, String> {
        let Connection { stream, read } = connection;
        stream.write_all(REQUEST).await.map_err(|error| format!("asking: {error}"))?;
        stream.flush().await.map_err(|error| format!("asking: {error}"))?;
        let answer = read_message(stream, read, false).await;
        answer.map_err(|error| format!("reading the answer: {error}"))
    }

    fn is_fine(&self, answer: &Message) -> bool {
        let later = answer.status() == 503 && answer.field("retry-after").is_some();
        answer.status() == 200 || (self.takes_503 && later)
    }
}
