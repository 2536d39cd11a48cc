//! Our end of an HTTP/1.1 connection to a backend, wrapped for what hyper does not look after.
//!
//! hyper reads and writes through an [`Http1Io`]. On the way the wrapper shows what the backend
//! sends to the [`Scanner`]. What is not to be passed on ends the connection: hyper sees an error in
//! its place, so that an answer under way breaks off and nothing is sent on the connection again.
//! What it was, and what is asked, goes through a [`Watch`] shared with whoever sends the requests.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Error;
use super::dial::UpstreamStream;
use super::error::classify;
use super::framing::{Asked, Scanner};
use crate::framing::{Limits, Violation};
use crate::state::{Backend, WorkerId};

/// What a backend may send in one head: more than any that is meant well, and little enough that a
/// thousand of them at once do no harm.
pub(super) const LIMITS: Limits = Limits { max_header_bytes: 64 * 1024, max_headers: 256 };

/// What the two ends of hyper tell each other past it.
#[derive(Debug)]
pub(super) struct Watch {
    backend: Arc<Backend>,
    worker: WorkerId,
    asked: Cell<Option<Asked>>,
    heard: Cell<bool>,
    spent: Cell<bool>,
    violation: Cell<Option<Violation>>,
}

impl Watch {
    /// For a fresh connection to this backend.
    pub(super) fn new(backend: Arc<Backend>, worker: WorkerId) -> Self {
        Watch {
            backend,
            worker,
            asked: Cell::default(),
            heard: Cell::default(),
            spent: Cell::default(),
            violation: Cell::default(),
        }
    }

    /// What happened to a request for which hyper has this error. `reused` is whether the
    /// connection had served another one before.
    pub(super) fn failed(&self, error: hyper::Error, reused: bool) -> Error {
        if let Some(violation) = self.violation.get() {
            return Error::Malformed(violation.reason().into());
        }
        // Whoever has begun to answer had not closed the connection before it was asked.
        let error = classify(error, reused && !self.heard.get());
        // hyper does not wait for the end of a line that it cannot read.
        if matches!(error, Error::Malformed(_)) {
            self.count_malformed();
        }
        error
    }

    fn refuse(&self, violation: Violation) {
        self.violation.set(Some(violation));
        self.count_malformed();
        let (backend, kind) = (&*self.backend.label, violation.label());
        tracing::debug!(backend, kind, "a backend sent what is not to be passed on");
    }

    fn count_malformed(&self) {
        self.backend.cells.cell(self.worker).malformed.add(1);
    }

    /// A request is about to be handed to hyper.
    pub(super) fn ask(&self, asked: Asked) {
        self.asked.set(Some(asked));
        self.heard.set(false);
    }

    /// What the backend sent that is not to be passed on.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation.get()
    }

    /// Whether no further request may be sent.
    pub(super) fn is_over(&self) -> bool {
        self.spent.get() || self.violation.get().is_some()
    }
}

/// The wrapper.
#[derive(Debug)]
pub(super) struct Http1Io {
    stream: UpstreamStream,
    scanner: Scanner,
    watch: Rc<Watch>,
}

impl Http1Io {
    pub(super) fn new(stream: UpstreamStream, watch: Rc<Watch>) -> Self {
        Http1Io { stream, scanner: Scanner::new(LIMITS), watch }
    }

    /// Gives the connection up to a tunnel.
    pub(super) fn into_stream(self) -> UpstreamStream {
        self.stream
    }

    /// A request counts as asked when its first byte is written, not before: what is read until
    /// then cannot be its answer.
    fn note_write(&mut self) {
        if let Some(asked) = self.watch.asked.take() {
            self.scanner.ask(asked);
        }
    }
}

impl AsyncRead for Http1Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.violation.get().is_some() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let (accepted, violation) = this.scanner.feed(bytes);
        this.watch.heard.set(true);
        this.watch.spent.set(this.scanner.is_spent());
        if let Some(violation) = violation {
            this.watch.refuse(violation);
            if accepted == 0 {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            buf.set_filled(before + accepted);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http1Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.note_write();
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.note_write();
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
