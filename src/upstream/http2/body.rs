//! The body of a response on an HTTP/2 stream.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Frame, SizeHint};

use super::inflow::Inflow;
use super::status::{Place, Registered};

/// What comes on a stream. Dropped before its end, it resets the stream.
#[derive(Debug)]
pub struct Body {
    /// As long as anything may come.
    coming: Option<Registered>,
    /// It was read to its end, which is not said again after the stream is reset for its other half.
    ended: bool,
    /// The status says that there is no content.
    empty: bool,
    /// What is still to come, in bytes, if that was announced.
    left: Option<u64>,
}

impl Body {
    /// That of an answer.
    pub(super) fn of(response: Response<RecvStream>, place: &Rc<Place>) -> Response<Body> {
        // RFC 9110 sections 15.3.5 and 15.4.5. A HEAD, h2 knows of itself.
        let empty = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let announced = length(response.headers());
        response.map(|stream| {
            let ended = stream.is_end_stream();
            let coming = (!ended).then(|| Registered::new(Inflow::new(stream), place));
            Body { coming, ended, empty, left: announced.or(ended.then_some(0)) }
        })
    }

    /// Checks what has come, and counts it.
    fn admit(&mut self, frame: &Frame<Bytes>) -> io::Result<()> {
        let length = frame.data_ref().map_or(0, Bytes::len);
        if self.empty && length > 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Some(left) = &mut self.left {
            // h2 has seen to it that it is not more.
            *left = left.saturating_sub(length as u64);
        }
        Ok(())
    }
}

/// Whether the backend has ended the stream without finding anything wrong (RFC 9113 section 8.1).
fn is_no_error(error: &h2::Error) -> bool {
    error.is_remote() && error.is_reset() && error.reason() == Some(h2::Reason::NO_ERROR)
}

/// The length that a head tells; h2 has seen to it that it is a number.
fn length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let Some(coming) = &this.coming else { return Poll::Ready(None) };
        let (mut polled, mut over) = {
            let mut inflow = coming.inflow.borrow_mut();
            (ready!(inflow.poll(cx)), inflow.is_over())
        };
        if this.left == Some(0) && matches!(&polled, Some(Err(error)) if is_no_error(error)) {
            // Some say so in place of the end, when they want no more of the request.
            (polled, over) = (None, true);
        }
        this.ended = over;
        if over {
            this.coming = None;
        }
        Poll::Ready(polled.map(|frame| {
            let frame = frame.map_err(io::Error::other)?;
            this.admit(&frame)?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
