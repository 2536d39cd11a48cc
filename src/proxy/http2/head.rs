//! From decoded fields to a request, or to trailers (RFC 9113 section 8). Pure.
//!
//! What makes a message malformed is an error of its stream (section 8.1.1). What is well-formed and
//! still not to be passed on has an answer; where it shows only here, the request carries it as a
//! [`Flaw`].

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, uri};

use super::core::Form;
use crate::framing::Violation;
use crate::framing::hpack::{Field, Name, Pseudo};
use crate::framing::length::parse_length;
use crate::proxy::body::UploadFailure;

/// Why a well-formed request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flaw(pub(super) Violation);

/// A message that is against the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A request, and what is known of its body.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) request: Request<()>,
    pub(super) form: Form,
    pub(super) length: Option<u64>,
    pub(super) expects: bool,
}

/// The fields of one block.
#[derive(Debug)]
pub(super) struct Fields {
    pseudo: [Option<Bytes>; 6],
    headers: HeaderMap,
    malformed: bool,
    has_fields: bool,
    length: Option<u64>,
    expects: bool,
    size: usize,
    max_bytes: usize,
}

impl Fields {
    /// Fields that are put into an `empty` map, as long as they are no more than so many bytes.
    pub(super) fn new(empty: HeaderMap, max_bytes: usize) -> Fields {
        Fields {
            pseudo: Default::default(),
            headers: empty,
            malformed: false,
            has_fields: false,
            length: None,
            expects: false,
            size: 0,
            max_bytes,
        }
    }

    /// Takes in the next field.
    pub(super) fn add(&mut self, field: Field) {
        self.size += field.size;
        if self.size > self.max_bytes {
            return;
        }
        let added = match field.name {
            Name::Pseudo(pseudo) => self.add_pseudo(pseudo, field.value),
            Name::Field(name) => self.add_field(name, field.value),
            Name::Invalid => Err(Malformed),
        };
        self.malformed |= added.is_err();
    }

    /// Section 8.3.
    fn add_pseudo(&mut self, pseudo: Pseudo, value: Bytes) -> Result<(), Malformed> {
        let place = &mut self.pseudo[pseudo as usize];
        if self.has_fields || pseudo == Pseudo::Status || place.replace(value).is_some() {
            return Err(Malformed);
        }
        Ok(())
    }

    fn add_field(&mut self, name: HeaderName, value: Bytes) -> Result<(), Malformed> {
        self.has_fields = true;
        match name {
            // Section 8.2.2.
            CONNECTION | TRANSFER_ENCODING | UPGRADE => return Err(Malformed),
            TE if !value.eq_ignore_ascii_case(b"trailers") => return Err(Malformed),
            CONTENT_LENGTH => self.add_length(&value)?,
            EXPECT => self.expects = true,
            _ if matches!(name.as_str(), "keep-alive" | "proxy-connection") => {
                return Err(Malformed);
            }
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed)?;
        self.headers.try_append(name, value).map_err(|_| Malformed)?;
        Ok(())
    }

    /// Several that are equal, or none in it, are refused with an answer.
    fn add_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if value.is_empty() {
            return Ok(());
        }
        let length = parse_length(value).ok_or(Malformed)?;
        if self.length.replace(length).is_some_and(|other| other != length) {
            return Err(Malformed);
        }
        Ok(())
    }

    /// The request that they are of; `ends` is whether it has no body.
    pub(super) fn into_request(mut self, ends: bool) -> Result<Verdict, Malformed> {
        // Section 8.1.1.
        if self.malformed || (ends && self.length > Some(0)) {
            return Err(Malformed);
        }
        let mut take = |pseudo: Pseudo| self.pseudo[pseudo as usize].take();
        let method = take(Pseudo::Method).ok_or(Malformed)?;
        let method = Method::from_bytes(&method).map_err(|_| Malformed)?;
        let target = Target {
            scheme: take(Pseudo::Scheme),
            authority: take(Pseudo::Authority),
            path: take(Pseudo::Path),
        };
        let protocol = take(Pseudo::Protocol);
        let form = match protocol {
            Some(_) if method != Method::CONNECT => return Err(Malformed),
            Some(protocol) => Form::Socket(protocol),
            None if ends => Form::None,
            None => Form::Body,
        };
        let plain_connect = method == Method::CONNECT && !matches!(form, Form::Socket(_));
        let (uri, flaw) = if plain_connect { target.of_connect()? } else { target.whole()? };
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        let too_large = (self.size > self.max_bytes).then_some(Violation::HeadTooLarge);
        if let Some(violation) = too_large.or(flaw) {
            request.extensions_mut().insert(Flaw(violation));
        }
        Ok(Verdict { request, form, length: self.length, expects: self.expects })
    }

    /// The trailers that they are (section 8.1), or why those are not to be passed on.
    pub(super) fn into_trailers(
        self,
        max_fields: usize,
    ) -> Result<Result<HeaderMap, UploadFailure>, Malformed> {
        if self.malformed || self.pseudo.iter().any(Option::is_some) {
            return Err(Malformed);
        }
        Ok(match self.size > self.max_bytes || self.headers.len() > max_fields {
            true => Err(UploadFailure::TrailersTooLarge),
            false => Ok(self.headers),
        })
    }
}

