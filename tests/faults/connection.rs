//! How clients reach the proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::backend::NAME_FIELD;
use crate::support::wire::{Message, Stream, read_message};

/// After this a client gives a request up.
const PATIENCE: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Where to connect to, and by TLS or not.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Target {
        Target { address, tls: None }
    }
}

impl Target {
    /// Connects.
    pub async fn stream(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?))
    }
}

/// A connection that is kept, or none.
#[derive(Default)]
pub struct Connection(Option<(Box<dyn Stream>, Vec<u8>)>);

impl Connection {
    /// Whether the next request needs no other.
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Asks once, and connects before if need be. Gives the name of the replica that answered 200,
    /// or what went wrong; after a failure the next request has a connection of its own.
    pub async fn ask(&mut self, target: &Target) -> Result<String, String> {
        let answer = timeout(PATIENCE, self.exchange(target)).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in 10 s".to_owned()));
        if answer.as_ref().map_or(true, |answer| answer.field("connection") == Some("close")) {
            self.0 = None;
        }
        let answer = answer?;
        match answer.status() {
            200 => Ok(answer.field(NAME_FIELD).unwrap_or_default().to_owned()),
            status => Err(status.to_string()),
        }
    }

    async fn exchange(&mut self, target: &Target) -> Result<Message, String> {
        let (stream, read) = match &mut self.0 {
            Some(open) => open,
            none => {
                let opened = target.stream().await;
                none.insert((opened.map_err(|error| format!("connecting: {error}"))?, Vec::new()))
            }
        };
        stream.write_all(REQUEST).await.map_err(|error| format!("asking: {error}"))?;
        stream.flush().await.map_err(|error| format!("asking: {error}"))?;
        read_message(stream, read, false).await.map_err(|error| format!("the answer: {error}"))
    }
}
