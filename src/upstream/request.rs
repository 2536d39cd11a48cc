//! A request as it goes to a backend, before it has the form of an HTTP version.

use std::rc::Rc;

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use smallvec::SmallVec;

use super::Error;

/// The head of a request, as often as it is sent.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target in origin form, or `*`.
    pub target: PathAndQuery,
    /// What stands in Host, or in `:authority`; empty if the client named none.
    pub host: HeaderValue,
    /// The client's fields, but for Transfer-Encoding. Host is not used, and `TE` only in HTTP/2.
    pub headers: HeaderMap,
    /// Fields that we add, the same for all requests of a client's connection.
    pub of_connection: Rc<[Field]>,
    /// Fields that we add to this request.
    pub added: SmallVec<[Field; 3]>,
}

/// A field that stands apart from the client's, since it is never looked for.
pub type Field = (HeaderName, HeaderValue);

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
    /// The fields that we add.
    pub(super) fn added(&self) -> impl Iterator<Item = &Field> {
        self.of_connection.iter().chain(&self.added)
    }

    /// The request in HTTP/2's form.
    ///
    /// # Errors
    /// [`Error::Target`] if the host cannot stand in an `:authority`.
    pub(super) fn to_http2<B>(&self, secure: bool, body: B) -> Result<Request<B>, Error> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        headers.remove(HOST);
        for (name, value) in self.added() {
            headers.append(name, value.clone());
        }
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
