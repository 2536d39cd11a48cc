//! The body of a response on an HTTP/1.1 connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::link::Link;

/// Reads on from the connection when it is asked for more, and never before: a slow client slows
/// its backend down.
#[derive(Debug)]
pub struct Body {
    link: Rc<RefCell<Link>>,
    /// What is still to come, in bytes, if that was announced.
    left: Option<u64>,
    /// Nobody has had the time to pass on what was given last.
    fresh: bool,
    failure: Option<io::Error>,
}

impl Body {
    pub(super) fn new(link: Rc<RefCell<Link>>) -> Self {
        let left = link.borrow().body_length();
        Body { link, left, fresh: true, failure: None }
    }

    /// Reads less at once for a while: the client does not keep up.
    pub fn hold_back(&self) {
        self.link.borrow_mut().hold_back();
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(failure) = this.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        match this.link.borrow_mut().poll_body(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.fresh = true;
                if let (Some(left), Some(data)) = (&mut this.left, frame.data_ref()) {
                    *left -= data.len() as u64;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // hyper throws away what it has not written when a body fails. A turn later the client
            // has all that the backend sent.
            Poll::Ready(Some(Err(failure))) if this.fresh => {
                this.fresh = false;
                this.failure = Some(failure);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => {
                this.fresh = false;
                Poll::Pending
            }
            ended => ended,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.link.borrow().is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
