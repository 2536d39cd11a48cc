//! Classes of bytes, and the search for the end of a line's text.

/// Bytes of a token (RFC 9110 section 5.6.2).
pub(crate) const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");

/// Bytes that may stand in a request target: visible ASCII but for the fragment's `#` and for
/// those that no client leaves bare and that backends disagree about (RFC 3986 section 2).
pub(crate) const TARGET: [bool; 256] = table(b"!$%&'()*+,-./:;=?@[\\]^_`{|}~");

/// Those of a target that need no second look where they stand in a path.
pub(crate) const PLAIN_PATH: [bool; 256] = table(b"!$&'()*+,-/:;=@[]^_`{|}~");

/// Bytes of a host's name or IPv4 address, as far as we take them: see `proxy::host`.
pub(crate) const HOST: [bool; 256] = table(b"-._~");

/// In each byte of a word a one, and the highest bit.
const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES * 0x80;

/// True if a request target may hold all of these bytes.
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    outside(&TARGET, bytes, 0).is_none()
}

const fn table(marks: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
}

/// Where the first byte stands, from `from` on, that `class` does not hold.
pub(crate) fn outside(class: &[bool; 256], bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    Some(from + rest.iter().position(|&byte| !class[byte as usize])?)
}

/// True for control bytes but HTAB (RFC 9110 section 5.5).
pub(crate) fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Where a token ends that begins at `from`. Eight bytes at a time as far as they are letters and
/// hyphens: few names of fields have others.
#[inline]
pub(crate) fn token_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(word) = bytes.get(at..)?.first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let low = word & !TOPS;
        // A carry into the top bit of a byte says that what was added to reached what is looked for.
        let small = low | (ONES * 0x20);
        let letter = (small + ONES * (0x80 - 0x61)) & !(small + ONES * (0x80 - 0x7b));
        let other_than_hyphen = (low ^ (ONES * 0x2d)) + ONES * 0x7f;
        let marks = ((!letter & other_than_hyphen) | word) & TOPS;
        if marks == 0 {
            at += 8;
            continue;
        }
        let bits = marks.trailing_zeros() & !7;
        at += (bits / 8) as usize;
        if (word >> bits) as u8 == b':' {
            return Some(at);
        }
        break;
    }
    outside(&TOKEN, bytes, at)
}

/// Where the first control byte stands, from `from` on. Eight bytes at a time: values are most of
/// a head, and this one pass both ends the line and checks it.
#[inline]
pub(crate) fn control_byte(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(word) = bytes.get(at..)?.first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let not_del = word ^ (ONES * 0x7f);
        let del = not_del.wrapping_sub(ONES) & !not_del;
        // Borrows can only mark a byte wrongly above one that is marked rightly, so the lowest
        // mark is always true.
        let marks = (below_space | del) & TOPS;
        if marks == 0 {
            at += 8;
            continue;
        }
        let bits = marks.trailing_zeros() & !7;
        at += (bits / 8) as usize;
        if (word >> bits) as u8 != b'\t' {
            return Some(at);
        }
        at += 1;
    }
    Some(at + bytes[at..].iter().position(|&byte| is_control(byte))?)
}

/// Takes white space (RFC 9110 section 5.6.3) off both ends: only space and HTAB, no more.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place between those that are passed over.
    fn each(passed: u8, mut judge: impl FnMut(&[u8], usize)) {
        for length in [1, 7, 8, 9, 16, 20] {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![passed; length];
                    bytes[at] = byte;
                    judge(&bytes, at.min(3));
                }
            }
        }
    }

    #[test]
    fn a_token_ends_where_its_table_says() {
        for passed in [b'a', b'Z', b'-', b'_'] {
            each(passed, |bytes, from| {
                assert_eq!(token_end(bytes, from), outside(&TOKEN, bytes, from), "{bytes:?}");
            });
        }
    }

    #[test]
    fn the_first_control_byte_is_found() {
        for passed in [b' ', b'\t', b'x', 0xff] {
            each(passed, |bytes, from| {
                let wanted = bytes[from..].iter().position(|&byte| is_control(byte));
                assert_eq!(control_byte(bytes, from), wanted.map(|at| from + at), "{bytes:?}");
            });
        }
    }
}
