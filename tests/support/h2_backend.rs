//! A scripted HTTP/2 backend: what it does with a stream is a future that the test writes.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// One request, and the means to answer it.
pub struct Exchange {
    /// The request.
    pub request: Request<RecvStream>,
    /// For the answer.
    pub respond: SendResponse<Bytes>,
    /// Which request of the backend it is, from 0.
    pub number: usize,
    shared: Arc<Shared>,
}

impl Exchange {
    /// Answers with these fields and a body that is still to be sent.
    pub fn head(&mut self, status: u16, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        self.respond.send_response(head(status, fields), false).unwrap()
    }

    /// Answers without a body.
    pub fn bare(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.respond.send_response(head(status, fields), true).unwrap();
    }

    /// Answers 200 with a body.
    pub fn ok(&mut self, body: impl Into<Bytes>) {
        self.head(200, &[]).send_data(body.into(), true).unwrap();
    }

    /// Reads the request body to its end.
    pub async fn read(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        super::h2_client::read(self.request.body_mut()).await.unwrap()
    }

    /// Waits for [`H2Backend::release`].
    pub async fn hold(&self) {
        self.shared.holds.acquire().await.unwrap().forget();
    }
}

fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap()
}

/// A backend on a port of its own.
pub struct H2Backend {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    life: watch::Sender<bool>,
}

type Doing = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Shared {
    script: Box<dyn Fn(Exchange) -> Doing + Send + Sync>,
    builder: h2::server::Builder,
    tls: Option<TlsAcceptor>,
    requests: Mutex<Vec<Request<()>>>,
    connections: AtomicUsize,
    streams: AtomicUsize,
    most_streams: AtomicUsize,
    holds: Semaphore,
}

impl H2Backend {
    /// In plain text.
    pub async fn start<F>(script: impl Fn(Exchange) -> F + Send + Sync + 'static) -> H2Backend
    where
        F: Future<Output = ()> + Send + 'static,
    {
        H2Backend::start_with(h2::server::Builder::new(), None, script).await
    }

    /// With settings of its own, and over TLS if there is a configuration for it.
    pub async fn start_with<F>(
        builder: h2::server::Builder,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> H2Backend
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(move |exchange| Box::pin(script(exchange))),
            builder,
            tls: tls.map(TlsAcceptor::from),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            most_streams: AtomicUsize::new(0),
            holds: Semaphore::new(0),
        });
        let (life, alive) = watch::channel(true);
        tokio::spawn(accept(listener, Arc::clone(&shared), alive));
        H2Backend { address, shared, life }
    }

    /// A backend that answers everything with these bytes.
    pub async fn saying(body: &'static str) -> H2Backend {
        H2Backend::start(move |mut exchange| async move {
            exchange.read().await;
            exchange.ok(body);
        })
        .await
    }

    /// The heads of the requests that came.
    pub fn requests(&self) -> Vec<Request<()>> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Connections on which HTTP/2 was spoken.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Requests that are being served now.
    pub fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::SeqCst)
    }

    /// The most requests that were ever served at once.
    pub fn most_streams(&self) -> usize {
        self.shared.most_streams.load(Ordering::SeqCst)
    }

    /// Lets one [`Exchange::hold`] go on.
    pub fn release(&self) {
        self.shared.holds.add_permits(1);
    }

    /// Dies as a killed process does: every connection is reset.
    pub fn kill(&self) {
        let _ = self.life.send(false);
    }
}

impl Drop for H2Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut alive: watch::Receiver<bool>) {
    loop {
        let tcp = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => tcp,
                Err(_) => continue,
            },
            _ = alive.wait_for(|alive| !alive) => return,
        };
        let (shared, mut alive) = (Arc::clone(&shared), alive.clone());
        tokio::spawn(async move {
            // A duplicate, with which the connection can be reset from outside.
            let socket = SockRef::from(&tcp).try_clone().unwrap();
            tokio::select! {
                () = secure(tcp, shared) => {}
                _ = alive.wait_for(|alive| !alive) => {
                    let _ = socket.set_linger(Some(Duration::ZERO));
                }
            }
        });
    }
}

async fn secure(tcp: TcpStream, shared: Arc<Shared>) {
    let _ = tcp.set_nodelay(true);
    match &shared.tls {
        None => serve(tcp, &shared).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(tcp).await {
                serve(stream, &shared).await;
            }
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: &Arc<Shared>) {
    let Ok(mut connection) = shared.builder.handshake::<_, Bytes>(stream).await else { return };
    shared.connections.fetch_add(1, Ordering::SeqCst);
    // Served by this very task's children; those that outlive the connection meet errors.
    while let Some(Ok((request, respond))) = connection.accept().await {
        let number = {
            let mut requests = shared.requests.lock().unwrap();
            requests.push(copy(&request));
            requests.len() - 1
        };
        let streams = shared.streams.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_streams.fetch_max(streams, Ordering::SeqCst);
        let exchange = Exchange { request, respond, number, shared: Arc::clone(shared) };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let _leaving = Leaving(Arc::clone(&shared));
            (shared.script)(exchange).await;
        });
    }
}

/// Counts a stream as gone even if its script panics.
struct Leaving(Arc<Shared>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

fn copy(request: &Request<RecvStream>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// HTTP/2 frame by frame, for what no library lets a server do.
pub struct Frames(TcpStream);

/// A frame (RFC 9113 section 4.1).
#[derive(Debug)]
pub struct Frame {
    /// Its type: 1 for HEADERS.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frames {
    /// Greets a client: reads its preface and says empty SETTINGS.
    pub async fn greet(mut tcp: TcpStream) -> std::io::Result<Frames> {
        let _ = tcp.set_nodelay(true);
        tcp.read_exact(&mut [0; 24]).await?;
        let mut frames = Frames(tcp);
        frames.say(4, 0, 0, &[]).await?;
        Ok(frames)
    }

    /// The next frame.
    pub async fn next(&mut self) -> std::io::Result<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await?;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Waits for the head of the next request, acknowledging what is to be; gives its stream.
    pub async fn request(&mut self) -> std::io::Result<u32> {
        loop {
            let frame = self.next().await?;
            match (frame.kind, frame.flags & 1) {
                (1, _) => return Ok(frame.stream),
                (4, 0) => self.say(4, 1, 0, &[]).await?,
                (6, 0) => self.say(6, 1, 0, &frame.payload).await?,
                _ => {}
            }
        }
    }

    /// Sends a frame.
    pub async fn say(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).await
    }

    /// Sends frames as they are.
    pub async fn send(&mut self, frames: &[u8]) -> std::io::Result<()> {
        self.0.write_all(frames).await
    }

    /// Answers 200 without a body.
    pub async fn ok(&mut self, stream: u32) -> std::io::Result<()> {
        // Entry 8 of the static table: `:status 200` (RFC 7541 appendix A).
        self.say(1, 0x4 | 0x1, stream, &[0x88]).await
    }

    /// GOAWAY with this last stream and reason.
    pub async fn go_away(&mut self, last: u32, reason: u32) -> std::io::Result<()> {
        self.say(7, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat()).await
    }
}
