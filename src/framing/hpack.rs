//! Header compression for HTTP/2 (RFC 7541).
//!
//! Strict where the RFC leaves no choice: what cannot be decoded ends the connection, since both sides
//! would have different tables from then on. A field that may not be, on the other hand, is decoded
//! like any other, and told as such: it is the affair of one stream.

pub(crate) mod encode;
mod huffman;
mod table;

use bytes::{Bytes, BytesMut};

use self::table::{Entry, OVERHEAD, Table};
pub(crate) use self::table::{Name, Pseudo};

/// The size that the dynamic table may have, in bytes, as long as our settings say nothing else
/// (RFC 9113 section 6.5.2).
const TABLE_BYTES: usize = 4096;
/// By so much, at least, grows what decoded strings are put into.
const ROOM_BYTES: usize = 2048;

/// Why a block is not decoded any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not well-formed (RFC 9113 section 4.3).
    Compression,
    /// It stands for more than is taken.
    TooLarge,
}

/// A field as it was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Name,
    pub(crate) value: Bytes,
    /// As the RFCs count it (RFC 9113 section 6.5.2), in bytes.
    pub(crate) size: usize,
}

/// Decodes the header blocks that a peer sends.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    /// Strings are decoded into its free end, and are parts of it from then on.
    room: BytesMut,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { table: Table::of(TABLE_BYTES), room: BytesMut::new() }
    }

    /// Decodes a whole block, which may stand for so many bytes of fields, and gives each field.
    ///
    /// # Errors
    /// With whatever was given before; nothing else can be decoded then.
    pub(crate) fn decode(
        &mut self,
        block: &[u8],
        most_bytes: usize,
        mut each: impl FnMut(Field),
    ) -> Result<(), Fault> {
        let mut block = Reader(block);
        let (mut at_start, mut size) = (true, 0);
        while let Some(first) = block.next() {
            // RFC 7541 section 6.
            let entry = match first {
                0x80.. => self.entry(block.integer(first, 0x7f)?)?,
                0x40.. => {
                    let entry = self.literal(&mut block, first, 0x3f)?;
                    self.table.add(&entry.name, &entry.value, entry.size);
                    entry
                }
                0x20.. => {
                    let limit = block.integer(first, 0x1f)?;
                    // Sections 4.2 and 6.3.
                    if !at_start || limit > TABLE_BYTES {
                        return Err(Fault::Compression);
                    }
                    self.table.resize(limit);
                    continue;
                }
                _ => self.literal(&mut block, first, 0x0f)?,
            };
            at_start = false;
            size += entry.size;
            if size > most_bytes {
                return Err(Fault::TooLarge);
            }
            each(Field { name: entry.name, value: entry.value, size: entry.size });
        }
        Ok(())
    }

    /// Gives memory back that is only there for the next block.
    pub(crate) fn release(&mut self) {
        self.room = BytesMut::new();
    }

    fn entry(&self, index: usize) -> Result<Entry, Fault> {
        self.table.get(index).ok_or(Fault::Compression)
    }

    fn literal(&mut self, block: &mut Reader<'_>, first: u8, mask: u8) -> Result<Entry, Fault> {
        let (name, length) = match block.integer(first, mask)? {
            0 => {
                block.string(&mut self.room)?;
                let name = (Name::read(&self.room), self.room.len());
                self.room.clear();
                name
            }
            index => {
                let Entry { name, value, size } = self.entry(index)?;
                (name, size - value.len() - OVERHEAD)
            }
        };
        block.string(&mut self.room)?;
        let value = match self.room.is_empty() {
            true => Bytes::new(),
            false => self.room.split().freeze(),
        };
        let size = length + value.len() + OVERHEAD;
        Ok(Entry { name, value, size })
    }
}

