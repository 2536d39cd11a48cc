//! An HTTP/2 client that does with its streams what a test wants.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::{in_time, tls};

/// One connection.
pub struct H2Client {
    /// For requests.
    pub send: SendRequest<Bytes>,
    /// Ends with the connection.
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer that came in full.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers, if there were any.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl H2Client {
    /// Connects over TLS, asking for `localhost`.
    pub async fn connect(address: SocketAddr) -> H2Client {
        H2Client::connect_with(address, &mut h2::client::Builder::new()).await
    }

    /// Connects with settings of its own.
    pub async fn connect_with(address: SocketAddr, builder: &mut h2::client::Builder) -> H2Client {
        let tcp = in_time("connecting", TcpStream::connect(address)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let connector = TlsConnector::from(tls::client(&[b"h2"]));
        let name = "localhost".try_into().unwrap();
        let stream = in_time("a handshake", connector.connect(name, tcp)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        H2Client::over(stream, builder).await
    }

    /// Speaks over what is connected already.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: &mut h2::client::Builder,
    ) -> H2Client {
        let (send, connection) = in_time("h2", builder.handshake(stream)).await.unwrap();
        H2Client { send, connection: tokio::spawn(connection) }
    }

    /// Sends a request whose body, unless `end`, is still to come.
    pub async fn start(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = in_time("a stream", self.send.clone().ready()).await.unwrap();
        send.send_request(request, end).unwrap()
    }

    /// Sends a request without a body.
    pub async fn ask(&mut self, request: Request<()>) -> Result<Answer, h2::Error> {
        let (response, _) = self.start(request, true).await;
        answer(response).await
    }

    /// A GET.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(get(path)).await.unwrap()
    }

    /// Sends a request with a body.
    pub async fn send(&mut self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let (response, mut stream) = self.start(request, false).await;
        stream.send_data(Bytes::copy_from_slice(body), true)?;
        answer(response).await
    }
}

/// A GET for `https://localhost`.
pub fn get(path: &str) -> Request<()> {
    request(Method::GET, path)
}

/// A request for `https://localhost`.
pub fn request(method: Method, path: &str) -> Request<()> {
    let uri = format!("https://localhost{path}");
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

/// Waits for an answer and reads it to its end.
pub async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let response = in_time("an answer", response).await?;
    let (parts, mut body) = response.into_parts();
    let (read, trailers) = read(&mut body).await?;
    Ok(Answer { status: parts.status, headers: parts.headers, body: read, trailers })
}

/// Reads a body to its end.
pub async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut whole = Vec::new();
    while let Some(data) = in_time("a body", body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok((whole, in_time("trailers", body.trailers()).await?))
}

/// Reads at least so many bytes of a body.
pub async fn read_some(body: &mut RecvStream, count: usize) -> Vec<u8> {
    let mut some = Vec::new();
    while some.len() < count {
        let data = in_time("a piece of a body", body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        some.extend_from_slice(&data);
    }
    some
}
