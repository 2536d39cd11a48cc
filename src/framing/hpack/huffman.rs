//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: sorted by length, and by symbol among the same length, the codes count
//! upwards. So their lengths say all, and a decoder needs no tree: what begins with a short code is
//! found by its first byte, and of longer ones it is enough to know where each length ends.

use bytes::BytesMut;

/// Bits of the code of each byte, and of the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
const LONGEST: usize = 30;

/// What decoding looks up, made of the lengths.
struct Tables {
    /// By the first eight bits: the symbol and its length, which is 0 where the code is longer.
    short: [(u8, u8); 256],
    /// Symbols in the order of their codes.
    sorted: [u16; SYMBOLS],
    /// Of each length: the first code behind those of this length, as the first bits of 32,
    end: [u64; LONGEST + 1],
    /// the first code,
    first: [u32; LONGEST + 1],
    /// and the place of its symbol.
    place: [u16; LONGEST + 1],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut tables = Tables {
        short: [(0, 0); 256],
        sorted: [0; SYMBOLS],
        end: [0; LONGEST + 1],
        first: [0; LONGEST + 1],
        place: [0; LONGEST + 1],
    };
    let (mut code, mut place, mut length) = (0_u32, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        tables.first[length] = code;
        tables.place[length] = place as u16;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                tables.sorted[place] = symbol as u16;
                if length <= 8 {
                    let mut at = (code as usize) << (8 - length);
                    let behind = (code as usize + 1) << (8 - length);
                    while at < behind {
                        tables.short[at] = (symbol as u8, length as u8);
                        at += 1;
                    }
                }
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        tables.end[length] = (code as u64) << (32 - length);
        length += 1;
    }
    tables
}

/// The most bytes that so many bytes of code stand for.
pub(super) const fn most_bytes(coded: usize) -> usize {
    // The shortest code has five bits.
    coded * 8 / 5
}

/// Decodes a string to the end of `out`. `None` if it is not one: the end of a string stands in it, or
/// what is behind the last symbol is no padding (RFC 7541 section 5.2).
pub(super) fn decode(coded: &[u8], out: &mut BytesMut) -> Option<()> {
    let mut input = coded.iter();
    let (mut read, mut bits) = (0_u64, 0_u32);
    let mut decoded = [0_u8; 64];
    let mut count = 0;
    loop {
        if bits < 32 {
            while bits <= 56
                && let Some(&byte) = input.next()
            {
                read = read << 8 | u64::from(byte);
                bits += 8;
            }
        }
        // The next 32 bits. Behind the last one stand ones, as padding does.
        let next = match bits.checked_sub(32) {
            Some(rest) => (read >> rest) as u32,
            None => (read << (32 - bits)) as u32 | u32::MAX.checked_shr(bits).unwrap_or_default(),
        };
        let (symbol, length) = match TABLES.short[(next >> 24) as usize] {
            (_, 0) => long(next)?,
            (symbol, length) => (u16::from(symbol), u32::from(length)),
        };
        let over = length > bits;
        if !over {
            decoded[count] = u8::try_from(symbol).ok()?;
            count += 1;
            bits -= length;
        }
        if over || count == decoded.len() {
            out.extend_from_slice(&decoded[..count]);
            count = 0;
        }
        if over {
            return (bits < 8 && next == u32::MAX).then_some(());
        }
    }
}

/// The symbol of a code of more than eight bits, and its length.
fn long(next: u32) -> Option<(u16, u32)> {
    let length = (9..=LONGEST).find(|&length| u64::from(next) < TABLES.end[length])?;
    let code = next >> (32 - length);
    let place = usize::from(TABLES.place[length]) + (code - TABLES.first[length]) as usize;
    Some((*TABLES.sorted.get(place)?, length as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes by symbol, from the same lengths.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let first = TABLES.place[length] as usize;
            let place = TABLES.sorted.iter().position(|s| *s == u16::from(*byte)).unwrap();
            let code = TABLES.first[length] as usize + place - first;
            bits.push_str(&format!("{code:0length$b}"));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = BytesMut::new();
        decode(coded, &mut out).map(|()| out.to_vec())
    }

    #[test]
    fn the_code_is_whole() {
        // Kraft's sum: every string of bits begins with a code.
        let sum: u64 = LENGTHS.iter().map(|length| 1_u64 << (32 - length)).sum();
        assert_eq!(sum, 1 << 32);
        assert_eq!(TABLES.sorted[..3], [48, 49, 50]);
        assert_eq!(TABLES.sorted[256], 256);
        assert_eq!(TABLES.first[30] + 3, 0x3fff_ffff);
    }

    #[test]
    fn examples() {
        // RFC 7541 appendix C.4 and C.6.
        for (coded, text) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], {
                "www.example.com"
            }),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (b"", ""),
        ] {
            assert_eq!(decoded(coded).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn any_text_comes_back() {
        let mut random = fastrand::Rng::with_seed(1);
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)), Some(all));
        for _ in 0..500 {
            let text: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
            let coded = encode(&text);
            assert!(text.len() <= most_bytes(coded.len()));
            assert_eq!(decoded(&coded), Some(text));
        }
    }

    #[test]
    fn wrong_padding_is_refused() {
        for coded in [
            // A byte of padding, and more.
            &[0xff][..],
            &[0x64, 0x02, 0xff],
            &[0xff, 0xff, 0xff, 0xff],
            // Zeros for padding.
            &[0x60],
            // The end of the string, with more behind it.
            &[0xff, 0xff, 0xff, 0xfc, 0x07],
        ] {
            assert_eq!(decoded(coded), None, "{coded:02x?}");
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..20_000 {
            let coded: Vec<u8> = (0..random.usize(..40)).map(|_| random.u8(..)).collect();
            let _ = decoded(&coded);
        }
    }
}
