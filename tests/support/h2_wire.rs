//! HTTP/2 as bytes: a client that sends whatever frames and fields it is told, right or wrong.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::wire::Stream;
use super::{in_time, tls};

/// Frame types and flags (RFC 9113 section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const WITH_PRIORITY: u8 = 0x20;
/// A request without a body, in one frame.
pub const WHOLE: u8 = END_HEADERS | END_STREAM;

/// The client's first bytes (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS_HEADER_TABLE_SIZE of zero, so that every header block can be read by itself.
pub const NO_TABLE: [u8; 6] = [0, 1, 0, 0, 0, 0];

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Status(u16),
    /// It was reset with this code.
    Reset(u32),
    /// The connection was, with this code.
    GoAway(u32),
    /// The connection was closed without a word.
    Closed,
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A name or a value.
pub type Text<'a> = &'a [u8];

/// Fields as literals that are neither indexed nor compressed (RFC 7541 section 6.2.2).
pub fn block(fields: &[(Text<'_>, Text<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name);
        text(&mut bytes, value);
    }
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        bytes.push(text.len() as u8);
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text);
}

/// The pseudo-header fields of a GET for `https://localhost`.
pub fn get(path: &str) -> Vec<(&[u8], &[u8])> {
    request(b"GET", path.as_bytes())
}

/// The pseudo-header fields of a request for `https://localhost`.
pub fn request<'a>(method: &'a [u8], path: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    vec![
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", path),
    ]
}

/// A whole GET.
pub fn ask(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, block(&get(path)))
}

/// A connection.
pub struct H2Wire {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

impl H2Wire {
    /// Connects over TLS and exchanges settings.
    pub async fn connect(address: SocketAddr) -> H2Wire {
        H2Wire::connect_with(address, &NO_TABLE).await
    }

    /// Connects over TLS and exchanges these settings.
    pub async fn connect_with(address: SocketAddr, settings: &[u8]) -> H2Wire {
        let mut wire = H2Wire::silent(address).await;
        wire.greet(settings).await;
        wire
    }

    /// Connects over TLS and says nothing.
    pub async fn silent(address: SocketAddr) -> H2Wire {
        let tcp = in_time("connecting", TcpStream::connect(address)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let connector = TlsConnector::from(tls::client(&[b"h2"]));
        let name = "localhost".try_into().unwrap();
        let stream = in_time("a handshake", connector.connect(name, tcp)).await.unwrap();
        H2Wire::over(stream)
    }

    /// Connects in plain text and says nothing.
    pub async fn plain(address: SocketAddr) -> H2Wire {
        let tcp = in_time("connecting", TcpStream::connect(address)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        H2Wire::over(tcp)
    }

    /// Speaks over any stream.
    pub fn over(stream: impl Stream + 'static) -> H2Wire {
        H2Wire { stream: Box::new(stream), read: Vec::new() }
    }

    /// Exchanges settings.
    pub async fn greet(&mut self, settings: &[u8]) {
        self.send([PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await;
        while self.next().await.expect("settings").kind != SETTINGS {}
        self.send(frame(SETTINGS, ACK, 0, [])).await;
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends bytes to a peer that may have closed already.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        in_time("sending", self.stream.write_all(bytes.as_ref())).await?;
        in_time("flushing", self.stream.flush()).await
    }

    /// The next frame; none if the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            let mut piece = [0; 16 * 1024];
            match in_time("a frame", self.stream.read(&mut piece)).await {
                Ok(count) if count > 0 => self.read.extend_from_slice(&piece[..count]),
                _ => return None,
            }
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let [a, b, c, kind, flags, s, t, u, v] = *self.read.first_chunk::<9>()?;
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = self.read.get(9..end)?.to_vec();
        self.read.drain(..end);
        let stream = u32::from_be_bytes([s, t, u, v]) & 0x7fff_ffff;
        Some(Frame { kind, flags, stream, payload })
    }

    /// The connection, for whoever reads no frames.
    pub fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    /// What becomes of a stream; or of the connection, if that comes first.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        while let Some(frame) = self.next().await {
            let code = |at: usize| {
                let bytes = frame.payload.get(at..).and_then(|rest| rest.first_chunk());
                bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
            };
            match frame.kind {
                HEADERS if frame.stream == stream => {
                    return Outcome::Status(status_of(&frame.payload));
                }
                RST_STREAM if frame.stream == stream => return Outcome::Reset(code(0)),
                GOAWAY if code(4) != 0 => return Outcome::GoAway(code(4)),
                _ => {}
            }
        }
        Outcome::Closed
    }

    /// Reads to the end of the connection; gives the code of the last GOAWAY, if there was one.
    pub async fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = frame.payload.get(4..).and_then(|rest| rest.first_chunk()).copied();
            }
        }
        code.map(u32::from_be_bytes)
    }
}

/// The status in a block that needs no table: `:status` comes first.
fn status_of(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let block = match block {
        // Size updates.
        [update, rest @ ..] if update & 0xe0 == 0x20 => rest,
        block => block,
    };
    match block {
        [index @ 0x88..=0x8e, ..] => INDEXED[usize::from(index - 0x88)],
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            digits.iter().take(3).fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
        }
        [0x08 | 0x18 | 0x48, 0x82 | 0x83, a, b, rest @ ..] => {
            let c = rest.first().copied().unwrap_or_default();
            huffman_digits(u32::from_be_bytes([*a, *b, c, 0]))
        }
        other => panic!("no status in {other:02x?}"),
    }
}

/// Three digits in the code of RFC 7541 appendix B: 0 to 2 take five bits, the others six.
fn huffman_digits(mut bits: u32) -> u16 {
    (0..3).fold(0, |status, _| {
        let (digit, length) = match bits >> 27 {
            short @ 0..=2 => (short, 5),
            _ => ((bits >> 26) - 0x16, 6),
        };
        bits <<= length;
        status * 10 + digit as u16
    })
}
