//! Opening a connection: TCP or a Unix socket, then TLS where the pool asks for it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Error;
use super::delegate::delegate_io;
use super::send::poll_send;
use crate::state::pool::{Protocol, UpstreamSettings, UpstreamTls};
use crate::state::tls::ALPN_H2;
use crate::state::{Address, Backend, Files, OpenFile};

/// A connection to a backend before HTTP is spoken on it.
#[derive(Debug)]
pub enum UpstreamStream {
    /// Plain text.
    Plain(Socket),
    /// TLS.
    Tls(Box<TlsStream<Socket>>),
}

/// A socket that is connected to a backend.
///
/// A backend may answer before it has read the whole request and then close, which makes our next
/// write fail while its answer waits to be read. So a failed write is not reported: what follows is
/// thrown away, and the next read brings the answer, or the error if there is none. The kernel tells of
/// a reset once: if that was to a write, it is here that the read behind the answer learns of it.
#[derive(Debug)]
pub struct Socket {
    kind: SocketKind,
    deaf: bool,
    reset: bool,
    /// Absent for probes, which have files of their own.
    _file: Option<OpenFile>,
}

#[derive(Debug)]
enum SocketKind {
    Tcp(TcpStream),
    Unix(UnixStream),
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
    files: &Arc<Files>,
) -> Result<Dialled, Error> {
    let file = files.for_backend().ok_or(Error::OutOfFiles)?;
    let resolved = backend.resolved.load().as_deref().copied();
    let connecting = open(&backend.address, resolved, settings, http1_only, Some(file));
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
    open(address, resolved, settings, http1_only, None).await
}

async fn open(
    address: &Address,
    resolved: Option<SocketAddr>,
    settings: &UpstreamSettings,
    http1_only: bool,
    file: Option<OpenFile>,
) -> Result<Dialled, Error> {
    let kind = match address {
        Address::Unix(path) => {
            SocketKind::Unix(UnixStream::connect(path).await.map_err(Error::Connect)?)
        }
        Address::Ip(_) | Address::Name { .. } => {
            let resolved = resolved.ok_or(Error::Unresolved)?;
            let tcp = TcpStream::connect(resolved).await.map_err(Error::Connect)?;
            // Without it a request of several writes waits for the backend's delayed
            // acknowledgement.
            tcp.set_nodelay(true).map_err(Error::Connect)?;
            SocketKind::Tcp(tcp)
        }
    };
    let socket = Socket { kind, deaf: false, reset: false, _file: file };
    let Some(tls) = &settings.tls else {
        let h2 = !http1_only && settings.protocol == Protocol::H2;
        return Ok(Dialled { stream: UpstreamStream::Plain(socket), h2 });
    };
    let stream = handshake(tls, address, socket, http1_only).await?;
    let h2 = match stream.get_ref().1.alpn_protocol() {
        Some(protocol) => protocol == ALPN_H2,
        // The backend knows nothing of ALPN: it speaks what the pool says that it speaks.
        None => !http1_only && settings.protocol == Protocol::H2,
    };
    Ok(Dialled { stream: UpstreamStream::Tls(Box::new(stream)), h2 })
}

async fn handshake(
    tls: &UpstreamTls,
    address: &Address,
    socket: Socket,
    http1_only: bool,
) -> Result<TlsStream<Socket>, Error> {
    let tls = if http1_only { &tls.http1 } else { &tls.any };
    let name = tls
        .server_name_for(&address.host())
        .map_err(|error| Error::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    TlsConnector::from(Arc::clone(&tls.config)).connect(name, socket).await.map_err(Error::Tls)
}

impl UpstreamStream {
    /// Waits until a read is worth its buffer. Over TLS only the read itself can tell.
    ///
    /// # Errors
    /// What the reactor says.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            UpstreamStream::Plain(Socket { kind: SocketKind::Tcp(tcp), .. }) => {
                tcp.poll_read_ready(cx)
            }
            UpstreamStream::Plain(Socket { kind: SocketKind::Unix(unix), .. }) => {
                unix.poll_read_ready(cx)
            }
            UpstreamStream::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the reactor has told of nothing to be read, the end included. Over TLS only a read can
    /// tell.
    pub(super) fn is_silent(&self) -> bool {
        match self {
            UpstreamStream::Plain(Socket { kind: SocketKind::Tcp(tcp), .. }) => {
                tcp.try_io(Interest::READABLE, || Ok(())).is_err()
            }
            UpstreamStream::Plain(Socket { kind: SocketKind::Unix(unix), .. }) => {
                unix.try_io(Interest::READABLE, || Ok(())).is_err()
            }
            UpstreamStream::Tls(_) => false,
        }
    }

    /// Whether a write has failed, so that what is written goes nowhere: see [`Socket`].
    pub fn is_deaf(&self) -> bool {
        match self {
            UpstreamStream::Plain(socket) => socket.deaf,
            UpstreamStream::Tls(stream) => stream.get_ref().0.deaf,
        }
    }
}

impl Socket {
    /// What becomes of a write: see [`Socket`].
    fn written(
        &mut self,
        length: usize,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = result {
            self.deaf = true;
            self.reset |= error.kind() == io::ErrorKind::ConnectionReset;
            return Poll::Ready(Ok(length));
        }
        result
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buf.remaining();
        ready!(Pin::new(&mut this.kind).poll_read(cx, buf))?;
        match buf.remaining() == room && room > 0 && this.reset {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = match &mut this.kind {
            SocketKind::Tcp(tcp) => poll_send(tcp, cx, bytes, SendFlags::empty()),
            SocketKind::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        };
        this.written(bytes.len(), result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        if this.deaf {
            return Poll::Ready(Ok(length));
        }
        let result = Pin::new(&mut this.kind).poll_write_vectored(cx, slices);
        this.written(length, result)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have nothing of their own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().kind).poll_shutdown(cx)
    }
}

delegate_io!(UpstreamStream { Plain, Tls });
delegate_io!(SocketKind { Tcp, Unix });

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use socket2::SockRef;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A socket, and the backend's end of it.
    async fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (backend, _) = listener.accept().await.unwrap();
        let kind = SocketKind::Tcp(tcp);
        (Socket { kind, deaf: false, reset: false, _file: None }, backend)
    }

    /// Writes until that fails.
    async fn write_in_vain(socket: &mut Socket) {
        while !socket.deaf {
            poll_fn(|cx| Pin::new(&mut *socket).poll_write(cx, b"more")).await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_reset_that_a_write_was_told_of_ends_what_is_read() {
        let (mut socket, backend) = connected().await;
        backend.try_write(b"answer").unwrap();
        SockRef::from(&backend).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(backend);
        write_in_vain(&mut socket).await;
        let mut read = Vec::new();
        let end = socket.read_to_end(&mut read).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(read, b"answer");
    }

    #[tokio::test]
    async fn who_has_closed_before_has_ended_what_is_read() {
        let (mut socket, backend) = connected().await;
        backend.try_write(b"answer").unwrap();
        drop(backend);
        // The end comes ahead of the reset that answers what is written behind it.
        socket.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!(socket.read(&mut [0; 6]).await.unwrap(), 0);
        write_in_vain(&mut socket).await;
        assert_eq!(socket.read(&mut [0; 6]).await.unwrap(), 0);
    }
}
