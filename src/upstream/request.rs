//! A request as it goes to a backend, before it has the form of an HTTP version.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use super::Error;

/// The head of a request, as often as it is sent.
#[derive(Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target in origin form, or `*`.
    pub target: PathAndQuery,
    /// What stands in Host, or in `:authority`; empty if the client named none.
    pub host: HeaderValue,
    /// Every field but Host and Transfer-Encoding. `TE` is for HTTP/2 only.
    pub headers: HeaderMap,
}

/// How the end of a request body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    /// It has so many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

impl Framing {
    pub(super) fn of(body: &impl http_body::Body) -> Framing {
        if body.is_end_stream() {
            return Framing::None;
        }
        body.size_hint().exact().map_or(Framing::Chunked, Framing::Length)
    }
}

impl RequestHead {
    /// The request in HTTP/2's form.
    ///
    /// # Errors
    /// [`Error::Target`] if the host cannot stand in an `:authority`.
    pub(super) fn to_http2<B>(&self, secure: bool, body: B) -> Result<Request<B>, Error> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
        let authority = Authority::try_from(self.host.as_bytes());
        parts.authority =
            Some(authority.map_err(|_| Error::Target("the host cannot be forwarded over HTTP/2"))?);
        parts.path_and_query = Some(self.target.clone());
        *request.uri_mut() = Uri::from_parts(parts)
            .map_err(|_| Error::Target("the target cannot be forwarded over HTTP/2"))?;
        *request.version_mut() = Version::HTTP_2;
        Ok(request)
    }
}
