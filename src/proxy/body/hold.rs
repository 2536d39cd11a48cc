//! What an exchange holds on its backend: a request in flight, a connection, and what it is going to
//! be judged by.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::Upload;
use crate::health::keep_alive;
use crate::health::outliers::Outcome;
use crate::proxy::worker::Worker;
use crate::state::{Backend, Slot};
use crate::upstream::Lease;
use crate::upstream::http1::ConnectionGauge;

/// What an exchange holds on its backend.
#[derive(Debug)]
pub struct Hold {
    /// The request in flight.
    pub slot: Slot,
    /// The connection, to be given back; absent where it serves this one exchange only.
    pub lease: Option<Lease>,
    /// Counts a connection that has no lease.
    pub gauge: Option<ConnectionGauge>,
    /// When the backend was picked.
    pub picked: Instant,
    /// What it answered.
    pub answer: Answer,
    /// Whose counters it goes into.
    pub worker: Rc<Worker>,
}

/// An answer as far as its backend is judged by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// It tells by its gRPC status of a failure that is the backend's.
    pub grpc_failed: bool,
}

impl Answer {
    /// One with this status, of which its fields tell no more.
    pub fn of(status: StatusCode) -> Self {
        Answer { status: status.as_u16(), grpc_failed: false }
    }
}

/// Whether fields, of a head or behind a body, tell of a gRPC call that failed by the backend's fault:
/// UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
pub fn tells_grpc_failure(fields: &HeaderMap) -> bool {
    let status = fields.get("grpc-status").map(HeaderValue::as_bytes);
    matches!(status, Some(b"2" | b"4" | b"13" | b"14" | b"15"))
}

impl Hold {
    /// Whom it is held on.
    pub fn backend(&self) -> &Arc<Backend> {
        self.slot.backend()
    }

    /// The backend may have said how long it keeps unused connections.
    pub fn note_keep_alive(&self, headers: &HeaderMap) {
        if let Some(lease) = &self.lease
            && let Some(field) = headers.get("keep-alive")
            && let Some(timeout) = keep_alive::announced(field.as_bytes())
        {
            lease.on_announced(timeout, self.worker.now().into_std());
        }
    }

    /// It ended as its backend is judged by.
    pub(super) fn ended(&self, outcome: Outcome) {
        self.worker.attempt_ended(self.backend(), outcome, Some(self.answer.status));
    }

    /// The last byte was read, at `now`; `body` is whether there was any.
    pub(super) fn complete(mut self, upload: Option<&Rc<Upload>>, now: Instant, body: bool) {
        let Answer { status, grpc_failed } = self.answer;
        self.ended(Outcome::of_answer(status, body, grpc_failed));
        let cells = self.backend().cells.cell(self.worker.id);
        cells.duration.observe(now.saturating_duration_since(self.picked));
        if let Some(upload) = upload {
            cells.bytes_out.add(upload.received());
        }
        let sent = upload.is_none_or(|upload| upload.finished().is_some());
        if let Some(lease) = self.lease.take() {
            // An answer that came before the end of the request leaves the connection in the
            // middle of it: nobody can use it again.
            if sent {
                lease.give_back(now.into_std());
            }
        }
        if let Some(upload) = upload
            && !sent
        {
            upload.give_up();
        }
    }
}
