//! The body of a request as the client sends it, whatever the HTTP version.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::UploadFailure;
use crate::proxy::http1;

/// What a client sends.
#[derive(Debug)]
pub enum Incoming {
    /// Nothing.
    None,
    /// On an HTTP/1.1 connection.
    Http1(http1::Body),
    /// On a stream of an HTTP/2 connection.
    Http2(hyper::body::Incoming),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = UploadFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        match self.get_mut() {
            Incoming::None => Poll::Ready(None),
            Incoming::Http1(body) => Pin::new(body).poll_frame(cx),
            Incoming::Http2(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(|error| failure_of(&error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Incoming::None => true,
            Incoming::Http1(body) => body.is_end_stream(),
            Incoming::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Incoming::None => SizeHint::with_exact(0),
            Incoming::Http1(body) => body.size_hint(),
            Incoming::Http2(body) => body.size_hint(),
        }
    }
}

/// Tells a client that left from one that sends nonsense.
fn failure_of(error: &hyper::Error) -> UploadFailure {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let malformed = match (inner.downcast_ref::<io::Error>(), inner.downcast_ref::<h2::Error>())
        {
            // Ours, of the meter, among them.
            (Some(io), _) => {
                matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
            }
            (_, Some(h2)) => !h2.is_remote() && !h2.is_io(),
            _ => false,
        };
        if malformed {
            return UploadFailure::Malformed;
        }
        cause = inner.source();
    }
    UploadFailure::Left
}
