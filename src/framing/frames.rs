//! Frame boundaries in a stream of bytes (RFC 9113 section 4.1), found without copying payloads.

/// Frame types (RFC 9113 section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// Bytes of a frame's head.
const HEAD: usize = 9;
/// How much of a payload is looked at: a GOAWAY's stream, code, and the start of its debug data.
const START: usize = 16;

/// The head of a frame, and the start of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    /// Bytes of the payload.
    pub(crate) length: u32,
    /// Its first bytes, 16 at most.
    pub(crate) start: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether its payload is nothing but padding, if that.
    pub(crate) fn is_empty(&self) -> bool {
        match self.start {
            [] => true,
            [padding, ..] if self.has(PADDED) => u32::from(*padding) + 1 >= self.length,
            _ => false,
        }
    }

    /// The 32-bit number at this place of the payload.
    pub(crate) fn number_at(&self, place: usize) -> Option<u32> {
        let bytes = self.start.get(place..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes))
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A frame begins.
    Frame(Frame<'a>),
    /// More of the payload of the frame before.
    Payload(&'a [u8]),
}

/// Follows the frames of one direction of a connection, however reads or writes split them.
#[derive(Debug)]
pub(crate) struct Frames {
    /// A frame's head and the start of its payload, as far as they have come.
    begun: [u8; HEAD + START],
    have: usize,
    /// What is left of a payload, or of the preface.
    skip: u32,
}

impl Frames {
    /// Frames that come after so many other bytes.
    pub(crate) fn after(preface: u32) -> Frames {
        Frames { begun: [0; HEAD + START], have: 0, skip: preface }
    }

    /// Looks at the next bytes. Gives each frame once enough of it is there, and then what more there
    /// is of its payload.
    ///
    /// # Errors
    /// What `each` fails with; the bytes after that piece are not looked at.
    pub(crate) fn feed<E>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(self.skip as usize);
                self.skip -= skipped as u32;
                each(Piece::Payload(&bytes[..skipped]))?;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted =
                if self.have < HEAD { HEAD } else { HEAD + (self.length() as usize).min(START) };
            let taken = bytes.len().min(wanted - self.have);
            self.begun[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEAD {
                return Ok(());
            }
            let start = (self.length() as usize).min(START);
            if self.have == HEAD + start {
                self.skip = self.length() - start as u32;
                self.have = 0;
                each(Piece::Frame(self.frame(start)))?;
            }
        }
        Ok(())
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn at_boundary(&self) -> bool {
        self.have == 0 && self.skip == 0
    }

    /// Whether the bytes stop within a frame of header fields.
    pub(crate) fn within_fields(&self) -> bool {
        (self.skip > 0 || self.have >= HEAD) && matches!(self.begun[3], HEADERS | CONTINUATION)
    }

    fn length(&self) -> u32 {
        u32::from_be_bytes([0, self.begun[0], self.begun[1], self.begun[2]])
    }

    fn frame(&self, start: usize) -> Frame<'_> {
        let [_, _, _, kind, flags, a, b, c, d, ..] = self.begun;
        Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff,
            length: self.length(),
            start: &self.begun[HEAD..HEAD + start],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u32;
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    type Seen = (u8, u8, u32, u32, Vec<u8>);

    fn seen(frames: &mut Frames, pieces: &[&[u8]]) -> Vec<Seen> {
        let mut seen = Vec::new();
        for piece in pieces {
            let Ok(()) = frames.feed(piece, |piece| {
                match (piece, seen.last_mut()) {
                    (Piece::Frame(f), _) => {
                        seen.push((f.kind, f.flags, f.stream, f.length, f.start.to_vec()));
                    }
                    (Piece::Payload(more), Some(frame)) => frame.4.extend(more),
                    // The preface.
                    (Piece::Payload(_), None) => {}
                }
                Ok::<(), Infallible>(())
            });
        }
        seen
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_split() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frame(HEADERS, END_HEADERS, 0x8000_0001, &[7; 40]));
        bytes.extend(frame(DATA, END_STREAM, 1, &[8; 16]));
        bytes.extend(frame(PING, 0, 0, b"12345678"));
        let whole = seen(&mut Frames::after(24), &[&bytes]);
        assert_eq!(
            whole,
            [
                (SETTINGS, 0, 0, 0, vec![]),
                (HEADERS, END_HEADERS, 1, 40, vec![7; 40]),
                (DATA, END_STREAM, 1, 16, vec![8; 16]),
                (PING, 0, 0, 8, b"12345678".to_vec()),
            ]
        );
        for at in 0..bytes.len() {
            let mut frames = Frames::after(24);
            let split = seen(&mut frames, &[&bytes[..at], &bytes[at..]]);
            assert_eq!(split, whole, "split at {at}");
            assert!(frames.at_boundary());
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(seen(&mut Frames::after(24), &single), whole);
    }

    #[test]
    fn nothing_is_looked_at_after_an_error() {
        let bytes = [frame(PING, 0, 0, b"12345678"), frame(PING, 0, 0, b"12345678")].concat();
        let mut count = 0;
        let result = Frames::after(0).feed(&bytes, |_| {
            count += 1;
            Err("enough")
        });
        assert_eq!((result, count), (Err("enough"), 1));
    }

    #[test]
    fn where_a_frame_of_fields_stops() {
        let bytes = frame(HEADERS, 0, 1, &[0; 40]);
        for (length, within) in [(8, false), (9, true), (30, true), (49, false)] {
            let mut frames = Frames::after(0);
            seen(&mut frames, &[&bytes[..length]]);
            assert_eq!(frames.within_fields(), within, "{length}");
        }
        let mut frames = Frames::after(0);
        seen(&mut frames, &[&frame(DATA, 0, 1, &[0; 40])[..20]]);
        assert!(!frames.within_fields());
    }

    #[test]
    fn what_is_empty() {
        for (flags, payload, empty) in [
            (0, &[][..], true),
            (0, &[0], false),
            (PADDED, &[0], true),
            (PADDED, &[2, 0, 0], true),
            (PADDED, &[1, 7, 0], false),
        ] {
            let length = payload.len() as u32;
            let frame = Frame { kind: DATA, flags, stream: 1, length, start: payload };
            assert_eq!(frame.is_empty(), empty, "{flags} {payload:?}");
        }
    }
}
