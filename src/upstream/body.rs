//! The body of a backend's response, whatever the HTTP version.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{http1, http2};

/// What a backend sends.
#[derive(Debug)]
pub enum Incoming {
    /// On an HTTP/1.1 connection.
    Http1(http1::Body),
    /// On a stream of an HTTP/2 connection.
    Http2(http2::Body),
}

impl Incoming {
    /// Holds less of it from now on, since the client does not keep up. Over HTTP/2 the windows see
    /// to that.
    pub fn hold_back(&self) {
        if let Incoming::Http1(body) = self {
            body.hold_back();
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Incoming::Http1(body) => Pin::new(body).poll_frame(cx),
            Incoming::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Incoming::Http1(body) => body.is_end_stream(),
            Incoming::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Incoming::Http1(body) => body.size_hint(),
            Incoming::Http2(body) => body.size_hint(),
        }
    }
}
