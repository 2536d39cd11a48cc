//! One HTTP/1.1 connection to a backend.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::dial::UpstreamStream;
use super::error::classify;
use super::{Error, Failed};
use crate::state::{Backend, WorkerId};

/// The sending end of an HTTP/1.1 connection whose driver runs as a task of the worker.
#[derive(Debug)]
pub struct Http1<B> {
    sender: http1::SendRequest<B>,
    driver: AbortHandle,
    used: bool,
}

/// A connection that the backend switched to another protocol.
#[derive(Debug)]
pub struct Upgraded {
    /// The raw connection.
    pub stream: UpstreamStream,
    /// Bytes that arrived right behind the 101.
    pub early: Bytes,
}

impl<B> Http1<B>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Speaks HTTP/1.1 on a fresh connection.
    pub async fn open(
        stream: UpstreamStream,
        backend: &Arc<Backend>,
        worker: WorkerId,
    ) -> Result<Self, Error> {
        let (sender, connection) =
            builder().handshake(TokioIo::new(stream)).await.map_err(Error::Reset)?;
        let gauge = ConnectionGauge::open(Arc::clone(backend), worker);
        let driver = tokio::task::spawn_local(async move {
            let _gauge = gauge;
            // Its failure reaches the request that is on the connection; between requests there
            // is nobody to tell.
            let _ = connection.await;
        })
        .abort_handle();
        Ok(Http1 { sender, driver, used: false })
    }

    /// Whether it has served a request before.
    pub fn reused(&self) -> bool {
        self.used
    }

    /// Whether a request can be sent at once.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether the backend has closed it.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and waits for the response head. Dropping the future closes the connection.
    pub async fn send(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, Box<Failed<Request<B>>>> {
        let reused = std::mem::replace(&mut self.used, true);
        match self.sender.try_send_request(request).await {
            Ok(response) if response.status().is_informational() => {
                // A 101 that nobody asked for (RFC 9110 section 15.2.2): what follows on the
                // connection is not HTTP.
                let error = Error::Malformed(format!("unexpected {}", response.status()));
                Err(Box::new(Failed { error, request: None }))
            }
            Ok(response) => Ok(response),
            Err(mut failure) => {
                let request = failure.take_message();
                Err(Box::new(Failed { error: classify(failure.into_error(), reused), request }))
            }
        }
    }
}

impl<B> Http1<B> {
    /// Closes it now, whatever its driver is doing.
    pub fn abort(self) {
        self.driver.abort();
    }
}

/// What became of a request to switch protocols.
#[derive(Debug)]
pub enum UpgradeOutcome {
    /// The backend switched.
    Switched(Response<()>, Upgraded),
    /// The backend answered something else.
    Declined(Response<Incoming>),
}

/// Asks the backend to switch protocols, on a connection of its own.
pub async fn upgrade<B>(
    stream: UpstreamStream,
    request: Request<B>,
    backend: &Arc<Backend>,
    worker: WorkerId,
) -> Result<(UpgradeOutcome, ConnectionGauge), Error>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, mut connection) =
        builder().handshake(TokioIo::new(stream)).await.map_err(Error::Reset)?;
    let gauge = ConnectionGauge::open(Arc::clone(backend), worker);
    let mut sending = std::pin::pin!(sender.try_send_request(request));
    let mut ended = false;
    let response = std::future::poll_fn(|cx| {
        if !ended && let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            ended = true;
            if let Err(error) = result {
                return Poll::Ready(Err(classify(error, false)));
            }
        }
        sending.as_mut().poll(cx).map_err(|failure| classify(failure.into_error(), false))
    })
    .await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let watch = gauge.clone();
        if !ended {
            tokio::task::spawn_local(async move {
                let _gauge = watch;
                let _ = connection.await;
            });
        }
        return Ok((UpgradeOutcome::Declined(response), gauge));
    }
    if !ended {
        // The connection ends by itself right after the 101.
        std::future::poll_fn(|cx| Pin::new(&mut connection).poll(cx))
            .await
            .map_err(|error| classify(error, false))?;
    }
    let parts = connection.into_parts();
    let upgraded = Upgraded { stream: parts.io.into_inner(), early: parts.read_buf };
    Ok((UpgradeOutcome::Switched(response.map(drop), upgraded), gauge))
}

/// The largest read, and so the largest head. hyper would read up to 400 KiB at once, and several
/// such pieces wait in memory for every client that is slower than its backend.
const BUFFER_BYTES: usize = 64 * 1024;

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_headers(256).max_buf_size(BUFFER_BYTES);
    builder
}

/// Counts a connection as open for as long as any clone of it lives.
#[derive(Clone, Debug)]
pub struct ConnectionGauge {
    _counted: Rc<Counted>,
}

#[derive(Debug)]
struct Counted {
    backend: Arc<Backend>,
    worker: WorkerId,
}

impl ConnectionGauge {
    /// Counts one more connection.
    pub fn open(backend: Arc<Backend>, worker: WorkerId) -> Self {
        backend.cells.cell(worker).connects.add(1);
        ConnectionGauge { _counted: Rc::new(Counted { backend, worker }) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.backend.cells.cell(self.worker).closes.add(1);
    }
}
