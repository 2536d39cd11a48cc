//! Settings and windows: how much either side may send (RFC 9113 sections 5.2, 6.5 and 6.9).
//!
//! What clients may send is what we may have to hold, if nobody takes it. Each stream has 64 KiB of its
//! own, whatever stands on the others, and the connection has room for all of them: so an upload never
//! waits for another. A stream of which all is taken as it comes may send more at once, four times as
//! much with each turn, since over a long way a window is what goes in one round trip. There are 2 MiB
//! for that, of which each gets half of what the others leave: those that go on come to equal parts, and
//! those that were given much and are silent leave something.

use super::core::{Broken, Core, FIRST_WINDOW, MAX_WINDOW, code};
use crate::framing::frames::{ACK, FrameHead, SETTINGS, WINDOW_UPDATE};
use crate::state::H2Abuse;

type Result = std::result::Result<(), Broken>;

/// What streams may have beyond their first windows, all together.
pub(super) const WIDE_BYTES: u32 = 2 * 1024 * 1024;
/// So many times as wide is the next window of a stream of which all was taken.
const WIDER_BY: u32 = 4;
/// What was taken is told on the connection when it is so much.
pub(super) const TOLD_BYTES: u32 = 256 * 1024;

/// Room for all that so many streams may send.
pub(super) fn connection_window(streams: u32) -> i64 {
    let all = i64::from(streams) * i64::from(FIRST_WINDOW) + i64::from(WIDE_BYTES + TOLD_BYTES);
    all.min(MAX_WINDOW)
}

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

    /// The client may send so much more on the connection.
    pub(super) fn credit(&mut self, bytes: usize) {
        self.taken += bytes as u32;
        if self.taken >= TOLD_BYTES {
            let taken = std::mem::take(&mut self.taken);
            self.receive_window += i64::from(taken);
            self.update_window(0, taken);
        }
    }

    /// So much of what came on a stream has gone on.
    pub(super) fn take(&mut self, key: usize, bytes: usize) {
        self.credit(bytes);
        let stream = &mut self.streams[key];
        stream.taken += bytes as u32;
        stream.moved += bytes as u64;
        if stream.receive_ended || stream.failure.is_some() {
            return;
        }
        let keeps_up = stream.untaken.is_empty();
        if keeps_up && stream.taken >= stream.window / 4 {
            self.give_window(key, WIDER_BY);
        } else if stream.taken >= stream.window / 2 {
            self.give_window(key, 1);
        }
    }

    /// Gives a stream its next window, so many times as wide as the last if there is room for that.
    fn give_window(&mut self, key: usize, wider_by: u32) {
        let most = FIRST_WINDOW + self.room_for_width(key);
        let stream = &mut self.streams[key];
        let wanted = stream.window * wider_by;
        // What was given cannot be taken back, but need not be given again.
        let rest = stream.window - std::mem::take(&mut stream.taken);
        stream.window = wanted.min(most).max(rest);
        let more = stream.window - rest;
        if more > 0 {
            stream.receive_window += i64::from(more);
            let id = stream.id;
            self.update_window(id, more);
        }
    }

    /// By how much the window of a stream may be wider than the first.
    fn room_for_width(&self, key: usize) -> u32 {
        let others = self.streams.iter().filter(|(other, _)| *other != key);
        let under_way = others.filter(|(_, stream)| stream.is_uploading());
        let used: u32 = under_way.map(|(_, stream)| stream.window - FIRST_WINDOW).sum();
        WIDE_BYTES.saturating_sub(used) / 2
    }

    pub(super) fn update_window(&mut self, id: u32, by: u32) {
        self.out.frame(WINDOW_UPDATE, 0, id, &by.to_be_bytes());
        self.wake();
    }
}
