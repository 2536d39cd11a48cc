//! Asking a backend how it is: one question, one answer, within one timeout.
//!
//! When to ask, and what follows from the answer, is in `prober`.

mod grpc;
mod http;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue, Method};
use bytes::Bytes;
use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};

use crate::health::{DrainWish, Expect, ProbeFailure, Settings};
use crate::state::pool::UpstreamSettings;
use crate::state::tls::upstream_hint;
use crate::state::{Address, Backend};
use crate::upstream::{self, dial};

/// How the backends of a pool are probed.
#[derive(Debug)]
pub struct Check {
    /// What is asked.
    pub question: Question,
    /// How a backend says in its answer that it is to be drained.
    pub wish: DrainWish,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// For one whole probe.
    pub timeout: Duration,
    /// Another port than that of the requests.
    pub port: Option<u16>,
    /// Whether by TLS, and by which HTTP version.
    pub upstream: Arc<UpstreamSettings>,
    /// How many answers make a verdict.
    pub settings: Settings,
}

/// What is asked.
#[derive(Debug)]
pub enum Question {
    /// Does a request get the answer that is expected?
    Http(Box<HttpCheck>),
    /// Does a connection open?
    Connect,
    /// Does `grpc.health.v1.Health/Check` say SERVING?
    Grpc {
        /// Of which service; empty: of the server as a whole.
        service: Arc<str>,
    },
}

/// What a sound backend said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// It asks to be drained.
    pub leaving: bool,
}

/// A request without a body, and what must come back.
#[derive(Debug)]
pub struct HttpCheck {
    /// Its method.
    pub method: Method,
    /// What to ask for.
    pub path: PathAndQuery,
    /// In place of the backend's own address.
    pub host: Option<HeaderValue>,
    /// Further fields.
    pub headers: HeaderMap,
    /// What must come back.
    pub expect: Expect,
}

/// Probes a backend once.
///
/// # Errors
/// What was found instead of a sound backend.
pub async fn probe(check: &Check, backend: &Backend) -> Result<Answer, ProbeFailure> {
    match tokio::time::timeout(check.timeout, ask(check, backend)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(ProbeFailure::TimedOut(check.timeout)),
    }
}

/// What was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The fields of the answer.
    pub headers: HeaderMap,
    /// As much of its body as is looked at.
    pub body: Bytes,
}

/// Asks a backend once, as [`probe`] does, for the answer. Only for checks by HTTP.
///
/// # Errors
/// What was found instead of an answer with a status that is expected.
pub async fn fetch(check: &Check, backend: &Backend) -> Result<Fetched, ProbeFailure> {
    let Question::Http(http) = &check.question else {
        return Err(ProbeFailure::Other("it is not asked by HTTP".into()));
    };
    let asking = async {
        let resolved = backend.resolved.load().as_deref().copied();
        let dialled = dial::connect(&backend.address, resolved, &check.upstream, false).await;
        let dialled = dialled.map_err(|error| not_connected(&error))?;
        http::fetch(http, dialled, &backend.address, check.upstream.tls.is_some()).await
    };
    let answer = tokio::time::timeout(check.timeout, asking).await;
    answer.unwrap_or(Err(ProbeFailure::TimedOut(check.timeout)))
}

async fn ask(check: &Check, backend: &Backend) -> Result<Answer, ProbeFailure> {
    let resolved = backend.resolved.load().as_deref().copied();
    let target = resolved.map(|mut address| {
        address.set_port(check.port.unwrap_or(address.port()));
        address
    });
    let (address, tls) = (&backend.address, check.upstream.tls.is_some());
    let dial = async || {
        let dialled = dial::connect(address, target, &check.upstream, false).await;
        dialled.map_err(|error| not_connected(&error))
    };
    match &check.question {
        Question::Connect => {
            connect(address, target).await.map_err(|error| connecting(&error))?;
            Ok(Answer::default())
        }
        Question::Http(http) => http::ask(http, &check.wish, dial().await?, address, tls).await,
        Question::Grpc { service } => {
            grpc::ask(service, dial().await?, address, tls).await?;
            Ok(Answer::default())
        }
    }
}

async fn connect(address: &Address, target: Option<SocketAddr>) -> io::Result<()> {
    if let Address::Unix(path) = address {
        return UnixStream::connect(path).await.map(drop);
    }
    let target = target.ok_or_else(|| io::Error::other(upstream::Error::Unresolved))?;
    TcpStream::connect(target).await.map(drop)
}

fn not_connected(error: &upstream::Error) -> ProbeFailure {
    match error {
        upstream::Error::Connect(error) => connecting(error),
        upstream::Error::Tls(inner) => {
            let tls = inner.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let hint = tls.and_then(upstream_hint);
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            ProbeFailure::Other(format!("{error}{hint}").into())
        }
        other => ProbeFailure::Other(other.to_string().into()),
    }
}

fn connecting(error: &io::Error) -> ProbeFailure {
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    match error.kind() {
        _ if Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno)) => {
            ProbeFailure::NotAsked(error.to_string().into())
        }
        io::ErrorKind::ConnectionRefused => ProbeFailure::Refused,
        io::ErrorKind::NotFound => ProbeFailure::Other("there is no such socket".into()),
        io::ErrorKind::ConnectionReset => ProbeFailure::Closed,
        _ => ProbeFailure::Other(error.to_string().into()),
    }
}

#[cfg(test)]
mod tests;
