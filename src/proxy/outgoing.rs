//! A request on its way out: prepared once, given its form anew for every attempt.

use std::rc::Rc;

use http::header::{HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tokio::time::Instant;

use super::body::{RequestBody, Upload};
use super::error::Failure;
use super::upgrade::Wish;

/// A request that is ready to go out, as often as need be.
#[derive(Debug)]
pub struct Outgoing {
    /// The method that the backend sees.
    pub method: Method,
    /// The target in origin form.
    pub target: PathAndQuery,
    /// Every field but Host.
    pub headers: HeaderMap,
    /// The client's host.
    pub host: HeaderValue,
    /// The body, if there is one.
    pub upload: Option<Rc<Upload>>,
    /// Whether the method may be sent twice.
    pub idempotent: bool,
    /// Another protocol that the client asks for.
    pub wish: Option<Wish>,
    /// Of the client's address, for `ip_hash`.
    pub client_hash: u64,
    /// When the route's total time is over.
    pub deadline: Option<Instant>,
}

impl Outgoing {
    /// The request for one attempt, in the form that the connection's version asks for.
    ///
    /// # Errors
    /// If the host cannot stand in an HTTP/2 `:authority`.
    pub fn request(&self, h2: bool, secure: bool) -> Result<Request<RequestBody>, Failure> {
        let body = self.upload.as_ref().map_or_else(RequestBody::empty, Upload::attempt);
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        if h2 {
            let bad = |_| Failure::Target("the host cannot be forwarded over HTTP/2");
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
            parts.authority = Some(Authority::try_from(self.host.as_bytes()).map_err(bad)?);
            parts.path_and_query = Some(self.target.clone());
            *request.uri_mut() = Uri::from_parts(parts)
                .map_err(|_| Failure::Target("the target cannot be forwarded over HTTP/2"))?;
            *request.version_mut() = Version::HTTP_2;
        } else {
            *request.uri_mut() = Uri::from(self.target.clone());
            let headers = request.headers_mut();
            // Towards HTTP/1.1 it would need a Connection option, and hyper sends announced trailers
            // anyway.
            headers.remove(TE);
            headers.insert(HOST, self.host.clone());
            if self.upload.as_ref().is_some_and(|upload| !upload.has_known_length()) {
                // hyper takes no body of unknown length for GET without it.
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
        Ok(request)
    }

    /// Whether its body, if any, can be sent again from its beginning.
    pub fn is_replayable(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.can_be_sent_again())
    }
}
