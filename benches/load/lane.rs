//! One request after another: over a connection of one's own, or beside others on one of HTTP/2.

use std::error::Error as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Response;
use http::header::LOCATION;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::Message;

use crate::measured::{Answer, Failed, Failure};
use crate::target::{Protocol, Target, WebSocket};

/// An HTTP/2 connection that several lanes use; opened by whoever finds it missing.
pub type Shared = Arc<Mutex<Option<http2::SendRequest<Full<Bytes>>>>>;

/// Asks one request at a time. What it asks over is opened at the first one, and anew after a
/// failure.
pub enum Lane {
    /// A connection of its own.
    Http1(Option<http1::SendRequest<Full<Bytes>>>),
    /// A stream at a time on a connection that others use as well.
    Http2(Shared),
    /// A WebSocket of its own.
    Websocket(Option<Box<WebSocket>>),
}

impl Lane {
    /// The lanes of one connection.
    pub fn of_connection(protocol: Protocol, streams: u32) -> Vec<Self> {
        match protocol {
            Protocol::Http1 => vec![Self::Http1(None)],
            Protocol::Websocket => vec![Self::Websocket(None)],
            Protocol::Http2 => {
                let shared = Shared::default();
                (0..streams).map(|_| Self::Http2(Arc::clone(&shared))).collect()
            }
        }
    }

    /// One request and its whole answer.
    pub async fn exchange(&mut self, target: &Target) -> Result<Answer, Failed> {
        let answer = match self {
            Self::Http1(sender) => ask_http1(sender, target).await,
            Self::Http2(shared) => ask_http2(shared, target).await,
            Self::Websocket(socket) => echo(socket, target).await,
        };
        if matches!(&answer, Err(failed) if failed.kind.ends_the_connection()) {
            self.let_go();
        }
        answer
    }

    /// Opens anew at the next request. An HTTP/2 connection is left to its other lanes, unless it
    /// has ended.
    pub fn let_go(&mut self) {
        match self {
            Self::Http1(sender) => *sender = None,
            Self::Websocket(socket) => *socket = None,
            Self::Http2(_) => {}
        }
    }

    /// Ends the connection, which no other lane uses.
    pub async fn close(&mut self) {
        if let Self::Websocket(Some(socket)) = self {
            // The other side may have closed it.
            let _ = socket.close().await;
        }
        if let Self::Http2(shared) = self {
            *shared.lock().await = None;
        }
        self.let_go();
    }
}

async fn ask_http1(
    slot: &mut Option<http1::SendRequest<Full<Bytes>>>,
    target: &Target,
) -> Result<Answer, Failed> {
    // The other side may close a connection between two requests; that is no failure where we see
    // it before we ask.
    if let Some(sender) = slot
        && sender.ready().await.is_err()
    {
        *slot = None;
    }
    let sender = match slot {
        Some(sender) => sender,
        None => slot.insert(target.http1().await?),
    };
    let response = sender.send_request(target.request()).await.map_err(failed)?;
    read(response).await
}

async fn ask_http2(shared: &Shared, target: &Target) -> Result<Answer, Failed> {
    let mut sender = {
        let mut slot = shared.lock().await;
        match &*slot {
            Some(sender) if !sender.is_closed() => sender.clone(),
            _ => slot.insert(target.http2().await?).clone(),
        }
    };
    sender.ready().await.map_err(|error| Failed::new(Failure::Closed, &error))?;
    let response = sender.send_request(target.request()).await.map_err(failed)?;
    read(response).await
}

/// What an answer that did not come has failed with.
fn failed(error: hyper::Error) -> Failed {
    let http2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    // Under HTTP/2 it is our side that complains of what it cannot read.
    let malformed =
        error.is_parse() || http2.is_some_and(|error| error.is_go_away() && error.is_library());
    let kind = if malformed { Failure::Malformed } else { Failure::Closed };
    Failed::new(kind, &error)
}

async fn read(response: Response<Incoming>) -> Result<Answer, Failed> {
    let status = response.status();
    let location = response.headers().get(LOCATION).filter(|_| status.is_redirection()).cloned();
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(failed)?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    if status.is_client_error() || status.is_server_error() {
        return Err(Failure::Status(status.as_u16()).into());
    }
    Ok(Answer { bytes, status: Some(status), location })
}

async fn echo(slot: &mut Option<Box<WebSocket>>, target: &Target) -> Result<Answer, Failed> {
    let socket = match slot {
        Some(socket) => socket,
        None => slot.insert(Box::new(target.websocket().await?)),
    };
    let sent = Bytes::from(vec![b'x'; target.message_bytes]);
    let closed = |error| Failed::new(Failure::Closed, &error);
    socket.send(Message::Binary(sent.clone())).await.map_err(closed)?;
    loop {
        match socket.next().await {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(got))) if got == sent => {
                return Ok(Answer { bytes: got.len() as u64, status: None, location: None });
            }
            Some(Err(error)) => return Err(closed(error)),
            Some(Ok(Message::Close(_))) | None => return Err(Failure::Closed.into()),
            Some(Ok(_)) => return Err(Failure::Wrong.into()),
        }
    }
}
