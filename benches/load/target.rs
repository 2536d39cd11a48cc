//! Where the load goes, and how connections to it are opened.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::AlertDescription;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tidegate::state::tls::{ClientTls, Trust, system_authorities};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::LoadError;
use crate::arguments::Arguments;
use crate::measured::{Failed, Failure};

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1, keep-alive.
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    #[value(name = "h2")]
    Http2,
    /// WebSocket messages that an echo sends back.
    Websocket,
}

/// Any connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A WebSocket.
pub type WebSocket = WebSocketStream<Box<dyn Stream>>;

/// One thing to load.
pub struct Target {
    /// What is spoken.
    pub protocol: Protocol,
    /// Bytes of a WebSocket message.
    pub message_bytes: usize,
    uri: Uri,
    headers: HeaderMap,
    upload: Bytes,
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    /// What the user named.
    pub fn of_url(url: &str, arguments: &Arguments) -> Result<Self, LoadError> {
        let uri = parse(url)?;
        let trust = match uri.scheme_str() {
            Some("https" | "wss") if !arguments.insecure => {
                let authorities = system_authorities().map_err(|error| refuse(url, &error))?;
                Trust::Authorities(authorities)
            }
            // Without TLS nobody is asked.
            _ => Trust::Anyone,
        };
        let is_websocket = matches!(uri.scheme_str(), Some("ws" | "wss"));
        let usual = if is_websocket { Protocol::Websocket } else { Protocol::Http1 };
        let protocol = arguments.protocol.unwrap_or(usual);
        if is_websocket && protocol != Protocol::Websocket {
            return Err(refuse(
                url,
                &"give http:// or https:// where no WebSocket is to be spoken",
            ));
        }
        if protocol != Protocol::Websocket && arguments.size.is_some() {
            return Err(refuse(
                url,
                &"it answers as it likes: --size is for messages of a WebSocket",
            ));
        }
        protocol.check(arguments)?;
        Self::new(url, protocol, trust, arguments)
    }

