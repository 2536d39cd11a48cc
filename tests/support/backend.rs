//! A scripted backend: it answers with exactly the bytes that its script says, and can be killed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::every;
use super::wire::{Message, read_head, read_message};

/// One thing that a backend does on a connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends so many bytes as fast as they are taken; [`Backend::poured`] counts them.
    Pour(u64),
    /// Reads so many bytes; [`Backend::taken`] counts them.
    Take(u64),
    /// Reads, until the other side closes; [`Backend::taken`] counts the bytes.
    Swallow,
    /// Sends these bytes so many times, on a beat.
    Drip(Vec<u8>, u32, Duration),
    /// Waits until [`Backend::release`] is called once for it.
    Hold,
    /// Closes the connection with a reset.
    Reset,
    /// Closes the connection.
    Close,
    /// Sends back whatever comes, until the end.
    Echo,
    /// Never does anything again, with the connection open.
    Hang,
}

/// What to do with one request.
#[derive(Clone, Debug, Default)]
pub struct Reply(pub Vec<Step>);

impl Reply {
    /// A plain answer with a length.
    pub fn ok(body: impl AsRef<[u8]>) -> Reply {
        Reply::status(200, body)
    }

    /// An answer with a status.
    pub fn status(status: u16, body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n\r\n", body.len());
        Reply::raw([head.as_bytes(), body].concat())
    }

    /// These bytes.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Reply {
        Reply(vec![Step::Send(bytes.as_ref().to_vec())])
    }

    /// And then another step.
    pub fn then(mut self, step: Step) -> Reply {
        self.0.push(step);
        self
    }

    /// But first another step.
    pub fn after(mut self, step: Step) -> Reply {
        self.0.insert(0, step);
        self
    }
}

/// A backend on a port of its own.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    life: Mutex<watch::Sender<bool>>,
}

type Script = dyn Fn(&Message) -> Reply + Send + Sync;

/// How much of a request a script waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    AtHead,
    AtEnd,
}

struct Shared {
    script: Box<Script>,
    begin: Begin,
    poured: AtomicU64,
    taken: AtomicU64,
    requests: Mutex<Vec<Message>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    holds: Semaphore,
    held: AtomicUsize,
}

