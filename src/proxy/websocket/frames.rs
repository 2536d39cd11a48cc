//! Where the frames of a WebSocket end (RFC 6455 section 5.2), so that one of ours can stand between
//! two of the backend's. Nothing else of them is looked at.

/// Tells the frames of one direction apart. It has to see every byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames {
    /// Of a header, as much as has come of it.
    header: [u8; MAX_HEADER],
    header_bytes: u8,
    /// Of the payload, what is still to come.
    payload: u64,
}

/// Two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

impl Frames {
    /// Whether the bytes that were seen end with a frame.
    pub fn at_boundary(&self) -> bool {
        self.header_bytes == 0 && self.payload == 0
    }

    /// Takes bytes, in order.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.step(bytes)..];
        }
    }

    /// Takes bytes up to the end of a frame that has begun, and says how many those are; all of them,
    /// if it does not end among them.
    pub fn pass_frame(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while passed < bytes.len() && !self.at_boundary() {
            passed += self.step(&bytes[passed..]);
        }
        passed
    }

    /// Takes a stretch of payload, or a byte of a header.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.payload > 0 {
            let length = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            self.payload -= length as u64;
            return length;
        }
        self.header[usize::from(self.header_bytes)] = bytes[0];
        self.header_bytes += 1;
        if let Some(payload) = self.payload_behind_header() {
            self.payload = payload;
            self.header_bytes = 0;
        }
        1
    }

    /// The length of the payload, once the header is whole.
    fn payload_behind_header(&self) -> Option<u64> {
        let header = self.header.get(..usize::from(self.header_bytes))?;
        let second = *header.get(1)?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let short = second & 0x7f;
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if header.len() < 2 + length_bytes + mask {
            return None;
        }
        let length =
            header[2..2 + length_bytes].iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        Some(if length_bytes == 0 { u64::from(short) } else { length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with so much payload, as a server or a client sends it.
    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        // Payload that looks like headers.
        frame.extend(vec![0xff; length + if masked { 4 } else { 0 }]);
        frame
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_come() {
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 0];
        for masked in [false, true] {
            let all: Vec<Vec<u8>> = lengths.iter().map(|&length| frame(length, masked)).collect();
            let ends: Vec<usize> = all
                .iter()
                .scan(0, |end, frame| {
                    *end += frame.len();
                    Some(*end)
                })
                .collect();
            let bytes = all.concat();
            for piece in [1, 3, 1_000, bytes.len()] {
                let (mut frames, mut seen) = (Frames::default(), 0);
                for part in bytes.chunks(piece) {
                    frames.pass(part);
                    seen += part.len();
                    assert_eq!(frames.at_boundary(), ends.contains(&seen), "{piece} {seen}");
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_frame_that_has_begun_is_found_among_others() {
        let (first, second) = (frame(300, false), frame(5, false));
        let mut frames = Frames::default();
        frames.pass(&first[..100]);
        let rest = [&first[100..], &second].concat();
        assert_eq!(frames.pass_frame(&rest), first.len() - 100);
        assert!(frames.at_boundary());
        assert_eq!(frames.pass_frame(&second), 0, "none has begun");
    }

    #[test]
    fn a_length_beyond_all_bounds_is_only_a_number() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
        assert!(!frames.at_boundary());
    }
}
