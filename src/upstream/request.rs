//! A request as it goes to a backend, before it has the form of an HTTP version.

use std::cell::OnceCell;
use std::rc::Rc;

use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use memchr::memchr;
use smallvec::SmallVec;

use super::Error;
use crate::framing::fields::line;
use crate::framing::plain::{PlainLines, Sieve};

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
    /// Further fields of the client's, which are passed on as they came.
    pub plain: PlainLines,
    /// Fields that we add, the same for all requests of a client's connection.
    pub of_connection: Rc<SharedFields>,
    /// Fields that we add to this request.
    pub added: SmallVec<[Field; 2]>,
    /// Which fields of the answer may stay as they came, where client and backend both speak HTTP/1.1.
    pub sieve: Option<Sieve>,
}

/// A field that stands apart from the client's, since it is never looked for.
pub type Field = (HeaderName, HeaderValue);

/// Room for the fields that a client's connection decides about.
const COMMON_BYTES: usize = 192;

/// Fields that many requests have in common, as lines of HTTP/1.1. Nearly all of them go out so.
#[derive(Clone, Debug, Default)]
pub struct SharedFields {
    lines: Vec<u8>,
    /// The same for HTTP/2, once they have been asked for.
    fields: OnceCell<Box<[Field]>>,
}

impl SharedFields {
    /// None yet.
    pub fn new() -> Self {
        SharedFields { lines: Vec::with_capacity(COMMON_BYTES), fields: OnceCell::new() }
    }

    /// Adds a field. Its value is one that may stand in a field.
    pub fn add(&mut self, name: &HeaderName, value: &[u8]) {
        line(&mut self.lines, &[name.as_str().as_bytes(), b": ", value]);
        self.fields.take();
    }

    /// The fields.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.fields.get_or_init(|| self.read()).iter()
    }

    fn read(&self) -> Box<[Field]> {
        let lines = self.lines.split(|&byte| byte == b'\n').filter_map(|line| {
            let colon = memchr(b':', line)?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
            Some((name, value))
        });
        lines.collect()
    }

    /// The same as lines of HTTP/1.1.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }
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
    pub(super) fn to_http2(&self, secure: bool, framing: Framing) -> Result<Request<()>, Error> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        self.plain.read_into(headers);
        headers.remove(HOST);
        for (name, value) in self.of_connection.iter().chain(&self.added) {
            headers.append(name, value.clone());
        }
        if let Framing::Length(length) = framing {
            headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
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
