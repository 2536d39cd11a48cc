//! A connection in the hands of one request, up to the head of its answer.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Lane;
use super::lease::{Held, Lease};
use crate::upstream::http1::Http1;
use crate::upstream::http2::Http2Stream;
use crate::upstream::{Answered, Error, Failed, Incoming, RequestHead, ResponseHead};

/// A connection taken for one request.
#[derive(Debug)]
pub struct Connection {
    pub(super) lane: Rc<Lane>,
    pub(super) epoch: u32,
    /// How long it had lain unused.
    pub(super) idle: Duration,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Http1(Http1),
    Http2(Http2Stream),
}

impl Connection {
    /// Whether it is an HTTP/2 connection, which decides the form of the request.
    pub fn is_h2(&self) -> bool {
        matches!(self.kind, Kind::Http2(_))
    }

    /// Whether it has carried a request before.
    pub fn is_reused(&self) -> bool {
        match &self.kind {
            Kind::Http1(http1) => http1.reused(),
            Kind::Http2(stream) => stream.reused(),
        }
    }

    /// Sends a request and waits for the response head. Dropping the future gives the request up:
    /// it closes an HTTP/1.1 connection and resets an HTTP/2 stream.
    ///
    /// # Errors
    /// Those of the exchange.
    pub async fn send<B>(self, head: &RequestHead, body: B) -> Result<Answered, Failed>
    where
        B: http_body::Body<Data = Bytes> + Unpin + 'static,
    {
        let Connection { lane, epoch, idle, kind } = self;
        match kind {
            Kind::Http1(mut connection) => {
                let sent = pin!(connection.send(head, body)).await;
                match sent {
                    Ok((head, body)) => Ok(Answered {
                        head,
                        body: Incoming::Http1(body),
                        lease: Lease(Held::Http1 { lane, epoch, connection }),
                    }),
                    Err(error) => {
                        if matches!(error, Error::Stale) {
                            lane.cells().stale.add(1);
                            lane.backend.keep_alive.on_closed(Instant::now(), idle);
                        }
                        Err(error.into())
                    }
                }
            }
            Kind::Http2(stream) => {
                let secure = lane.settings.borrow().tls.is_some();
                match pin!(stream.send(head, secure, body)).await {
                    Ok((response, stream)) => {
                        let (head, incoming) = ResponseHead::of(response);
                        let body = Incoming::Http2(incoming);
                        Ok(Answered { head, body, lease: Lease(Held::Http2 { _stream: stream }) })
                    }
                    Err(failed) => {
                        match failed.error {
                            Error::Stale => lane.cells().stale.add(1),
                            // On HTTP/1.1 the connection counts for itself, between answers too.
                            Error::Malformed(_) => lane.cells().malformed.add(1),
                            _ => {}
                        }
                        Err(failed)
                    }
                }
            }
        }
    }
}
