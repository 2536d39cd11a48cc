//! One HTTP/1.1 connection to a backend.
//!
//! Our own, and not hyper's, for what a proxy knows and a client does not: the request is written
//! from its fields straight into bytes, as often as it is tried; the answer is parsed where it was
//! read, by the scanner that judges its framing; and nothing runs but the request itself, so that
//! there is no second task to wake for every head, body and end. While unused a connection is a
//! socket and little more.

mod body;
mod head;
mod link;
mod sending;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use tokio::task::AbortHandle;

pub use self::body::Body;
pub(super) use self::link::LIMITS;
use self::link::Link;
use self::sending::Sending;
use super::dial::UpstreamStream;
use super::framing::Asked;
use super::request::RequestHead;
use super::spare::Spare;
use super::{Error, ResponseHead};
use crate::framing::Violation;
use crate::framing::plain::Sieve;
use crate::state::backend::BackendCells;
use crate::state::{Backend, WorkerId};

/// An HTTP/1.1 connection. Dropped, it is closed, once the body of its answer is dropped too.
#[derive(Debug)]
pub struct Http1 {
    link: Rc<RefCell<Link>>,
    /// Writes the rest of a request that was answered early.
    writer: Option<AbortHandle>,
    used: bool,
}

impl Http1 {
    /// Speaks HTTP/1.1 on a fresh connection.
    pub fn open(
        stream: UpstreamStream,
        backend: &Arc<Backend>,
        worker: WorkerId,
        spare: Rc<Spare>,
    ) -> Self {
        let gauge = ConnectionGauge::open(Arc::clone(backend), worker);
        let link = Rc::new(RefCell::new(Link::new(stream, gauge, spare)));
        Http1 { link, writer: None, used: false }
    }

    /// Whether it has served a request, or lain unused, before.
    pub fn reused(&self) -> bool {
        self.used
    }

    /// It is going to lie unused before its first request: should the backend close it meanwhile,
    /// that is no more than the ordinary race of keep-alive.
    pub fn lay_aside(&mut self) {
        self.used = true;
    }

    /// Whether an unused connection can still be used: the backend has not closed it, nor sent what
    /// belongs to no answer.
    pub fn is_open(&self) -> bool {
        self.link.borrow_mut().is_quiet(&mut Context::from_waker(Waker::noop()))
    }

    /// Whether the exchange has come to its end, both ways, and another may follow.
    pub fn is_reusable(&self) -> bool {
        self.link.borrow().is_reusable()
    }

    /// Gives back what an unused connection can do without.
    pub fn release(&self) {
        self.link.borrow_mut().release();
    }

    /// What the backend sent that is not to be passed on; the answer breaks off there.
    pub fn violation(&self) -> Option<Violation> {
        self.link.borrow().violation()
    }

    /// Sends a request and waits for the response head. The future can be dropped at any time; the
    /// connection is of no use then.
    ///
    /// # Errors
    /// Those of the exchange; the backend may have seen the request.
    pub async fn send<B>(
        &mut self,
        head: &RequestHead,
        body: B,
    ) -> Result<(Box<ResponseHead>, Body), Error>
    where
        B: http_body::Body<Data = Bytes> + Unpin + 'static,
    {
        let asked = if head.method == Method::HEAD { Asked::Head } else { Asked::Plain };
        let mut sending = self.sending(head, body);
        let head = self.ask(&mut sending, asked, head.sieve).await?;
        if !self.link.borrow().sent {
            self.writer = Some(write_on(Rc::clone(&self.link), sending));
        }
        Ok((head, Body::new(Rc::clone(&self.link))))
    }

    fn sending<B>(&self, head: &RequestHead, body: B) -> Sending<B>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        Sending::new(head, body, self.link.borrow().spare.take_out())
    }

    async fn ask<B>(
        &mut self,
        sending: &mut Sending<B>,
        asked: Asked,
        sieve: Option<Sieve>,
    ) -> Result<Box<ResponseHead>, Error>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let reused = std::mem::replace(&mut self.used, true);
        let mut begun = false;
        poll_fn(|cx| {
            let link = &mut *self.link.borrow_mut();
            if !begun {
                begun = true;
                // What was said before the question is no answer to it. Unused ones were just
                // looked at.
                if !reused && !link.is_quiet(cx) {
                    return Poll::Ready(Err(link.why_over()));
                }
                link.ask(asked, sieve);
            }
            if !link.sent {
                match sending.poll(&mut link.stream, cx) {
                    Poll::Ready(Ok(())) => {
                        link.sent = true;
                        link.spare.keep_out(sending.take_buffer());
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            link.poll_head(cx, reused)
        })
        .await
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

/// Goes on writing while the answer is being read: the two may take any time, each for itself.
fn write_on<B>(link: Rc<RefCell<Link>>, mut sending: Sending<B>) -> AbortHandle
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    let writing = async move {
        let done = poll_fn(|cx| sending.poll(&mut link.borrow_mut().stream, cx)).await;
        match done {
            Ok(()) => link.borrow_mut().sent = true,
            Err(_) => link.borrow_mut().cut(),
        }
    };
    tokio::task::spawn_local(writing).abort_handle()
}

/// A connection that the backend switched to another protocol.
#[derive(Debug)]
pub struct Upgraded {
    /// The raw connection.
    pub stream: UpstreamStream,
    /// Bytes that arrived right behind the 101.
    pub early: Bytes,
}

/// What became of a request to switch protocols.
#[derive(Debug)]
pub enum UpgradeOutcome {
    /// The backend switched.
    Switched(Response<()>, Upgraded),
    /// The backend answered something else.
    Declined(Box<ResponseHead>, Body),
}

impl UpgradeOutcome {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            UpgradeOutcome::Declined(head, _) => head.status,
            UpgradeOutcome::Switched(response, _) => response.status(),
        }
    }
}

/// Asks the backend to switch protocols, on a connection that is used for nothing else.
///
/// # Errors
/// Those of the exchange.
pub async fn upgrade<B>(
    mut connection: Http1,
    head: &RequestHead,
    body: B,
) -> Result<(UpgradeOutcome, ConnectionGauge), Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut sending = connection.sending(head, body);
    let answer = connection.ask(&mut sending, Asked::Upgrade, None).await?;
    let link = Rc::clone(&connection.link);
    drop(connection);
    let gauge = link.borrow().gauge();
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok((UpgradeOutcome::Declined(answer, Body::new(link)), gauge));
    }
    let Some(link) = Rc::into_inner(link) else {
        return Err(Error::Malformed("it switched protocols twice".into()));
    };
    let (stream, early) = link.into_inner().into_tunnel();
    let mut response = Response::new(());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok((UpgradeOutcome::Switched(response, Upgraded { stream, early }), gauge))
}

/// Counts a connection as open for as long as any clone of it lives.
#[derive(Clone, Debug)]
pub struct ConnectionGauge {
    counted: Rc<Counted>,
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
        ConnectionGauge { counted: Rc::new(Counted { backend, worker }) }
    }

    fn backend(&self) -> &Backend {
        &self.counted.backend
    }

    fn cells(&self) -> &BackendCells {
        self.counted.backend.cells.cell(self.counted.worker)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.backend.cells.cell(self.worker).closes.add(1);
    }
}
