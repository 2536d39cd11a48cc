//! The body of a request on an HTTP/1.1 connection.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::link::Link;
use crate::framing::Violation;
use crate::proxy::body::UploadFailure;
use crate::proxy::framing::Scanner;

/// Reads on from the connection when it is asked for more, and never before: a slow backend slows
/// its client down.
#[derive(Debug)]
pub struct Body(pub(super) Rc<RefCell<Link>>);

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = UploadFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFailure>>> {
        self.0.borrow_mut().poll_body(cx)
    }

    fn is_end_stream(&self) -> bool {
        !self.0.borrow().is_in_body()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().body_length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl UploadFailure {
    /// What a body is that breaks a rule. Its head was passed, so what is too large are trailers.
    pub(super) fn of(scanner: &Scanner) -> UploadFailure {
        match scanner.violation() {
            Some(Violation::HeadTooLarge | Violation::TooManyFields) => Self::TrailersTooLarge,
            _ => Self::Malformed,
        }
    }
}
