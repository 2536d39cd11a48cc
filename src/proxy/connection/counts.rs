//! What is counted and logged of a connection that is no request's.

use http::StatusCode;

use super::ConnectionState;
use crate::proxy::record;
use crate::state::H2Abuse;

impl ConnectionState {
    /// Counts what a client did on HTTP/2.
    pub(in crate::proxy) fn note_abuse(&self, abuse: H2Abuse) {
        let listener = self.listener.borrow();
        listener.state.cells.cell(self.worker.id).h2_abuse[abuse.index()].add(1);
        tracing::debug!(listener = %listener.name, peer = ?self.peer, kind = abuse.label(),
            "broke off with an HTTP/2 client");
    }

    /// Counts a connection on which nothing came.
    pub(in crate::proxy) fn note_silence(&self) {
        let listener = self.listener.borrow();
        listener.state.cells.cell(self.worker.id).silent.add(1);
        tracing::debug!(listener = %listener.name, peer = ?self.peer,
            "closed a connection on which nothing came");
    }

    /// Counts a connection whose client takes nothing. Its requests end with it, and tell why.
    pub(in crate::proxy) fn note_untaken(&self) {
        self.untaken.set(Some("write_timeout"));
        let listener = self.listener.borrow();
        listener.state.cells.cell(self.worker.id).untaken.add(1);
        tracing::debug!(listener = %listener.name, peer = ?self.peer,
            "closed a connection whose client took nothing");
    }

    /// Whether it ends because too much is held for slow clients; its requests tell so.
    pub(in crate::proxy) fn note_too_slow(&self) -> bool {
        let too_slow = self.is_too_slow();
        if too_slow {
            self.untaken.set(Some("slow_client"));
        }
        too_slow
    }

    /// Counts requests that were refused by resetting their streams.
    pub(in crate::proxy) fn note_malformed(&self, streams: u32) {
        if streams > 0 {
            let listener = self.listener.borrow();
            listener.state.cells.cell(self.worker.id).malformed.add(streams.into());
            tracing::debug!(listener = %listener.name, peer = ?self.peer, streams,
                "refused malformed HTTP/2 requests");
        }
    }

    /// Counts and logs what was answered in place of a request's own answer.
    pub(in crate::proxy) fn note_refusal(&self, status: StatusCode, reason: &'static str) {
        let listener = self.listener.borrow();
        let cells = listener.state.cells.cell(self.worker.id);
        cells.malformed.add(1);
        cells.codes.count(status);
        record::log_malformed(self, &listener, status, reason);
        tracing::debug!(listener = %listener.name, peer = ?self.peer, %status, reason,
            "refused what a client sent");
    }
}