/// The pseudo-header fields that a target is made of.
struct Target {
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
}

type Checked = Result<(Uri, Option<Violation>), Malformed>;

impl Target {
    /// Section 8.5.
    fn of_connect(self) -> Checked {
        match self {
            Target { scheme: None, authority: Some(authority), path: None } => {
                let mut parts = uri::Parts::default();
                parts.authority = Some(authority_of(authority)?);
                Ok((Uri::from_parts(parts).map_err(|_| Malformed)?, None))
            }
            _ => Err(Malformed),
        }
    }

    /// Section 8.3.1.
    fn whole(self) -> Checked {
        let (Some(scheme), Some(path)) = (self.scheme, self.path) else { return Err(Malformed) };
        let mut parts = uri::Parts::default();
        let mut flaw = None;
        let scheme = match &scheme[..] {
            b"https" => Scheme::HTTPS,
            b"http" => Scheme::HTTP,
            other => {
                let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                if !other.iter().all(valid) {
                    return Err(Malformed);
                }
                flaw = Some(Violation::InvalidTarget);
                Scheme::HTTPS
            }
        };
        if path.contains(&b'#') {
            flaw = Some(Violation::FragmentInTarget);
        }
        if path.first() != Some(&b'/') && &path[..] != b"*" {
            return Err(Malformed);
        }
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|_| Malformed)?);
        if let Some(authority) = self.authority {
            parts.authority = Some(authority_of(authority)?);
            parts.scheme = Some(scheme);
        }
        Ok((Uri::from_parts(parts).map_err(|_| Malformed)?, flaw))
    }
}

fn authority_of(bytes: Bytes) -> Result<Authority, Malformed> {
    Authority::from_maybe_shared(bytes).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new(HeaderMap::new(), 1000);
        for (name, value) in pairs {
            let size = name.len() + value.len() + 32;
            let name = match *name {
                ":method" => Name::Pseudo(Pseudo::Method),
                ":scheme" => Name::Pseudo(Pseudo::Scheme),
                ":authority" => Name::Pseudo(Pseudo::Authority),
                ":path" => Name::Pseudo(Pseudo::Path),
                ":protocol" => Name::Pseudo(Pseudo::Protocol),
                name => {
                    HeaderName::from_lowercase(name.as_bytes()).map_or(Name::Invalid, Name::Field)
                }
            };
            fields.add(Field { name, value: Bytes::copy_from_slice(value.as_bytes()), size });
        }
        fields
    }

    fn get<'a>(more: &[(&'a str, &'a str)]) -> Fields {
        let common =
            [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/b?c")];
        fields(&[&common[..], more].concat())
    }

    #[test]
    fn a_request_is_made_of_its_fields() {
        let verdict = get(&[("x", "1"), ("content-length", "3")]).into_request(false).unwrap();
        let request = verdict.request;
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_2));
        assert_eq!(request.uri(), "https://a/b?c");
        assert_eq!(request.headers()["x"], "1");
        assert_eq!((verdict.form, verdict.length), (Form::Body, Some(3)));
        let verdict = get(&[]).into_request(true).unwrap();
        assert_eq!((verdict.form, verdict.length), (Form::None, None));
    }

    #[test]
    fn a_socket_names_its_protocol() {
        let common =
            [(":method", "CONNECT"), (":scheme", "https"), (":authority", "a"), (":path", "/")];
        let whole = fields(&[&common[..], &[(":protocol", "websocket")]].concat());
        let verdict = whole.into_request(false).unwrap();
        assert_eq!(verdict.form, Form::Socket(Bytes::from_static(b"websocket")));
        assert!(fields(&common).into_request(false).is_err());
    }

    #[test]
    fn what_has_an_answer_is_carried() {
        for (path, scheme, expected) in [
            ("/a", "https", None),
            ("/a#b", "https", Some(Violation::FragmentInTarget)),
            ("/a", "ftp", Some(Violation::InvalidTarget)),
            ("/a", "", Some(Violation::InvalidTarget)),
        ] {
            let pairs =
                [(":method", "GET"), (":scheme", scheme), (":authority", "a"), (":path", path)];
            let request = fields(&pairs).into_request(true).unwrap().request;
            let flaw = request.extensions().get::<Flaw>().map(|flaw| flaw.0);
            assert_eq!(flaw, expected, "{path} {scheme}");
        }
        let large = "x".repeat(1000);
        let request = get(&[("x", &large)]).into_request(true).unwrap().request;
        assert_eq!(request.extensions().get::<Flaw>().unwrap().0, Violation::HeadTooLarge);
    }

    #[test]
    fn trailers_have_no_pseudo_fields() {
        let counts = [1, 0].map(|max| {
            fields(&[("x", "1")]).into_trailers(max).unwrap().map(|trailers| trailers.len())
        });
        assert_eq!(counts, [Ok(1), Err(UploadFailure::TrailersTooLarge)]);
        for pair in [(":path", "/"), ("connection", "close"), ("X", "1"), ("x", "a\nb")] {
            assert!(fields(&[pair]).into_trailers(9).is_err(), "{pair:?}");
        }
    }
}
