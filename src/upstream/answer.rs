//! A backend's answer whose head has come, whatever the HTTP version.

use http::{HeaderMap, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::{Incoming, Lease};
use crate::framing::plain::PlainLines;

/// The head of an answer.
///
/// It passes through many hands on its way to the client, and is large: so it stays where it was
/// read to, in a box.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The words for it, if they are not the common ones.
    pub reason: Option<ReasonPhrase>,
    /// The fields that somebody may look at.
    pub headers: HeaderMap,
    /// Further fields, to be passed on as they came: see
    /// [`RequestHead::sieve`](super::RequestHead::sieve).
    pub plain: PlainLines,
}

impl ResponseHead {
    /// That of an answer that has the words for its status from nobody, and what else it is of.
    pub fn of<T>(response: Response<T>) -> (Box<ResponseHead>, T) {
        let (parts, body) = response.into_parts();
        let (status, headers) = (parts.status, parts.headers);
        let plain = PlainLines::default();
        (Box::new(ResponseHead { status, reason: None, headers, plain }), body)
    }
}

/// An answer, as far as it has come.
#[derive(Debug)]
pub struct Answered {
    /// Its head.
    pub head: Box<ResponseHead>,
    /// Its body.
    pub body: Incoming,
    /// The connection that it comes on.
    pub lease: Lease,
}