/// What is left of a block.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// RFC 7541 section 5.1.
    fn integer(&mut self, first: u8, mask: u8) -> Result<usize, Fault> {
        let mut value = usize::from(first & mask);
        if first & mask != mask {
            return Ok(value);
        }
        // Four bytes are more than any number of ours needs.
        for shift in [0, 7, 14, 21] {
            let byte = self.next().ok_or(Fault::Compression)?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Compression)
    }

    /// RFC 7541 section 5.2; to the end of `out`.
    fn string(&mut self, out: &mut BytesMut) -> Result<(), Fault> {
        let first = self.next().ok_or(Fault::Compression)?;
        let length = self.integer(first, 0x7f)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Fault::Compression)?;
        self.0 = rest;
        let compressed = first & 0x80 != 0;
        let most = if compressed { huffman::most_bytes(length) } else { length };
        if out.capacity() - out.len() < most {
            out.reserve(most.max(ROOM_BYTES));
        }
        if compressed {
            return huffman::decode(bytes, out).ok_or(Fault::Compression);
        }
        out.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, StatusCode, header};

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(Name, Bytes)>, Fault> {
        let mut fields = Vec::new();
        decoder.decode(block, 10_000, |field| fields.push((field.name, field.value)))?;
        Ok(fields)
    }

    fn pair(name: &str, value: &str) -> (Name, Bytes) {
        (Name::read(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
    }

    /// RFC 7541 appendices C.3 and C.4: three requests on one connection, plain and compressed.
    #[test]
    fn requests_of_the_rfc() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let compressed = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        let first = |rest: &[(Name, Bytes)]| {
            let common = [
                pair(":method", "GET"),
                pair(":scheme", "http"),
                pair(":path", "/"),
                pair(":authority", "www.example.com"),
            ];
            [&common[..], rest].concat()
        };
        let third = vec![
            pair(":method", "GET"),
            pair(":scheme", "https"),
            pair(":path", "/index.html"),
            pair(":authority", "www.example.com"),
            pair("custom-key", "custom-value"),
        ];
        let wanted = [first(&[]), first(&[pair("cache-control", "no-cache")]), third];
        for blocks in [plain, compressed] {
            let mut decoder = Decoder::new();
            for (block, wanted) in blocks.iter().zip(&wanted) {
                assert_eq!(decode(&mut decoder, &hex(block)).as_ref(), Ok(wanted));
            }
        }
    }

    /// RFC 7541 appendix C.5, whose table has 256 bytes: entries are evicted.
    #[test]
    fn entries_are_evicted() {
        let mut decoder = Decoder::new();
        let mut block = hex("3fe1 01");
        block.extend(hex(
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 \
             303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 \
             6f6d",
        ));
        decode(&mut decoder, &block).unwrap();
        let second = decode(&mut decoder, &hex("4803 3330 37c1 c0bf")).unwrap();
        assert_eq!(
            second,
            [
                pair(":status", "307"),
                pair("cache-control", "private"),
                pair("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
                pair("location", "https://www.example.com"),
            ]
        );
        // The first `:status` is gone.
        assert_eq!(decode(&mut decoder, &[0xc2]), Err(Fault::Compression));
    }

    #[test]
    fn what_cannot_be_decoded() {
        for block in [
            // Index 0, and one beyond the table, of a field and of a name.
            &b"\x80"[..],
            b"\xbe",
            b"\xff\x7f",
            b"\x7e\x01x",
            // A table larger than allowed, and a change of it that comes late.
            b"\x3f\xe2\x1f\x82",
            b"\x82\x20",
            // A number too large.
            b"\xff\xff\xff\xff\xff\xff\x7f",
            // Blocks that stop within a field.
            b"\x00",
            b"\x00\x05a",
            b"\x00\x01a",
            b"\x00\x01a\x02b",
            b"\xff",
            // Strings whose padding is none.
            b"\x00\x01x\x82\xff\xff",
        ] {
            assert_eq!(decode(&mut Decoder::new(), block), Err(Fault::Compression), "{block:02x?}");
        }
        assert_eq!(decode(&mut Decoder::new(), b"\x20\x3f\xe1\x1f\x82").unwrap().len(), 1);
    }

    #[test]
    fn names_that_may_not_be_are_told_and_do_not_end_the_block() {
        for name in [&b""[..], b"X-A", b"x a", b"x\xff", b":x", b":Path"] {
            let mut block = vec![0x40, name.len() as u8];
            block.extend_from_slice(name);
            block.extend(b"\x011\x84\xbe");
            let fields = decode(&mut Decoder::new(), &block).unwrap();
            assert_eq!(fields.len(), 3, "{name:?}");
            assert_eq!((&fields[0].0, &fields[2].0), (&Name::Invalid, &Name::Invalid));
        }
    }

    #[test]
    fn a_bomb_is_found_before_it_has_gone_off() {
        let mut block = b"\x40\x01x\x7f\xa1\x1e".to_vec();
        block.extend([b'a'; 4000]);
        block.extend([0xbe; 1000]);
        let mut count = 0;
        let verdict = Decoder::new().decode(&block, 100_000, |_| count += 1);
        assert_eq!((verdict, count), (Err(Fault::TooLarge), 24));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut block = Vec::new();
        encode::no_table(&mut block);
        encode::status(&mut block, StatusCode::OK);
        let long = "v".repeat(1000);
        let fields = [
            (header::CONTENT_TYPE, "text/plain"),
            (header::WWW_AUTHENTICATE, ""),
            (HeaderName::from_static("x-request-id"), &long),
        ];
        for (name, value) in &fields {
            encode::field(&mut block, name, &HeaderValue::from_str(value).unwrap());
        }
        encode::indexed_name(&mut block, encode::DATE, b"now");
        encode::indexed_name(&mut block, encode::CONTENT_LENGTH, b"1");
        let mut secret = HeaderValue::from_static("s");
        secret.set_sensitive(true);
        encode::field(&mut block, &header::SET_COOKIE, &secret);
        let decoded = decode(&mut Decoder::new(), &block).unwrap();
        let wanted = [
            pair(":status", "200"),
            pair("content-type", "text/plain"),
            pair("www-authenticate", ""),
            pair("x-request-id", &long),
            pair("date", "now"),
            pair("content-length", "1"),
            pair("set-cookie", "s"),
        ];
        assert_eq!(decoded, wanted);
        let mut block = Vec::new();
        encode::status(&mut block, StatusCode::IM_A_TEAPOT);
        assert_eq!(decode(&mut Decoder::new(), &block), Ok(vec![pair(":status", "418")]));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut decoder = Decoder::new();
            for _ in 0..3 {
                let block: Vec<u8> = (0..random.usize(..60)).map(|_| random.u8(..)).collect();
                if decode(&mut decoder, &block).is_err() {
                    break;
                }
            }
        }
    }
}
