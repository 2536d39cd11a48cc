//! Why an attempt failed, by type: what happened decides blame, status and whether another attempt
//! is safe; the text is for people only.

use std::borrow::Cow;
use std::io;

use rustls::AlertDescription;
use thiserror::Error;

/// A failure on the way to, or at, a backend.
#[derive(Debug, Error)]
pub enum Error {
    /// The backend's name has not been resolved (yet).
    #[error("the backend's name does not resolve")]
    Unresolved,
    /// The connection could not be opened.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The connection, TLS included, was not open within `connect_timeout`.
    #[error("cannot connect within the connect timeout")]
    ConnectTimeout,
    /// This process may open no more files: our own doing, and no sign of the backend's health.
    #[error("no more connections can be opened: the limit of open files is reached")]
    OutOfFiles,
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// Asked to switch protocols, which HTTP/1.1 alone can do, the backend turned out to speak HTTP/2
    /// only.
    #[error("the backend does not speak HTTP/1.1")]
    NoHttp1,
    /// The backend closed a connection that had lain unused; it says nothing about its health.
    #[error("the backend closed a reused connection")]
    Stale,
    /// The connection broke before the response head.
    #[error("connection broke before an answer: {0}")]
    Reset(#[source] io::Error),
    /// An HTTP/2 backend refused the stream unprocessed (REFUSED_STREAM, or beyond its GOAWAY).
    #[error("the stream was refused")]
    RefusedStream,
    /// What came back is not HTTP, or not an answer that we may pass on.
    #[error("malformed answer: {0}")]
    Malformed(Cow<'static, str>),
    /// The request has no form in the backend's version of HTTP.
    #[error("{0}")]
    Target(&'static str),
    /// The request could not be written because its own body failed: the client's doing.
    #[error("the request body failed")]
    RequestBody,
}

impl Error {
    /// True while the backend cannot have seen the request, so that any method may be sent again.
    pub fn is_unsent(&self) -> bool {
        match self {
            Error::Unresolved
            | Error::Connect(_)
            | Error::ConnectTimeout
            | Error::OutOfFiles
            | Error::Tls(_)
            | Error::Target(_)
            | Error::RefusedStream => true,
            Error::NoHttp1
            | Error::Stale
            | Error::Reset(_)
            | Error::Malformed(_)
            | Error::RequestBody => false,
        }
    }
}

/// Whether a handshake ended because the backend knows none of the protocols that were offered
/// (RFC 7301 section 3.2).
pub(super) fn refuses_alpn(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let refusal = AlertDescription::NoApplicationProtocol;
    matches!(tls, Some(rustls::Error::AlertReceived(alert)) if *alert == refusal)
}

/// A send that failed.
#[derive(Debug)]
pub struct Failed {
    /// What happened.
    pub error: Error,
    /// Nothing of the request was written.
    pub unsent: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { unsent: error.is_unsent(), error }
    }
}

/// Tells from an error's type what happened to a request on an HTTP/2 connection.
///
/// `reused` is whether the connection had served another request before: then a close without an
/// answer is the ordinary race of keep-alive (RFC 9113 section 9.1). `alone` is whether no other one
/// was open on it: then what ended the connection came in answer to this one.
pub(super) fn classify(error: h2::Error, reused: bool, alone: bool) -> Error {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // Only streams above its last id fail with a GOAWAY itself, and those were not processed,
    // whatever the reason that it gives (RFC 9113 section 6.8).
    let gone = error.is_remote() && error.is_go_away();
    if refused || gone {
        return Error::RefusedStream;
    }
    // Our end reset the stream, or ended the connection, for what came on it.
    if error.is_library() && (error.is_reset() || (alone && error.is_go_away())) {
        return Error::Malformed(error.to_string().into());
    }
    match error.get_io().map(io::Error::kind) {
        // From under h2: who counts heads, or TLS.
        Some(io::ErrorKind::InvalidData) if alone => Error::Malformed(error.to_string().into()),
        Some(kind) if reused && closes(kind) => Error::Stale,
        _ => Error::Reset(io::Error::other(error)),
    }
}

/// Whether an error tells no more than that the other end has closed.
pub(super) fn closes(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
    )
}
