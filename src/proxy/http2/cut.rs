//! Bytes that a client sends, cut into frames (RFC 9113 section 4).

use super::core::{Broken, Core, FRAME_BYTES, code};
use crate::framing::frames::{ACK, CONTINUATION, DATA, END_STREAM, FrameHead, PADDED, SETTINGS};

/// The client's first bytes (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
type Result = std::result::Result<(), Broken>;

impl Core {
    /// Takes bytes that came. Frames that have not come in full wait, but for content, which goes on as
    /// it comes: whoever waits for it sees that it does, and nothing is held twice.
    ///
    /// # Errors
    /// The connection is to end.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> Result {
        self.heard = true;
        if !self.prefaced {
            let rest = PREFACE.get(self.partial.len()..).unwrap_or_default();
            let (come, behind) = bytes.split_at(bytes.len().min(rest.len()));
            if !rest.starts_with(come) {
                return Err(Broken::error(code::PROTOCOL_ERROR));
            }
            self.partial.extend_from_slice(come);
            if come.len() < rest.len() {
                return Ok(());
            }
            self.partial.clear();
            self.prefaced = true;
            bytes = behind;
        }
        if !self.partial.is_empty() {
            bytes = self.complete(bytes)?;
        }
        loop {
            bytes = self.go_on(bytes)?;
            let Some(head) = head_of(bytes)? else { break };
            let behind = &bytes[FrameHead::BYTES..];
            bytes = match behind.split_at_checked(head.length) {
                Some((payload, behind)) => {
                    self.check_order(head)?;
                    self.frame(head, payload)?;
                    behind
                }
                None if is_plain_data(head) => {
                    self.begin_data(head)?;
                    behind
                }
                None => break,
            };
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes what has come of content that has begun; gives what is behind it.
    fn go_on<'a>(&mut self, bytes: &'a [u8]) -> std::result::Result<&'a [u8], Broken> {
        let Some(rest) = self.rest.take_if(|_| !bytes.is_empty()) else { return Ok(bytes) };
        let (part, behind) = bytes.split_at(rest.length.min(bytes.len()));
        let length = rest.length - part.len();
        let flags = if length == 0 { rest.flags } else { rest.flags & !END_STREAM };
        self.data(FrameHead { length: part.len(), flags, ..rest }, part)?;
        self.rest = (length > 0).then_some(FrameHead { length, ..rest });
        Ok(behind)
    }

    fn begin_data(&mut self, head: FrameHead) -> Result {
        self.check_order(head)?;
        self.rest = Some(head);
        Ok(())
    }

    /// Completes the frame that waits, if that is possible; gives what is behind it.
    fn complete<'a>(&mut self, mut bytes: &'a [u8]) -> std::result::Result<&'a [u8], Broken> {
        let mut add = |partial: &mut Vec<u8>, wanted: usize| {
            let missing = wanted.saturating_sub(partial.len()).min(bytes.len());
            partial.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            partial.len() >= wanted
        };
        if !add(&mut self.partial, FrameHead::BYTES) {
            return Ok(bytes);
        }
        let Some(head) = head_of(&self.partial)? else { return Ok(bytes) };
        if is_plain_data(head) {
            self.partial.clear();
            self.begin_data(head)?;
        } else if add(&mut self.partial, FrameHead::BYTES + head.length) {
            let mut whole = std::mem::take(&mut self.partial);
            self.check_order(head)?;
            self.frame(head, &whole[FrameHead::BYTES..])?;
            whole.clear();
            self.partial = whole;
        }
        Ok(bytes)
    }

    /// Whether a frame may come at this place.
    fn check_order(&self, head: FrameHead) -> Result {
        let FrameHead { kind, stream, .. } = head;
        // Section 3.4.
        if !self.greeted && (kind != SETTINGS || head.has(ACK)) {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        // Section 6.10.
        let awaited = self.block.as_ref().map(|block| block.stream);
        if awaited.is_some_and(|awaited| kind != CONTINUATION || stream != awaited) {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        Ok(())
    }
}

/// The head of the frame that some bytes begin with.
fn head_of(bytes: &[u8]) -> std::result::Result<Option<FrameHead>, Broken> {
    let head = FrameHead::read(bytes);
    match head {
        // Section 4.2.
        Some(head) if head.length > FRAME_BYTES => Err(Broken::error(code::FRAME_SIZE_ERROR)),
        head => Ok(head),
    }
}

/// Whether all of its payload is content, of which there is some.
fn is_plain_data(head: FrameHead) -> bool {
    head.kind == DATA && head.length > 0 && !head.has(PADDED)
}
