//! Fields between bytes and maps: read where a scanner has found them, and written.

use bytes::Bytes;
use http::header::TRAILER;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::bytes::trim;

/// Where a field stands, in bytes from the beginning of the head or trailers that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte of its name.
    pub start: u32,
    /// The colon behind its name.
    pub colon: u32,
    /// The CRLF behind its value.
    pub end: u32,
}

/// Reads the fields that a scanner has found in a head, or in trailers, into a map. `None` if they
/// are no fields after all.
pub(crate) fn read(lines: &Bytes, spans: &[Span], mut headers: HeaderMap) -> Option<HeaderMap> {
    headers.reserve(spans.len());
    for span in spans {
        let [start, colon, end] = [span.start, span.colon, span.end].map(|at| at as usize);
        let name = HeaderName::from_bytes(lines.get(start..colon)?).ok()?;
        let value = trim(lines.get(colon + 1..end)?);
        headers.append(name, HeaderValue::from_maybe_shared(lines.slice_ref(value)).ok()?);
    }
    Some(headers)
}

/// Writes one field.
pub(crate) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    line(out, &[name.as_str().as_bytes(), b": ", value.as_bytes()]);
}

/// Writes one line.
pub(crate) fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// The line in front of a chunk of so many bytes.
pub(crate) fn chunk_size(out: &mut Vec<u8>, bytes: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - bytes.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(bytes >> (digit * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The trailers that a head announces (RFC 9110 section 6.6.2).
pub(crate) fn announced(headers: &HeaderMap) -> SmallVec<[HeaderName; 1]> {
    let lines = headers.get_all(TRAILER).iter();
    let names = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(trim(name)).ok()).collect()
}

/// The last chunk, with those of the trailers that were announced: others surprise whoever reads.
pub(crate) fn last_chunk(
    out: &mut Vec<u8>,
    trailers: Option<&HeaderMap>,
    announced: &[HeaderName],
) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if announced.contains(name) {
            field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        fields.collect()
    }

    #[test]
    fn fields_are_read_where_they_were_found() {
        let lines = Bytes::from_static(b"GET\r\nX-One:  1 \r\nx-two:\r\n");
        let spans =
            [(5, 10, 15), (17, 22, 23)].map(|(start, colon, end)| Span { start, colon, end });
        let read = read(&lines, &spans, HeaderMap::new());
        assert_eq!(read, Some(map(&[("x-one", "1"), ("x-two", "")])));
    }

    #[test]
    fn chunk_sizes_are_hexadecimal() {
        for (bytes, line) in [(1, "1\r\n"), (16, "10\r\n"), (0xab_cdef, "abcdef\r\n")] {
            let mut out = Vec::new();
            chunk_size(&mut out, bytes);
            assert_eq!(out, line.as_bytes());
        }
    }

    #[test]
    fn only_announced_trailers_go_out() {
        let head = map(&[("trailer", "X-Sum, x-other")]);
        let sent = map(&[("x-sum", "1"), ("x-secret", "2")]);
        let mut out = Vec::new();
        last_chunk(&mut out, Some(&sent), &announced(&head));
        assert_eq!(out, b"0\r\nx-sum: 1\r\n\r\n");
    }
}
