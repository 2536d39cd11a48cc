//! Fields that are passed on as they came, since nobody on the way looks at them.
//!
//! Between a client and a backend that both speak HTTP/1.1 most fields of a message end up as the bytes
//! that they came in. So they stay that: a sieve says of each whether anybody looks at it, and what
//! nobody looks at is not read into a map and written out of it again. Who comes to need one of them
//! after all, which is rare, searches the lines.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;
use smallvec::SmallVec;

use super::bytes::trim;
use super::fields::{self, Span};

/// Says of a field of an answer, by its name and its value, untrimmed, what is to be done with it. The
/// flag says whether the body's length is known from the framing.
pub type Sieve = fn(name: &[u8], value: &[u8], length_is_known: bool) -> Fate;

/// What is to be done with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Pass it on as it came.
    Plain,
    /// The same, and it is the date.
    Date,
    /// Leave it out.
    Drop,
    /// Somebody looks at it.
    Known,
    /// It says something of other fields: all of them are to be looked at.
    Telling,
}

/// Lines of a head, to be passed on as they came.
#[derive(Clone, Debug, Default)]
pub struct PlainLines {
    head: Bytes,
    /// Stretches of it, most often one.
    stretches: SmallVec<[Range<u32>; 2]>,
    has_date: bool,
}

impl PlainLines {
    /// Those that were found in this head.
    #[must_use]
    pub(crate) fn of(self, head: Bytes) -> Self {
        if self.stretches.is_empty() { self } else { PlainLines { head, ..self } }
    }

    /// Whether `Date` is among them.
    pub fn has_date(&self) -> bool {
        self.has_date
    }

    /// The values of those with this name.
    pub fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_str().as_bytes();
        let named = move |line: &&[u8]| {
            line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name)
        };
        self.lines().filter(named).map(|line| trim(&line[name.len() + 1..]))
    }

    /// Adds them to a map.
    pub(crate) fn read_into(&self, headers: &mut HeaderMap) {
        let whole = |line: &[u8]| {
            let colon = memchr(b':', line)?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            let value = self.head.slice_ref(trim(&line[colon + 1..]));
            Some((name, HeaderValue::from_maybe_shared(value).ok()?))
        };
        for (name, value) in self.lines().filter_map(whole) {
            headers.append(name, value);
        }
    }

    /// Each without its CRLF.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let stretches = self.stretches.iter();
        let bytes = stretches.map(|at| &self.head[at.start as usize..at.end as usize]);
        bytes
            .flat_map(|lines| lines.split(|&byte| byte == b'\n'))
            .filter_map(|line| line.strip_suffix(b"\r"))
    }

    /// Writes them.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for stretch in &self.stretches {
            out.extend_from_slice(&self.head[stretch.start as usize..stretch.end as usize]);
        }
    }

    fn add(&mut self, stretch: Range<u32>) {
        if !stretch.is_empty() {
            self.stretches.push(stretch);
        }
    }
}

/// All values of a name, whether they stand in a map or among plain lines.
pub(crate) fn values<'a>(
    known: &'a HeaderMap,
    plain: &'a PlainLines,
    name: &'a HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    known.get_all(name).iter().map(HeaderValue::as_bytes).chain(plain.values(name))
}

