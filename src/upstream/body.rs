//! The body of a backend's response, whatever the HTTP version.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};

use super::http1;

/// What a backend sends.
#[derive(Debug)]
pub enum Incoming {
    /// On an HTTP/1.1 connection.
    Http1(http1::Body),
    /// On a stream of an HTTP/2 connection.
    Http2(Http2Body),
}

/// What comes on a stream.
#[derive(Debug)]
pub struct Http2Body {
    incoming: hyper::body::Incoming,
    /// The status says that there is no content.
    empty: bool,
}

impl Http2Body {
    /// The body of an answer with this status.
    pub fn new(status: StatusCode, incoming: hyper::body::Incoming) -> Http2Body {
        // RFC 9110 sections 15.3.5 and 15.4.5. A HEAD, h2 knows of itself.
        let empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Http2Body { incoming, empty }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        Poll::Ready(match frame {
            // A reset without an error is no end either (RFC 9113 section 8.1), although hyper says
            // nothing of it.
            None if !self.incoming.is_end_stream() => {
                Some(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            Some(Ok(frame))
                if self.empty && frame.data_ref().is_some_and(|data| !data.is_empty()) =>
            {
                Some(Err(io::ErrorKind::InvalidData.into()))
            }
            frame => frame.map(|frame| frame.map_err(io::Error::other)),
        })
    }
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
            Incoming::Http2(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Incoming::Http1(body) => body.is_end_stream(),
            Incoming::Http2(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Incoming::Http1(body) => body.size_hint(),
            Incoming::Http2(body) => body.incoming.size_hint(),
        }
    }
}
