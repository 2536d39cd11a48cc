//! Comparing names, and the words of values, with those that we know.

/// Whether these bytes are the known ones, in any case. Those are small letters, digits and hyphens.
///
/// As `eq_ignore_ascii_case`, but words at a time: a head consists of names that are known, and each is
/// compared up to its end.
#[inline]
pub(crate) fn is<const N: usize>(bytes: &[u8], known: &[u8; N]) -> bool {
    /// Of the known bytes only letters have this bit. The next lower one makes them small.
    const LETTER: u8 = 0x40;
    let Ok(bytes) = <&[u8; N]>::try_from(bytes) else { return false };
    // The last word goes back over what was compared already.
    if N >= 4 {
        let size = if N >= 8 { 8 } else { 4 };
        let word = |of: &[u8; N], at: usize| match size {
            8 => of[at..].first_chunk().map(|it| u64::from_le_bytes(*it)),
            _ => of[at..].first_chunk().map(|it| u64::from(u32::from_le_bytes(*it))),
        };
        let differs = |at: usize| {
            let (Some(one), Some(known)) = (word(bytes, at), word(known, at)) else { return true };
            let letters = known & (u64::MAX / 255 * u64::from(LETTER));
            (one ^ known) & !(letters >> 1) != 0
        };
        return !(0..N).step_by(size).any(|at| differs(at.min(N - size)));
    }
    bytes.iter().zip(known).all(|(byte, known)| (byte ^ known) & !((known & LETTER) >> 1) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees<const N: usize>(known: &[u8; N]) {
        assert!(is(known, known) && is(&known.to_ascii_uppercase(), known));
        for at in 0..N {
            for byte in 0..=u8::MAX {
                let mut name = *known;
                name[at] = byte;
                assert_eq!(is(&name, known), name.eq_ignore_ascii_case(known), "{name:?}");
            }
        }
        assert!(!is(&known[..N - 1], known) && !is(&[known, &b"x"[..]].concat(), known));
    }

    #[test]
    fn only_the_case_of_letters_does_not_matter() {
        agrees(b"te");
        agrees(b"date");
        agrees(b"accept");
        agrees(b"upgrade");
        agrees(b"max-0-9z");
        agrees(b"connection");
        agrees(b"http2-settings");
        agrees(b"proxy-connection");
        agrees(b"transfer-encoding");
        agrees(b"proxy-authorization");
    }
}