/// Reads the fields of a head that a scanner has found, as [`fields::read`] does, but for those that
/// the sieve lets stay as they are. It is shown every field, its value untrimmed. Most often no map is
/// needed. The lines are yet to be said to be [of](PlainLines::of) this head.
pub(crate) fn sift<'a>(
    head: &'a Bytes,
    spans: &[Span],
    empty: impl FnOnce() -> HeaderMap,
    mut sieve: impl FnMut(&'a [u8], &'a [u8]) -> Fate,
) -> Option<(Option<HeaderMap>, PlainLines)> {
    let mut plain = PlainLines::default();
    let mut known: SmallVec<[Span; 8]> = SmallVec::new();
    let mut telling = false;
    let mut stretch = 0..0;
    for span in spans {
        let line = head.get(span.start as usize..span.end as usize)?;
        let (name, value) = line.split_at_checked((span.colon - span.start) as usize)?;
        match sieve(name, value.get(1..)?) {
            fate @ (Fate::Plain | Fate::Date) => {
                plain.has_date |= fate == Fate::Date;
                if span.start != stretch.end {
                    plain.add(stretch);
                    stretch = span.start..0;
                }
                // With its CRLF.
                stretch.end = span.end + 2;
            }
            Fate::Drop => {}
            Fate::Known => known.push(*span),
            Fate::Telling => telling = true,
        }
    }
    plain.add(stretch);
    if telling {
        return Some((Some(fields::read(head, spans, empty())?), PlainLines::default()));
    }
    if known.is_empty() {
        return Some((None, plain));
    }
    Some((Some(fields::read(head, &known, empty())?), plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_first_letter(name: &[u8], length_is_known: bool) -> Fate {
        match name[0] {
            b'p' => Fate::Plain,
            b'd' => Fate::Date,
            b'l' if length_is_known => Fate::Drop,
            b't' => Fate::Telling,
            _ => Fate::Known,
        }
    }

    fn sift_lines(lines: &[&str], length_is_known: bool) -> (HeaderMap, PlainLines) {
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        let mut spans = Vec::new();
        for line in lines {
            let start = head.len() as u32;
            head.extend_from_slice(line.as_bytes());
            let colon = start + line.find(':').unwrap() as u32;
            spans.push(Span { start, colon, end: head.len() as u32 });
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let sieve = |name: &[u8], _: &[u8]| by_first_letter(name, length_is_known);
        let head = head.into();
        let (known, plain) = sift(&head, &spans, HeaderMap::new, sieve).unwrap();
        (known.unwrap_or_default(), plain.of(head))
    }

    fn sifted(lines: &[&str], length_is_known: bool) -> (Vec<String>, String, bool) {
        let (map, plain) = sift_lines(lines, length_is_known);
        let mut out = Vec::new();
        plain.write(&mut out);
        let names = map.keys().map(|name| name.as_str().to_owned()).collect();
        (names, String::from_utf8(out).unwrap().replace("\r\n", "|"), plain.has_date())
    }

    #[test]
    fn what_nobody_looks_at_stays_as_it_came() {
        let lines = ["p1:  a", "p2: b ", "k: c", "d: now", "l: 5"];
        let expected = (vec!["k".to_owned()], "p1:  a|p2: b |d: now|".to_owned(), true);
        assert_eq!(sifted(&lines, true), expected);
        assert_eq!(sifted(&lines, false).0, ["k", "l"]);
    }

    #[test]
    fn behind_a_field_that_tells_of_others_all_are_looked_at() {
        let (names, plain, has_date) = sifted(&["p: a", "d: now", "t: p"], true);
        assert_eq!((names.len(), &*plain, has_date), (3, "", false));
    }

    #[test]
    fn plain_lines_can_be_searched() {
        let (known, plain) = sift_lines(&["p-a: 1", "k-A: 2", "p-A:  3 ", "p-ab: 4", "p-b:"], true);
        let of = |name| -> Vec<_> {
            let name = HeaderName::from_static(name);
            let values = values(&known, &plain, &name);
            values.map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
        };
        assert_eq!(of("p-a"), ["1", "3"]);
        assert_eq!(of("p-b"), [""]);
        assert_eq!(of("k-a"), ["2"]);
    }

    #[test]
    fn plain_lines_can_be_read_after_all() {
        let (mut known, plain) = sift_lines(&["p-a: 1", "k: 2", "p-A:  3 "], true);
        plain.read_into(&mut known);
        assert!(known.get_all("p-a").iter().eq(["1", "3"]));
        assert_eq!(known["k"], "2");
    }
}
