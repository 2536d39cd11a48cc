//! Settings and windows: how much either side may send (RFC 9113 sections 5.2, 6.5 and 6.9).

use super::core::{Broken, CONNECTION_WINDOW, Core, MAX_WINDOW, STREAM_WINDOW, code};
use crate::framing::frames::{ACK, FrameHead, SETTINGS, WINDOW_UPDATE};
use crate::state::H2Abuse;

type Result = std::result::Result<(), Broken>;

impl Core {
    pub(super) fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        let acknowledges = head.has(ACK);
        if !payload.len().is_multiple_of(6) || (acknowledges && !payload.is_empty()) {
            return Err(Broken::error(code::FRAME_SIZE_ERROR));
        }
        if head.stream != 0 {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        self.greeted = true;
        // Each setting counts too, ten for a frame.
        self.budgets.take(H2Abuse::Settings, 1.0 + payload.len() as f32 / 60.0)?;
        if acknowledges {
            return Ok(());
        }
        for entry in payload.chunks_exact(6) {
            let [a, b, c, d, e, f] = *entry else { continue };
            self.setting(u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))?;
        }
        self.out.frame(SETTINGS, ACK, 0, &[]);
        Ok(())
    }

    /// Section 6.5.2.
    fn setting(&mut self, name: u16, value: u32) -> Result {
        const ENABLE_PUSH: u16 = 2;
        const INITIAL_WINDOW_SIZE: u16 = 4;
        const MAX_FRAME_SIZE: u16 = 5;
        match name {
            ENABLE_PUSH if value > 1 => Err(Broken::error(code::PROTOCOL_ERROR)),
            MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                Err(Broken::error(code::PROTOCOL_ERROR))
            }
            INITIAL_WINDOW_SIZE => self.first_window(i64::from(value)),
            // Whatever table the client has, we put nothing into it.
            _ => Ok(()),
        }
    }

    /// Section 6.9.2.
    fn first_window(&mut self, window: i64) -> Result {
        if window > MAX_WINDOW {
            return Err(Broken::error(code::FLOW_CONTROL_ERROR));
        }
        let by = window - self.first_send_window;
        self.first_send_window = window;
        for (key, stream) in &mut self.streams {
            stream.send_window += by;
            if stream.send_window > MAX_WINDOW {
                return Err(Broken::error(code::FLOW_CONTROL_ERROR));
            }
            if stream.may_queue() {
                stream.in_line = true;
                self.line.push_back(key);
            }
        }
        Ok(())
    }

    pub(super) fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result {
        let Some(by) = payload.first_chunk().filter(|_| payload.len() == 4) else {
            return Err(Broken::error(code::FRAME_SIZE_ERROR));
        };
        self.budgets.take(H2Abuse::WindowUpdate, 1.0)?;
        let by = i64::from(u32::from_be_bytes(*by) & 0x7fff_ffff);
        if head.stream == 0 {
            self.send_window += by;
            return match by {
                0 => Err(Broken::error(code::PROTOCOL_ERROR)),
                _ if self.send_window > MAX_WINDOW => Err(Broken::error(code::FLOW_CONTROL_ERROR)),
                _ => Ok(()),
            };
        }
        if self.is_idle(head.stream) {
            return Err(Broken::error(code::PROTOCOL_ERROR));
        }
        // Of a stream that is over it means nothing.
        let Some(key) = self.find(head.stream) else { return Ok(()) };
        if by == 0 {
            return self.refuse(key, code::PROTOCOL_ERROR);
        }
        let stream = &mut self.streams[key];
        stream.send_window += by;
        if stream.send_window > MAX_WINDOW {
            return self.refuse(key, code::FLOW_CONTROL_ERROR);
        }
        self.queue(key);
        Ok(())
    }

    /// The client may send so much more on the connection: it is told of that from half of the window
    /// on, and where less is left, because others' content is not taken, before that is used up.
    pub(super) fn credit(&mut self, bytes: usize) {
        self.taken += bytes as u32;
        let is_much = self.taken >= CONNECTION_WINDOW / 2;
        if is_much || (self.taken > 0 && i64::from(self.taken) >= self.receive_window) {
            let taken = std::mem::take(&mut self.taken);
            self.receive_window += i64::from(taken);
            self.update_window(0, taken);
        }
    }

    /// So much of what came on a stream has gone on.
    pub(super) fn take(&mut self, key: usize, bytes: usize) {
        let stream = &mut self.streams[key];
        stream.taken += bytes as u32;
        stream.moved += bytes as u64;
        if stream.taken >= STREAM_WINDOW / 2 && !stream.receive_ended && stream.failure.is_none() {
            let taken = std::mem::take(&mut stream.taken);
            stream.receive_window += i64::from(taken);
            let id = stream.id;
            self.update_window(id, taken);
        }
        self.credit(bytes);
    }

    pub(super) fn update_window(&mut self, id: u32, by: u32) {
        self.out.frame(WINDOW_UPDATE, 0, id, &by.to_be_bytes());
        self.wake();
    }
}
