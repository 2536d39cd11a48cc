//! One HTTP/1.1 connection to a backend.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::dial::UpstreamStream;
use super::framing::Asked;
use super::io::{Http1Io, LIMITS, Watch};
use super::{Error, Failed};
use crate::framing::Violation;
use crate::state::{Backend, WorkerId};

/// The sending end of an HTTP/1.1 connection whose driver runs as a task of the worker.
#[derive(Debug)]
pub struct Http1<B> {
    sender: http1::SendRequest<B>,
    driver: AbortHandle,
    watch: Rc<Watch>,
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
        let watch = Rc::new(Watch::new(Arc::clone(backend), worker));
        let io = TokioIo::new(Http1Io::new(stream, Rc::clone(&watch)));
        let (sender, connection) = builder().handshake(io).await.map_err(Error::Reset)?;
        let gauge = ConnectionGauge::open(Arc::clone(backend), worker);
        let driver = tokio::task::spawn_local(async move {
            let _gauge = gauge;
            // Its failure reaches the request that is on the connection; between requests there
            // is nobody to tell.
            let _ = connection.await;
        })
        .abort_handle();
        Ok(Http1 { sender, driver, watch, used: false })
    }

    /// Whether it has served a request before.
    pub fn reused(&self) -> bool {
        self.used
    }

    /// Whether a request can be sent at once.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether no further request can be sent on it: the backend has closed it, or has sent what
    /// belongs to no answer.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.watch.is_over()
    }

    /// Sends a request and waits for the response head. Dropping the future closes the connection.
    pub async fn send(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, Box<Failed<Request<B>>>> {
        let reused = std::mem::replace(&mut self.used, true);
        let head = *request.method() == Method::HEAD;
        self.watch.ask(if head { Asked::Head } else { Asked::Plain });
        self.sender.try_send_request(request).await.map_err(|mut failure| {
            let request = failure.take_message();
            let error = self.watch.failed(failure.into_error(), reused);
            Box::new(Failed { error, request })
        })
    }
}

impl<B> Http1<B> {
    /// Closes it now, whatever its driver is doing.
    pub fn abort(self) {
        self.driver.abort();
    }

    /// What the backend sent that is not to be passed on; the answer breaks off there.
    pub fn violation(&self) -> Option<Violation> {
        self.watch.violation()
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
    let watch = Rc::new(Watch::new(Arc::clone(backend), worker));
    let io = TokioIo::new(Http1Io::new(stream, Rc::clone(&watch)));
    let (mut sender, mut connection) = builder().handshake(io).await.map_err(Error::Reset)?;
    let gauge = ConnectionGauge::open(Arc::clone(backend), worker);
    watch.ask(Asked::Upgrade);
    let mut sending = std::pin::pin!(sender.try_send_request(request));
    let mut ended = false;
    let response = std::future::poll_fn(|cx| {
        if !ended && let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            ended = true;
            if let Err(error) = result {
                return Poll::Ready(Err(watch.failed(error, false)));
            }
        }
        sending.as_mut().poll(cx).map_err(|failure| watch.failed(failure.into_error(), false))
    })
    .await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let held = gauge.clone();
        if !ended {
            tokio::task::spawn_local(async move {
                let _gauge = held;
                let _ = connection.await;
            });
        }
        return Ok((UpgradeOutcome::Declined(response), gauge));
    }
    if !ended {
        // The connection ends by itself right after the 101.
        std::future::poll_fn(|cx| Pin::new(&mut connection).poll(cx))
            .await
            .map_err(|error| watch.failed(error, false))?;
    }
    let parts = connection.into_parts();
    let upgraded = Upgraded { stream: parts.io.into_inner().into_stream(), early: parts.read_buf };
    Ok((UpgradeOutcome::Switched(response.map(drop), upgraded), gauge))
}

/// The largest read, and so the largest head. hyper would read up to 400 KiB at once, and several
/// such pieces wait in memory for every client that is slower than its backend.
const BUFFER_BYTES: usize = 32 * 1024;

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_headers(LIMITS.max_headers.into()).max_buf_size(BUFFER_BYTES);
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
