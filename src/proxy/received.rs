//! A request as it came, before anything is done about it.

use http::{HeaderName, Request};

use super::body::Incoming;
use super::headers::survey::Survey;
use crate::framing::plain::{self, PlainLines};

/// A request as its client sent it, checked.
#[derive(Debug)]
pub struct Received {
    /// With the fields that somebody looks at.
    pub request: Request<Incoming>,
    /// Further fields, to be passed on as they came; under HTTP/2 there are none.
    pub plain: PlainLines,
    /// The kinds of all its fields.
    pub survey: Survey,
}

impl Received {
    /// With all its fields in the map.
    pub fn mapped(request: Request<Incoming>) -> Self {
        let survey = Survey::of(request.headers());
        Received { request, plain: PlainLines::default(), survey }
    }

    /// The values of a field.
    pub fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        plain::values(self.request.headers(), &self.plain, name)
    }
}
