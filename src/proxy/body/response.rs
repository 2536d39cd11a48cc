//! The body of a response, from a backend or from us to the client.
//!
//! It carries the two guards of an exchange to their ends: the slot is let go when the last byte
//! has been read from the backend, the record when the client's connection lets go of the body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};

use super::relay::{BrokenOff, Relay};
use crate::proxy::record::{End, RequestRecord};

/// The body of an answer, with the record of its request.
#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
    record: Option<Box<RequestRecord>>,
}

#[derive(Debug)]
enum Kind {
    Own(Option<Bytes>),
    Relay(Box<Relay>),
}

impl ResponseBody {
    /// A body of our own.
    pub fn own(bytes: Bytes) -> Self {
        ResponseBody { kind: Kind::Own((!bytes.is_empty()).then_some(bytes)), record: None }
    }

    /// No body.
    pub fn empty() -> Self {
        ResponseBody { kind: Kind::Own(None), record: None }
    }

    /// Leaves out a body of our own, and gives its length in bytes.
    pub fn omit_own(&mut self) -> Option<usize> {
        let Kind::Own(bytes) = &mut self.kind else { return None };
        let omitted = bytes.take()?.len();
        if let Some(record) = &mut self.record {
            record.end(End::Complete);
        }
        Some(omitted)
    }

    /// A body that a backend sends.
    pub fn relay(mut relay: Box<Relay>) -> Self {
        // HEAD, 204, 304 and empty bodies are at their end already, and nobody will ask.
        if relay.incoming.is_end_stream()
            && let Some(hold) = relay.hold.take()
        {
            let now = hold.worker.now();
            hold.complete(relay.upload.as_ref(), now, false);
        }
        ResponseBody { kind: Kind::Relay(relay), record: None }
    }

    /// The name of the request that it answers, once the record is here.
    pub fn request_id(&self) -> Option<&HeaderValue> {
        self.record.as_ref()?.request_id.as_ref()
    }

    /// The record goes with the body.
    pub fn take_record(&mut self, mut record: Box<RequestRecord>) {
        if self.is_end_stream() {
            record.end(End::Complete);
        }
        self.record = Some(record);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        if let (Kind::Relay(relay), Some(record)) = (&mut this.kind, &this.record) {
            relay.note_blocked(record.connection.io.last_blocked.get());
        }
        let frame = match &mut this.kind {
            Kind::Own(bytes) => Poll::Ready(bytes.take().map(Frame::data).map(Ok)),
            Kind::Relay(relay) => relay.poll(cx),
        };
        let frame = ready!(frame);
        if let Some(record) = &mut this.record {
            if let Kind::Relay(relay) = &this.kind {
                relay.closed.into_iter().for_each(|end| record.end(end));
            }
            match &frame {
                Some(Ok(frame)) => {
                    record.add_sent(frame.data_ref().map_or(0, Bytes::len));
                }
                Some(Err(BrokenOff::Backend(_))) => record.end(End::BackendBrokeOff),
                Some(Err(BrokenOff::Malformed(_))) => record.end(End::BackendMalformed),
                Some(Err(BrokenOff::Upload(failure))) => record.end(End::Upload(*failure)),
                Some(Err(BrokenOff::Stalled)) => record.end(End::BackendStalled),
                Some(Err(BrokenOff::Deadline)) => record.end(End::Deadline),
                Some(Err(BrokenOff::TunnelIdle)) => record.end(End::TunnelIdle),
                Some(Err(BrokenOff::Drained)) => record.end(End::Drained),
                None => record.end(End::Complete),
            }
            let ended = match &this.kind {
                Kind::Own(bytes) => bytes.is_none(),
                Kind::Relay(relay) => relay.incoming.is_end_stream(),
            };
            if ended && matches!(frame, Some(Ok(_))) {
                record.end(End::Complete);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.is_none(),
            Kind::Relay(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Relay(relay) => relay.incoming.size_hint(),
        }
    }
}
