//! Opening a connection: TCP or a Unix socket, then TLS where the pool asks for it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Error;
use crate::state::pool::{Protocol, UpstreamSettings, UpstreamTls};
use crate::state::{Address, Backend};

/// A connection to a backend before HTTP is spoken on it.
#[derive(Debug)]
pub enum UpstreamStream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    TcpTls(Box<TlsStream<TcpStream>>),
    /// TLS over a Unix socket.
    UnixTls(Box<TlsStream<UnixStream>>),
}

/// A connection and the HTTP version to speak on it.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: UpstreamStream,
    /// HTTP/2 rather than HTTP/1.1.
    pub h2: bool,
}

/// Opens a connection within the pool's connect timeout.
///
/// With `http1_only` HTTP/2 is not offered: tunnels need a connection of their own.
///
/// # Errors
/// Any of the connecting kinds of [`Error`]; nothing was sent.
pub async fn dial(
    backend: &Backend,
    settings: &UpstreamSettings,
    http1_only: bool,
) -> Result<Dialled, Error> {
    let resolved = backend.resolved.load().as_deref().copied();
    let connecting = connect(&backend.address, resolved, settings, http1_only);
    match tokio::time::timeout(settings.connect_timeout, connecting).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Error::ConnectTimeout),
    }
}

/// Opens a connection, however long it takes. `resolved` is where `address` is on the network; for
/// Unix sockets it is not used.
///
/// # Errors
/// As [`dial`], without the timeout.
pub async fn connect(
    address: &Address,
    resolved: Option<SocketAddr>,
    settings: &UpstreamSettings,
    http1_only: bool,
) -> Result<Dialled, Error> {
    let wants_h2 = !http1_only && settings.protocol == Protocol::H2;
    if let Address::Unix(path) = address {
        let unix = UnixStream::connect(path).await.map_err(Error::Connect)?;
        let Some(tls) = &settings.tls else {
            return Ok(Dialled { stream: UpstreamStream::Unix(unix), h2: wants_h2 });
        };
        let tls = handshake(tls, address, unix, http1_only).await?;
        let h2 = settled_on_h2(&tls);
        return Ok(Dialled { stream: UpstreamStream::UnixTls(Box::new(tls)), h2 });
    }
    let socket_address = resolved.ok_or(Error::Unresolved)?;
    let tcp = TcpStream::connect(socket_address).await.map_err(Error::Connect)?;
    // Without it a request of several writes waits for the backend's delayed acknowledgement.
    tcp.set_nodelay(true).map_err(Error::Connect)?;
    let Some(tls) = &settings.tls else {
        return Ok(Dialled { stream: UpstreamStream::Tcp(tcp), h2: wants_h2 });
    };
    let tls = handshake(tls, address, tcp, http1_only).await?;
    let h2 = settled_on_h2(&tls);
    Ok(Dialled { stream: UpstreamStream::TcpTls(Box::new(tls)), h2 })
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &UpstreamTls,
    address: &Address,
    stream: S,
    http1_only: bool,
) -> Result<TlsStream<S>, Error> {
    let tls = if http1_only { &tls.http1 } else { &tls.any };
    let name = tls
        .server_name_for(&address.host())
        .map_err(|error| Error::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    TlsConnector::from(Arc::clone(&tls.config)).connect(name, stream).await.map_err(Error::Tls)
}

fn settled_on_h2<S>(tls: &TlsStream<S>) -> bool {
    tls.get_ref().1.alpn_protocol() == Some(b"h2")
}

macro_rules! on_stream {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            UpstreamStream::Tcp($stream) => $call,
            UpstreamStream::Unix($stream) => $call,
            UpstreamStream::TcpTls($stream) => $call,
            UpstreamStream::UnixTls($stream) => $call,
        }
    };
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            UpstreamStream::Tcp(stream) => stream.is_write_vectored(),
            UpstreamStream::Unix(stream) => stream.is_write_vectored(),
            UpstreamStream::TcpTls(stream) => stream.is_write_vectored(),
            UpstreamStream::UnixTls(stream) => stream.is_write_vectored(),
        }
    }
}
