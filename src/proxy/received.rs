//! A request as it came, before anything is done about it.

use http::{HeaderName, HeaderValue, Request, request};

use super::body::Incoming;
use super::headers::survey::Survey;
use crate::framing::plain::{self, PlainLines};

/// A request as its client sent it. Boxed, since it goes from hand to hand.
#[derive(Debug)]
pub struct Received {
    /// Its head, with the fields that somebody looks at.
    pub parts: request::Parts,
    /// What the scanner has found in Host, and is in order. Under HTTP/2 it may stand in the map.
    pub host: Option<HeaderValue>,
    /// Further fields, to be passed on as they came; under HTTP/2 there are none.
    pub plain: PlainLines,
    /// The kinds of all its fields.
    pub survey: Survey,
    /// Its body.
    pub body: Incoming,
}

impl Default for Received {
    fn default() -> Self {
        let (parts, ()) = Request::new(()).into_parts();
        let (plain, survey) = (PlainLines::default(), Survey::default());
        Received { parts, host: None, plain, survey, body: Incoming::None }
    }
}

impl Received {
    /// With all its fields in the map. `empty` is where it is put.
    pub fn mapped(request: Request<Incoming>, mut empty: Box<Self>) -> Box<Self> {
        (empty.parts, empty.body) = request.into_parts();
        empty.survey = Survey::of(&empty.parts.headers);
        empty
    }

    /// The values of a field other than Host.
    pub fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        plain::values(&self.parts.headers, &self.plain, name)
    }
}
