//! HTTP/1.1 as bytes: a client that says what it is told, and reading of messages for both sides.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::in_time;

/// A stream of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A client connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// A response, or a request, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Name (in lower case) and value, in order.
    pub fields: Vec<(String, String)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// Trailers of a chunked body.
    pub trailers: Vec<(String, String)>,
    /// The head as it came, byte for byte.
    pub raw_head: Vec<u8>,
}

impl Message {
    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The first field of a name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// All fields of a name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(field, _)| field == name).map(|(_, v)| v.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Method and target of a request.
    pub fn request_line(&self) -> (&str, &str) {
        let mut words = self.start.split(' ');
        (words.next().unwrap_or(""), words.next().unwrap_or(""))
    }
}

impl Wire {
    /// Connects in plain text.
    pub async fn connect(address: SocketAddr) -> Wire {
        let stream = in_time("connecting", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire::over(stream)
    }

    /// Connects over TLS with the given client settings.
    pub async fn connect_tls(
        address: SocketAddr,
        config: Arc<rustls::ClientConfig>,
        name: &str,
    ) -> io::Result<Wire> {
        let stream = in_time("connecting", TcpStream::connect(address)).await?;
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        Ok(Wire::over(in_time("handshake", connector.connect(name, stream)).await?))
    }

    /// Speaks over any stream.
    pub fn over(stream: impl Stream + 'static) -> Wire {
        Wire { stream: Box::new(stream), read: Vec::new() }
    }

    /// Says these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        in_time("sending", self.stream.write_all(bytes.as_ref())).await.unwrap();
        in_time("flushing", self.stream.flush()).await.unwrap();
    }

    /// Says these bytes to a peer that may have closed already.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        in_time("sending", self.stream.write_all(bytes.as_ref())).await?;
        in_time("flushing", self.stream.flush()).await
    }

    /// Says that nothing more comes.
    pub async fn finish(&mut self) {
        in_time("shutdown", self.stream.shutdown()).await.unwrap();
    }

    /// A GET, and its answer.
    pub async fn get(&mut self, target: &str) -> Message {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        self.response().await.unwrap()
    }

    /// A request with these fields (`Host: test` if they name none) and this body, and its answer.
    pub async fn ask(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Message {
        let body = body.as_ref();
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += "Host: test\r\n";
        }
        fields.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send([head.as_bytes(), b"\r\n", body].concat()).await;
        self.response().await.unwrap()
    }

    /// Reads the next response, that of a request other than HEAD.
    pub async fn response(&mut self) -> io::Result<Message> {
        in_time("a response", read_message(&mut self.stream, &mut self.read, false)).await
    }

    /// Reads the next response without a body: that of a HEAD.
    pub async fn head(&mut self) -> io::Result<Message> {
        in_time("a head", read_head(&mut self.stream, &mut self.read)).await
    }

    /// Reads exactly so many bytes.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        in_time("bytes", fill(&mut self.stream, &mut self.read, count)).await.unwrap();
        self.read.drain(..count).collect()
    }

    /// Reads until this text has come, and gives everything up to its end.
    pub async fn until(&mut self, text: &str) -> String {
        let found = |read: &[u8]| read.windows(text.len()).position(|w| w == text.as_bytes());
        let end = loop {
            if let Some(start) = found(&self.read) {
                break start + text.len();
            }
            let Wire { stream, read } = self;
            if in_time(text, more(stream, read)).await.is_err() {
                panic!("ended before {text:?}: {:?}", String::from_utf8_lossy(read));
            }
        };
        String::from_utf8_lossy(&self.read.drain(..end).collect::<Vec<u8>>()).into_owned()
    }

    /// Reads to the end; a reset ends it too.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.read);
        let _ = in_time("the end", self.stream.read_to_end(&mut rest)).await;
        rest
    }

    /// The raw stream, and what was read ahead.
    pub fn into_stream(self) -> (Box<dyn Stream>, Vec<u8>) {
        (self.stream, self.read)
    }
}

/// Reads a head; what came behind it stays in `read`.
pub async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
) -> io::Result<Message> {
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, read).await?;
    };
    let raw_head: Vec<u8> = read.drain(..end).collect();
    let text = String::from_utf8_lossy(&raw_head).into_owned();
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or("").to_owned();
    let fields = lines.filter(|line| !line.is_empty()).map(field).collect();
    Ok(Message { start, fields, raw_head, ..Message::default() })
}

/// Reads a message with its body, by the rules of RFC 9112 section 6.3.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    is_request: bool,
) -> io::Result<Message> {
    let mut message = read_head(stream, read).await?;
    let status = message.status();
    if message.field("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        read_chunks(stream, read, &mut message).await?;
    } else if let Some(length) = message.field("content-length") {
        let length: usize = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        fill(stream, read, length).await?;
        message.body = read.drain(..length).collect();
    } else if !is_request && status >= 200 && status != 204 && status != 304 {
        stream.read_to_end(read).await?;
        message.body = std::mem::take(read);
    }
    Ok(message)
}

async fn read_chunks(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    message: &mut Message,
) -> io::Result<()> {
    loop {
        let line = read_line(stream, read).await?;
        let size = line.split(';').next().unwrap_or("").trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            break;
        }
        fill(stream, read, size + 2).await?;
        message.body.extend(read.drain(..size));
        read.drain(..2);
    }
    loop {
        let line = read_line(stream, read).await?;
        if line.is_empty() {
            return Ok(());
        }
        message.trailers.push(field(&line));
    }
}

async fn read_line(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
) -> io::Result<String> {
    let end = loop {
        if let Some(end) = read.windows(2).position(|two| two == b"\r\n") {
            break end;
        }
        more(stream, read).await?;
    };
    let line: Vec<u8> = read.drain(..end + 2).collect();
    Ok(String::from_utf8_lossy(&line[..end]).into_owned())
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    count: usize,
) -> io::Result<()> {
    while read.len() < count {
        more(stream, read).await?;
    }
    Ok(())
}

async fn more(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            read.extend_from_slice(&piece[..count]);
            Ok(())
        }
    }
}
