//! The frames of HTTP/2 (RFC 9113 section 4.1): their heads, and where they are in a stream of bytes.

/// Frame types (RFC 9113 section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Bytes of the payload.
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHead {
    /// Bytes of it.
    pub(crate) const BYTES: usize = 9;

    /// Reads it from the start of some bytes, if all of it is there.
    pub(crate) fn read(bytes: &[u8]) -> Option<FrameHead> {
        let [x, y, z, kind, flags, a, b, c, d] = *bytes.first_chunk()?;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        let stream = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
        Some(FrameHead { length, kind, flags, stream })
    }

    /// As it goes out.
    pub(crate) fn bytes(self) -> [u8; Self::BYTES] {
        let [_, x, y, z] = (self.length as u32).to_be_bytes();
        let [a, b, c, d] = self.stream.to_be_bytes();
        [x, y, z, self.kind, self.flags, a, b, c, d]
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The bytes of a frame's head, as far as they came with its last one.
#[derive(Debug)]
pub(crate) struct HeadBytes<'a>(&'a mut [u8]);

impl HeadBytes<'_> {
    /// Where the type stands, from the end.
    const KIND: usize = 6;
    /// A type that nothing is known of: such frames are read over (RFC 9113 section 5.5).
    const UNKNOWN: u8 = 0xff;

    /// Makes it a frame that is read over, if its type is here; whether it is.
    pub(crate) fn make_unknown(&mut self) -> bool {
        let kind = self.0.len().checked_sub(Self::KIND).and_then(|at| self.0.get_mut(at));
        kind.map(|kind| *kind = Self::UNKNOWN).is_some()
    }
}

/// Follows the frames of one direction of a connection, however its bytes are split, for whoever does
/// not look at payloads.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// A frame's head, as far as it has come.
    begun: [u8; FrameHead::BYTES],
    have: usize,
    /// What is left of a payload.
    skip: usize,
}

impl Frames {
    /// Looks at the next bytes, and gives the head of each frame that begins, with what of it is in
    /// these bytes.
    ///
    /// # Errors
    /// What `each` fails with; the bytes behind that head are not looked at.
    pub(crate) fn feed<E>(
        &mut self,
        mut bytes: &mut [u8],
        mut each: impl FnMut(FrameHead, &mut HeadBytes<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.skip);
            self.skip -= skipped;
            bytes = &mut bytes[skipped..];
            let taken = bytes.len().min(FrameHead::BYTES - self.have);
            let (part, rest) = bytes.split_at_mut(taken);
            self.begun[self.have..self.have + taken].copy_from_slice(part);
            self.have += taken;
            bytes = rest;
            if self.have == FrameHead::BYTES
                && let Some(head) = FrameHead::read(&self.begun)
            {
                self.have = 0;
                self.skip = head.length;
                each(head, &mut HeadBytes(part))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let head = FrameHead { length: payload.len(), kind, flags, stream };
        [&head.bytes(), payload].concat()
    }

    fn seen(frames: &mut Frames, pieces: &[&[u8]]) -> Vec<(u8, u8, u32, usize)> {
        let mut seen = Vec::new();
        for piece in pieces {
            let Ok(()) = frames.feed(&mut piece.to_vec(), |head, _| {
                seen.push((head.kind, head.flags, head.stream, head.length));
                Ok::<(), Infallible>(())
            });
        }
        seen
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = FrameHead { length: 0x12345, kind: PING, flags: ACK, stream: 0x7fff_fffe };
        assert_eq!(FrameHead::read(&head.bytes()), Some(head));
        assert_eq!(FrameHead::read(&head.bytes()[..8]), None);
        // The reserved bit is no part of the stream's number.
        let reserved = FrameHead { stream: 0x8000_0001, ..head };
        assert_eq!(FrameHead::read(&reserved.bytes()).map(|head| head.stream), Some(1));
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_split() {
        let mut bytes = frame(SETTINGS, 0, 0, &[]);
        bytes.extend(frame(HEADERS, END_HEADERS, 1, &[7; 40]));
        bytes.extend(frame(DATA, END_STREAM, 1, &[8; 16]));
        bytes.extend(frame(PING, 0, 0, b"12345678"));
        let whole = seen(&mut Frames::default(), &[&bytes]);
        assert_eq!(
            whole,
            [
                (SETTINGS, 0, 0, 0),
                (HEADERS, END_HEADERS, 1, 40),
                (DATA, END_STREAM, 1, 16),
                (PING, 0, 0, 8),
            ]
        );
        for at in 0..bytes.len() {
            let split = seen(&mut Frames::default(), &[&bytes[..at], &bytes[at..]]);
            assert_eq!(split, whole, "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(seen(&mut Frames::default(), &single), whole);
    }

    #[test]
    fn nothing_is_looked_at_after_an_error() {
        let mut bytes = [frame(PING, 0, 0, b"12345678"), frame(PING, 0, 0, b"12345678")].concat();
        let mut count = 0;
        let result = Frames::default().feed(&mut bytes, |_, _| {
            count += 1;
            Err("enough")
        });
        assert_eq!((result, count), (Err("enough"), 1));
    }

    #[test]
    fn a_frame_is_made_unknown_where_its_type_came_with_the_end_of_its_head() {
        let whole = [frame(DATA, 0, 1, b""), frame(PING, 0, 0, b"12345678")].concat();
        for at in 0..=FrameHead::BYTES {
            let (mut first, mut second) = (whole[..at].to_vec(), whole[at..].to_vec());
            let mut frames = Frames::default();
            let mut made = Vec::new();
            for piece in [&mut first, &mut second] {
                let Ok(()) = frames.feed(piece, |head, bytes| {
                    if head.kind == DATA {
                        made.push(bytes.make_unknown());
                    }
                    Ok::<(), Infallible>(())
                });
            }
            let can = !(4..FrameHead::BYTES).contains(&at);
            assert_eq!(made, [can], "split at {at}");
            let mut expected = whole.clone();
            if can {
                expected[3] = 0xff;
            }
            assert_eq!([first, second].concat(), expected, "split at {at}");
        }
    }
}
