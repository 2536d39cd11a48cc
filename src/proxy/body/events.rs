//! Answers that are streams of events: server-sent events, and the streams of gRPC. They last as
//! tunnels do, and so they are counted, and closed, as tunnels are.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use tokio::time::Instant;

use crate::proxy::tunnels::OpenTunnel;
use crate::proxy::worker::Worker;
use crate::state::Backend;

/// A call whose answer has begun and goes on for longer than this is a stream. Nothing else tells it
/// from a call with one answer.
const SETTLES_AFTER: Duration = Duration::from_secs(1);

/// A stream of events, or what may be one.
#[derive(Debug)]
pub struct EventStream {
    grpc: bool,
    began: Instant,
    open: Option<OpenTunnel>,
    last_words: bool,
}

impl EventStream {
    /// The answer of a backend, which has just begun.
    pub fn new(worker: &Rc<Worker>, backend: &Arc<Backend>, grpc: bool) -> Self {
        let open = (!grpc).then(|| OpenTunnel::new(worker, backend));
        EventStream { grpc, began: worker.now(), open, last_words: false }
    }

    /// Whether it is a gRPC call, whose clients read trailers.
    pub fn is_grpc(&self) -> bool {
        self.grpc
    }

    /// When it will be known to be a stream, if it is not yet.
    pub fn settles_at(&self) -> Option<Instant> {
        self.open.is_none().then(|| self.began + SETTLES_AFTER)
    }

    /// Counts as a stream, if it is time; whether it was.
    pub fn settle(&mut self, worker: &Rc<Worker>, backend: &Arc<Backend>, now: Instant) -> bool {
        let due = self.settles_at().is_some_and(|at| at <= now);
        if due {
            self.open = Some(OpenTunnel::new(worker, backend));
        }
        due
    }

    /// Whether it is to come to its end now.
    pub fn is_to_close(&self, cx: &Context<'_>) -> bool {
        self.last_words || self.open.as_ref().is_some_and(|open| open.is_to_close(cx))
    }

    /// What is said at an end that we bring about, once: a gRPC status by which clients know that they
    /// may come again (UNAVAILABLE). A stream of server-sent events just ends, and browsers connect
    /// anew.
    pub fn last_words(&mut self, why: &'static str) -> Option<Frame<Bytes>> {
        if !self.grpc || std::mem::replace(&mut self.last_words, true) {
            return None;
        }
        let mut trailers = HeaderMap::new();
        let mut add = |name, value| {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        };
        add("grpc-status", "14");
        add("grpc-message", why);
        Some(Frame::trailers(trailers))
    }
}