impl Backend {
    /// Starts a backend; `script` says what to do with each request.
    pub async fn start(script: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Backend {
        Backend::begin(Box::new(script), Begin::AtEnd).await
    }

    /// Starts a backend that acts as soon as the head of a request is there; what the body is, its
    /// steps decide.
    pub async fn at_head(script: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Backend {
        Backend::begin(Box::new(script), Begin::AtHead).await
    }

    async fn begin(script: Box<Script>, begin: Begin) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script,
            begin,
            poured: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            holds: Semaphore::new(0),
            held: AtomicUsize::new(0),
        });
        let (life, alive) = watch::channel(true);
        tokio::spawn(accept(listener, Arc::clone(&shared), alive));
        Backend { address, shared, life: Mutex::new(life) }
    }

    /// A backend that answers everything with its name.
    pub async fn named(name: &'static str) -> Backend {
        Backend::start(move |_| Reply::ok(name)).await
    }

    /// A backend that answers with its name, and at `/health` with the status that it is told.
    pub async fn with_health(name: &'static str, health: Arc<AtomicU16>) -> Backend {
        Backend::start(move |request| match request.request_line().1 {
            "/health" => Reply::status(health.load(Ordering::SeqCst), ""),
            _ => Reply::ok(name),
        })
        .await
    }

    /// The requests that came, without those for `/health`.
    pub fn requests(&self) -> Vec<Message> {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|r| r.request_line().1 != "/health").cloned().collect()
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Bytes that [`Step::Pour`] got rid of.
    pub fn poured(&self) -> u64 {
        self.shared.poured.load(Ordering::SeqCst)
    }

    /// Bytes that [`Step::Take`] and [`Step::Swallow`] read.
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// Lets one [`Step::Hold`] go on.
    pub fn release(&self) {
        self.shared.holds.add_permits(1);
    }

    /// Lets all go on that are held now.
    pub fn release_held(&self) {
        self.shared.holds.add_permits(self.shared.held.load(Ordering::SeqCst));
    }

    /// Dies as a killed process does: nobody listens any more, every connection is reset.
    pub fn kill(&self) {
        let _ = self.life.lock().unwrap().send(false);
    }

    /// Comes back on the same port.
    pub async fn revive(&self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(1024).unwrap();
        let (life, alive) = watch::channel(true);
        tokio::spawn(accept(listener, Arc::clone(&self.shared), alive));
        *self.life.lock().unwrap() = life;
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut alive: watch::Receiver<bool>) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            _ = alive.wait_for(|alive| !alive) => return,
        };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let (shared, mut alive) = (Arc::clone(&shared), alive.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let mut stream = stream;
            let killed = tokio::select! {
                () = serve(&mut stream, &shared) => false,
                _ = alive.wait_for(|alive| !alive) => true,
            };
            if killed {
                reset(&stream);
            }
            drop(stream);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(stream: &mut TcpStream, shared: &Shared) {
    let mut read = Vec::new();
    loop {
        let request = match shared.begin {
            Begin::AtHead => read_head(stream, &mut read).await,
            Begin::AtEnd => read_message(stream, &mut read, true).await,
        };
        let Ok(request) = request else { return };
        let reply = (shared.script)(&request);
        shared.requests.lock().unwrap().push(request);
        for step in reply.0 {
            if act(step, stream, &mut read, shared).await.is_none() {
                return;
            }
        }
    }
}

/// Does one step. `None` ends the connection.
async fn act(
    step: Step,
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    shared: &Shared,
) -> Option<()> {
    match step {
        Step::Send(bytes) => stream.write_all(&bytes).await.ok()?,
        Step::Pour(count) => pour(stream, count, &shared.poured).await?,
        Step::Take(count) => take(stream, read, count, &shared.taken).await?,
        Step::Swallow => return take(stream, read, u64::MAX, &shared.taken).await,
        Step::Drip(bytes, times, beat) => {
            let mut beat = every(beat);
            for _ in 0..times {
                beat.tick().await;
                stream.write_all(&bytes).await.ok()?;
            }
        }
        Step::Hold => {
            shared.held.fetch_add(1, Ordering::SeqCst);
            shared.holds.acquire().await.unwrap().forget();
            shared.held.fetch_sub(1, Ordering::SeqCst);
        }
        Step::Reset => {
            reset(stream);
            return None;
        }
        Step::Close => return None,
        Step::Hang => std::future::pending().await,
        Step::Echo => {
            let _ = stream.write_all(read).await;
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
            return None;
        }
    }
    Some(())
}

async fn pour(stream: &mut TcpStream, count: u64, poured: &AtomicU64) -> Option<()> {
    let piece = [b'x'; 64 * 1024];
    let mut left = count;
    while left > 0 {
        let length = left.min(piece.len() as u64) as usize;
        let written = stream.write(&piece[..length]).await.ok()?;
        poured.fetch_add(written as u64, Ordering::SeqCst);
        left -= written as u64;
    }
    Some(())
}

async fn take(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    count: u64,
    taken: &AtomicU64,
) -> Option<()> {
    let mut left = count;
    let mut piece = vec![0; 64 * 1024];
    while left > 0 {
        let length = if read.is_empty() {
            let limit = left.min(piece.len() as u64) as usize;
            stream.read(&mut piece[..limit]).await.ok().filter(|length| *length > 0)?
        } else {
            let length = left.min(read.len() as u64) as usize;
            read.drain(..length);
            length
        };
        taken.fetch_add(length as u64, Ordering::SeqCst);
        left -= length as u64;
    }
    Some(())
}

/// What follows is a close with a reset.
#[allow(deprecated, reason = "a linger of zero is what makes the reset, and it cannot block")]
pub fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
