//! Frames that a client sends, by their types (RFC 9113 section 6).

use super::core::{Accepted, Block, Broken, Core, FRAME_BYTES, Form, code};
use super::head::{Fields, Verdict};
use crate::framing::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHead, GOAWAY, HEADERS, PADDED, PING,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
};
use crate::framing::hpack::Fault;
use crate::proxy::body::UploadFailure;
use crate::state::H2Abuse;

/// A head may be so many times as large as is taken before the connection ends. One that is a little
/// too large is answered with 431.
const TOO_LARGE_BY: usize = 4;

type Result = std::result::Result<(), Broken>;

impl Core {
    /// Takes a whole frame that may come at this place.
    pub(super) fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        match head.kind {
            DATA => self.data(head, payload),
            HEADERS => self.headers(head, payload),
            CONTINUATION => self.continuation(head, payload),
            PRIORITY => self.priority(head, payload),
            RST_STREAM => self.rst_stream(head, payload),
            SETTINGS => self.settings(head, payload),
            PING => self.ping(head, payload),
            GOAWAY => self.goaway(head, payload),
            WINDOW_UPDATE => self.window_update(head, payload),
            PUSH_PROMISE => Err(Broken::error(code::PROTOCOL_ERROR)),
            // Section 5.5.
            _ => Ok(self.budgets.take(H2Abuse::UnknownFrames, 1.0)?),
        }
    }

    /// Whether the client has not opened this stream yet, or never can.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        stream > self.last_stream || stream.is_multiple_of(2)
    }

    pub(super) fn data(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        let content = unpadded(head, payload)?;
        let ends = head.has(END_STREAM);
        if self.is_idle(head.stream) {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        if content.is_empty() && !ends {
            self.budgets.take(H2Abuse::EmptyData, 1.0)?;
        }
        // Padding counts too (section 6.9.1).
        self.receive_window -= payload.len() as i64;
        if self.receive_window < 0 {
            return Err(Broken::error(code::FLOW_CONTROL_ERROR));
        }
        let Some(key) = self.find(head.stream) else {
            self.credit(payload.len());
            return match self.find_reset(head.stream) {
                Some(reset) => reset.data(payload.len(), ends),
                None => self.refuse_unheld(head.stream, code::STREAM_CLOSED),
            };
        };
        let stream = &mut self.streams[key];
        stream.receive_window -= payload.len() as i64;
        let fault = if stream.receive_ended {
            Some(code::STREAM_CLOSED)
        } else if stream.receive_window < 0 {
            Some(code::FLOW_CONTROL_ERROR)
        } else {
            // Section 8.1.1.
            let left = stream.length_left.map(|left| left.checked_sub(content.len() as u64));
            stream.length_left = left.flatten();
            let too_much = left.is_some_and(|left| left.is_none());
            let too_little = ends && left.flatten() > Some(0);
            (too_much || too_little).then_some(code::PROTOCOL_ERROR)
        };
        if let Some(code) = fault {
            self.credit(payload.len());
            return self.refuse(key, code);
        }
        stream.receive_ended = ends;
        let receiver = stream.receiver.take();
        if stream.discards {
            self.credit(payload.len());
        } else {
            stream.untaken.push(content);
            self.take(key, payload.len() - content.len());
        }
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        if ends {
            self.close_if_over(key);
        }
        Ok(())
    }

    fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        // Section 5.1.1.
        if head.stream == 0 || head.stream.is_multiple_of(2) {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        let mut block = unpadded(head, payload)?;
        let mut circular = false;
        if head.has(WITH_PRIORITY) {
            let (priority, rest) =
                block.split_at_checked(5).ok_or(Broken::error(code::PROTOCOL_ERROR))?;
            circular = depends_on(priority) == Some(head.stream);
            block = rest;
        }
        if block.is_empty() && !head.has(END_STREAM) {
            self.budgets.take(H2Abuse::EmptyHeaders, 1.0)?;
        }
        let is_new = head.stream > self.last_stream;
        if is_new {
            if head.stream > self.last_stream + 2 {
                self.passed_over = self.last_stream + 1..head.stream;
            }
            self.last_stream = head.stream;
            self.budgets.take(H2Abuse::StreamChurn, 1.0)?;
        } else if self.find(head.stream).is_some() {
            // Trailers.
        } else if self.find_reset(head.stream).is_some() {
            // On their way, once; and they have to be decoded.
            self.budgets.take(H2Abuse::StreamChurn, 1.0)?;
        } else {
            // Section 5.1.1 for streams that never were, section 5.1 for those that are over.
            return Err(Broken::error(match self.passed_over.contains(&head.stream) {
                true => code::PROTOCOL_ERROR,
                false => code::STREAM_CLOSED,
            }));
        }
        if head.has(END_HEADERS) {
            return self.fields(head, circular, block, is_new);
        }
        let (stream, flags, bytes) = (head.stream, head.flags, block.to_vec());
        self.block = Some(Block { stream, flags, circular, is_new, bytes, frames: 0 });
        Ok(())
    }

    /// A block may have as many frames as full ones would be, and a quarter more, and as many bytes as
    /// a head, twice: compressed fields are never larger than the plain ones are counted.
    fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        let Some(block) = &mut self.block else {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        };
        let ends = head.has(END_HEADERS);
        block.bytes.extend_from_slice(payload);
        block.frames += u32::from(!ends);
        let max_bytes = self.limits.max_header_bytes as usize;
        let full = (max_bytes / FRAME_BYTES).max(1);
        if block.frames as usize > (full + full / 4).max(5)
            || block.bytes.len() > max_bytes.saturating_mul(2)
        {
            return Err(H2Abuse::Continuation.into());
        }
        match self.block.take_if(|_| ends) {
            Some(Block { stream, flags, circular, is_new, bytes, .. }) => {
                let head = FrameHead { length: bytes.len(), kind: HEADERS, flags, stream };
                self.fields(head, circular, &bytes, is_new)
            }
            None => Ok(()),
        }
    }

    /// A whole header block: the head of a request, or trailers.
    fn fields(&mut self, head: FrameHead, circular: bool, block: &[u8], is_new: bool) -> Result {
        self.block_ended = true;
        let max_bytes = self.limits.max_header_bytes as usize;
        let mut fields = Fields::new(self.spare.take(), max_bytes);
        let most = max_bytes.saturating_mul(TOO_LARGE_BY);
        let decoded = self.decoder.decode(block, most, |field| fields.add(field));
        decoded.map_err(|fault| match fault {
            Fault::Compression => Broken::error(code::COMPRESSION_ERROR),
            Fault::TooLarge => H2Abuse::HeaderList.into(),
        })?;
        let ends = head.has(END_STREAM);
        if is_new {
            return self.request(head.stream, circular, ends, fields);
        }
        // It may have gone meanwhile; then its fields had to be decoded all the same.
        match self.find(head.stream) {
            Some(key) => self.trailers(key, circular, ends, fields),
            None => Ok(()),
        }
    }

    fn request(&mut self, id: u32, circular: bool, ends: bool, fields: Fields) -> Result {
        if self.is_full() || self.is_closed_to_new() {
            self.reset_unheld(id, code::REFUSED_STREAM);
            return Ok(());
        }
        if circular {
            return self.refuse_unheld(id, code::PROTOCOL_ERROR);
        }
        let Ok(Verdict { request, form, length, expects }) = fields.into_request(ends) else {
            return self.refuse_unheld(id, code::PROTOCOL_ERROR);
        };
        let key = self.open(id);
        let stream = &mut self.streams[key];
        stream.receive_ended = ends;
        stream.length_left = length;
        stream.expects = expects && form == Form::Body;
        // For whoever will serve it; for whoever will read from it, besides.
        self.hold(key);
        if form != Form::None {
            self.hold(key);
        }
        self.accepted.push(Accepted { key, request, form });
        Ok(())
    }

    fn trailers(&mut self, key: usize, circular: bool, ends: bool, fields: Fields) -> Result {
        let stream = &mut self.streams[key];
        if stream.receive_ended {
            // Section 5.1.
            return Err(Broken::error(code::STREAM_CLOSED));
        }
        let trailers = fields.into_trailers(usize::from(self.limits.max_headers));
        let (Ok(trailers), true, false) = (trailers, ends, circular) else {
            return self.refuse(key, code::PROTOCOL_ERROR);
        };
        if stream.length_left > Some(0) {
            return self.refuse(key, code::PROTOCOL_ERROR);
        }
        stream.receive_ended = true;
        match trailers {
            Ok(trailers) => stream.trailers = (!trailers.is_empty()).then(|| Box::new(trailers)),
            Err(failure) => stream.unfit = Some(failure),
        }
        if let Some(receiver) = stream.receiver.take() {
            receiver.wake();
        }
        self.close_if_over(key);
        Ok(())
    }

    /// Nobody goes by priorities any more (section 5.3.2).
    fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        if payload.len() != 5 {
            return Err(Broken::error(code::FRAME_SIZE_ERROR));
        }
        if head.stream == 0 {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        self.budgets.take(H2Abuse::Priority, 1.0)?;
        match self.find(head.stream) {
            Some(key) if depends_on(payload) == Some(head.stream) => {
                self.refuse(key, code::PROTOCOL_ERROR)
            }
            _ => Ok(()),
        }
    }

    fn rst_stream(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        if payload.len() != 4 {
            return Err(Broken::error(code::FRAME_SIZE_ERROR));
        }
        if self.is_idle(head.stream) {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        self.budgets.take(H2Abuse::RapidReset, 1.0)?;
        if let Some(key) = self.find(head.stream) {
            if self.streams[key].sent_head {
                self.budgets.ended_stream();
            }
            self.fail(key, UploadFailure::Left);
        }
        Ok(())
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        if payload.len() != 8 {
            return Err(Broken::error(code::FRAME_SIZE_ERROR));
        }
        if head.stream != 0 {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        self.budgets.take(H2Abuse::Ping, 1.0)?;
        match head.has(ACK) {
            true => self.answered_ping(payload),
            false => self.out.frame(PING, ACK, 0, payload),
        }
        Ok(())
    }

    fn goaway(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        if head.stream != 0 {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        if payload.len() < 8 {
            return Err(Broken::error(code::FRAME_SIZE_ERROR));
        }
        self.budgets.take(H2Abuse::UnknownFrames, 1.0)?;
        self.client_leaves = true;
        Ok(())
    }
}

/// What is in a payload beside padding (sections 6.1 and 6.2).
fn unpadded(head: FrameHead, payload: &[u8]) -> std::result::Result<&[u8], Broken> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let content = payload.split_first().and_then(|(padding, rest)| {
        let content = rest.len().checked_sub(usize::from(*padding))?;
        Some(&rest[..content])
    });
    content.ok_or(Broken::error(code::PROTOCOL_ERROR))
}

/// The stream that a priority names (section 6.3).
fn depends_on(priority: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*priority.first_chunk()?) & 0x7fff_ffff)
}
