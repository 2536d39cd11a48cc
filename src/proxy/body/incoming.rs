//! The body of a request as the client sends it, whatever the HTTP version.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::UploadFailure;
use crate::proxy::{http1, http2};

/// What a client sends.
#[derive(Debug)]
pub enum Incoming {
    /// Nothing.
    None,
    /// On an HTTP/1.1 connection.
    Http1(http1::Body),
    /// On a stream of an HTTP/2 connection.
    Http2(http2::Body),
    /// Not a body: what follows is another protocol's, should we agree.
    Socket(http2::Socket),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = UploadFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        match self.get_mut() {
            Incoming::None | Incoming::Socket(_) => Poll::Ready(None),
            Incoming::Http1(body) => Pin::new(body).poll_frame(cx),
            Incoming::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Incoming::None | Incoming::Socket(_) => true,
            Incoming::Http1(body) => body.is_end_stream(),
            Incoming::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Incoming::None | Incoming::Socket(_) => SizeHint::with_exact(0),
            Incoming::Http1(body) => body.size_hint(),
            Incoming::Http2(body) => body.size_hint(),
        }
    }
}