    /// A target at `url`, whose scheme says whether there is TLS.
    pub fn new(
        url: &str,
        protocol: Protocol,
        trust: Trust,
        arguments: &Arguments,
    ) -> Result<Self, LoadError> {
        let uri = parse(url)?;
        let secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(refuse(url, &"give http://, https://, ws:// or wss://")),
        };
        let Some(authority) = uri.authority() else { return Err(refuse(url, &"give a host")) };
        if authority.as_str().contains('@') {
            return Err(refuse(url, &"give a password as -H 'Authorization: Basic ...'"));
        }
        let has_port = !authority.as_str().ends_with(authority.host());
        if has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(refuse(url, &"give a port from 1 to 65535"));
        }
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses: Vec<SocketAddr> = std::net::ToSocketAddrs::to_socket_addrs(&(host, port))
            .map_err(|error| refuse(url, &error))?
            .collect();
        let address = choose(&addresses).ok_or_else(|| refuse(url, &"its host has no address"))?;
        let alpn: &[u8] = if protocol == Protocol::Http2 { b"h2" } else { b"http/1.1" };
        let tls = if secure {
            let tls = ClientTls::new(None, trust, &[alpn]).map_err(|error| refuse(url, &error))?;
            let name = tls.server_name_for(host).map_err(|error| refuse(url, &error))?;
            let mut config = rustls::ClientConfig::clone(&tls.config);
            if arguments.disable_resumption {
                config.resumption = Resumption::disabled();
            }
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        let mut headers = headers(&uri, &arguments.headers)?;
        let uri = match protocol {
            Protocol::Http2 => with_authority(uri, headers.remove(HOST))?,
            Protocol::Http1 | Protocol::Websocket => uri,
        };
        if protocol == Protocol::Http1 && !arguments.keepalive() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let upload = Bytes::from(vec![b'x'; arguments.upload]);
        Ok(Self { protocol, message_bytes: arguments.size(), uri, headers, upload, address, tls })
    }

    /// For people.
    pub fn name(&self) -> String {
        let tls = if self.tls.is_some() { " over TLS" } else { "" };
        format!("{}{tls}", self.protocol)
    }

    /// The next request; it is always the same.
    pub fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.upload.clone()));
        if !self.upload.is_empty() {
            *request.method_mut() = Method::POST;
        }
        *request.headers_mut() = self.headers.clone();
        *request.uri_mut() = match self.protocol {
            Protocol::Http2 => self.uri.clone(),
            _ => self.uri.path_and_query().map_or_else(Uri::default, |path| path.clone().into()),
        };
        request
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Failed> {
        let tcp = TcpStream::connect(self.address).await.map_err(|error| no_connection(&error))?;
        let _ = tcp.set_nodelay(true);
        let Some((connector, name)) = &self.tls else { return Ok(Box::new(tcp)) };
        let http2 = self.protocol == Protocol::Http2;
        let connected = connector.connect(name.clone(), tcp).await;
        let tls = connected.map_err(|error| no_tls(&error, http2))?;
        if http2 && tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            let why = "the other side does not offer it in the TLS handshake (ALPN)".to_owned();
            return Err(Failed { kind: Failure::NoHttp2, why });
        }
        Ok(Box::new(tls))
    }

    /// An HTTP/1.1 connection.
    pub async fn http1(&self) -> Result<http1::SendRequest<Full<Bytes>>, Failed> {
        let io = TokioIo::new(self.connect().await?);
        let (sender, connection) =
            http1::handshake(io).await.map_err(|error| no_handshake(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// An HTTP/2 connection.
    pub async fn http2(&self) -> Result<http2::SendRequest<Full<Bytes>>, Failed> {
        let io = TokioIo::new(self.connect().await?);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .handshake(io)
            .await
            .map_err(|error| no_handshake(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// An open WebSocket.
    pub async fn websocket(&self) -> Result<WebSocket, Failed> {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = format!("{scheme}://{authority}{path}")
            .into_client_request()
            .map_err(|error| no_handshake(&error))?;
        request.headers_mut().extend(self.headers.clone());
        let stream = self.connect().await?;
        let opened = tokio_tungstenite::client_async(request, stream).await;
        opened.map(|(socket, _)| socket).map_err(|error| no_websocket(&error))
    }
}

/// The fields of every request.
fn headers(uri: &Uri, given: &[String]) -> Result<HeaderMap, LoadError> {
    let mut headers = HeaderMap::new();
    if let Some(authority) = uri.authority() {
        let host = HeaderValue::from_str(authority.as_str());
        headers.insert(HOST, host.map_err(|error| refuse(authority.as_str(), &error))?);
    }
    for field in given {
        let (name, value) =
            field.split_once(':').ok_or_else(|| refuse(field, &"write it as 'Name: value'"))?;
        let name: HeaderName = name.trim().parse().map_err(|error| refuse(field, &error))?;
        let value: HeaderValue = value.trim().parse().map_err(|error| refuse(field, &error))?;
        if name == HOST {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// HTTP/2 has the host in the request line, so to say (RFC 9113 section 8.3.1).
fn with_authority(uri: Uri, host: Option<HeaderValue>) -> Result<Uri, LoadError> {
    let Some(host) = host else { return Ok(uri) };
    let refused = |error: &dyn fmt::Display| refuse(&format!("Host: {host:?}"), error);
    let mut parts = uri.into_parts();
    parts.authority = Some(host.as_bytes().try_into().map_err(|error| refused(&error))?);
    Uri::from_parts(parts).map_err(|error| refused(&error))
}

fn no_connection(error: &std::io::Error) -> Failed {
    let files = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) if files.contains(&errno) => Failure::OpenFiles.into(),
        _ => Failed::new(Failure::Connect, error),
    }
}

fn no_tls(error: &std::io::Error, http2: bool) -> Failed {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let kind = match reason {
        Some(rustls::Error::InvalidCertificate(_)) => Failure::Certificate,
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) if http2 => {
            Failure::NoHttp2
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            let why = format!("the other side speaks something else ({error})");
            return Failed { kind: Failure::Tls, why };
        }
        _ => Failure::Tls,
    };
    Failed::new(kind, error)
}

fn no_handshake(error: &dyn std::error::Error) -> Failed {
    Failed::new(Failure::Handshake, error)
}

fn no_websocket(error: &tungstenite::Error) -> Failed {
    match error {
        tungstenite::Error::Http(answer) => Failed {
            kind: Failure::Refused(answer.status().as_u16()),
            why: "the answer to the opening of a WebSocket".to_owned(),
        },
        _ => no_handshake(error),
    }
}

fn parse(url: &str) -> Result<Uri, LoadError> {
    if url.trim().is_empty() {
        let why = "it is empty: give one such as http://localhost, or leave it out".to_owned();
        return Err(LoadError::Setup("no URL", why));
    }
    if !url.contains(":/") {
        let host = if url.starts_with('/') { "localhost" } else { "" };
        return Err(refuse(url, &format_args!("that is no URL: give http://{host}{url}")));
    }
    url.parse().map_err(|error| {
        refuse(url, &format_args!("that is no URL, such as http://localhost/ ({error})"))
    })
}

fn refuse(what: &str, reason: &dyn fmt::Display) -> LoadError {
    LoadError::Url { url: what.to_owned(), reason: reason.to_string() }
}

impl Protocol {
    /// Refuses what means nothing to those who speak this only.
    pub fn check(self, arguments: &Arguments) -> Result<(), LoadError> {
        if self == Protocol::Websocket && (arguments.upload > 0 || arguments.chunked) {
            let why =
                "it has messages of --size bytes: leave --upload and --chunked out".to_owned();
            return Err(LoadError::Setup("no load of WebSockets", why));
        }
        Ok(())
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Websocket => "WebSocket",
        })
    }
}

/// The first address at which somebody accepts connections, or else the first: `localhost` is often
/// `::1` before it is 127.0.0.1, and a server may listen on one of them only.
fn choose(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let accepts = |address: &&SocketAddr| {
        std::net::TcpStream::connect_timeout(address, Duration::from_secs(1)).is_ok()
    };
    let several = addresses.len() > 1;
    addresses.iter().find(|address| several && accepts(address)).or(addresses.first()).copied()
}
