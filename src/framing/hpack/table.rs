//! The tables of HPACK (RFC 7541 section 2.3).

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderName, header};

/// A pseudo-header field (RFC 9113 section 8.3, RFC 8441 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
}

/// The name of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Pseudo(Pseudo),
    Field(HeaderName),
    /// One that no field may have.
    Invalid,
}

impl Name {
    /// Reads a name as it came.
    pub(super) fn read(bytes: &[u8]) -> Name {
        match bytes {
            b":method" => Name::Pseudo(Pseudo::Method),
            b":scheme" => Name::Pseudo(Pseudo::Scheme),
            b":authority" => Name::Pseudo(Pseudo::Authority),
            b":path" => Name::Pseudo(Pseudo::Path),
            b":protocol" => Name::Pseudo(Pseudo::Protocol),
            b":status" => Name::Pseudo(Pseudo::Status),
            // Upper case is refused (RFC 9113 section 8.2.1).
            name => HeaderName::from_lowercase(name).map_or(Name::Invalid, Name::Field),
        }
    }
}

/// An entry of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) value: Bytes,
    /// As the RFC counts it (section 4.1), in bytes.
    pub(super) size: usize,
}

/// What an entry costs beside its name and value (RFC 7541 section 4.1).
pub(super) const OVERHEAD: usize = 32;

/// The entries that came, the latest first. It has no more than was ever in it, and nothing at first.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

impl Table {
    pub(super) fn of(limit: usize) -> Table {
        Table { entries: VecDeque::new(), size: 0, limit }
    }

    /// Changes how large it may be, in bytes.
    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.evict(0);
    }

    /// Adds an entry, in place of older ones if need be (RFC 7541 section 4.4). Its value is copied: it
    /// may be a small part of something large.
    pub(super) fn add(&mut self, name: &Name, value: &Bytes, size: usize) {
        self.evict(size);
        if size <= self.limit {
            self.size += size;
            let value = Bytes::copy_from_slice(value);
            self.entries.push_front(Entry { name: name.clone(), value, size });
        }
    }

    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size;
        }
    }

    /// The entry at an index of both tables (RFC 7541 section 2.3.3).
    pub(super) fn get(&self, index: usize) -> Option<Entry> {
        match index.checked_sub(STATIC.len() + 1) {
            Some(place) => self.entries.get(place).cloned(),
            None => {
                let (name, value) = STATIC.get(index.checked_sub(1)?)?;
                let size = name.length() + value.len() + OVERHEAD;
                Some(Entry { name: name.clone(), value: Bytes::from_static(value), size })
            }
        }
    }
}

impl Name {
    /// Bytes of it, as far as it is valid.
    pub(super) fn length(&self) -> usize {
        match self {
            Name::Field(name) => name.as_str().len(),
            Name::Pseudo(Pseudo::Path) => 5,
            Name::Pseudo(Pseudo::Method | Pseudo::Scheme | Pseudo::Status) => 7,
            Name::Pseudo(Pseudo::Protocol) => 9,
            Name::Pseudo(Pseudo::Authority) => 10,
            Name::Invalid => 0,
        }
    }
}

/// RFC 7541 appendix A.
static STATIC: [(Name, &[u8]); 61] = [
    (Name::Pseudo(Pseudo::Authority), b""),
    (Name::Pseudo(Pseudo::Method), b"GET"),
    (Name::Pseudo(Pseudo::Method), b"POST"),
    (Name::Pseudo(Pseudo::Path), b"/"),
    (Name::Pseudo(Pseudo::Path), b"/index.html"),
    (Name::Pseudo(Pseudo::Scheme), b"http"),
    (Name::Pseudo(Pseudo::Scheme), b"https"),
    (Name::Pseudo(Pseudo::Status), b"200"),
    (Name::Pseudo(Pseudo::Status), b"204"),
    (Name::Pseudo(Pseudo::Status), b"206"),
    (Name::Pseudo(Pseudo::Status), b"304"),
    (Name::Pseudo(Pseudo::Status), b"400"),
    (Name::Pseudo(Pseudo::Status), b"404"),
    (Name::Pseudo(Pseudo::Status), b"500"),
    (Name::Field(header::ACCEPT_CHARSET), b""),
    (Name::Field(header::ACCEPT_ENCODING), b"gzip, deflate"),
    (Name::Field(header::ACCEPT_LANGUAGE), b""),
    (Name::Field(header::ACCEPT_RANGES), b""),
    (Name::Field(header::ACCEPT), b""),
    (Name::Field(header::ACCESS_CONTROL_ALLOW_ORIGIN), b""),
    (Name::Field(header::AGE), b""),
    (Name::Field(header::ALLOW), b""),
    (Name::Field(header::AUTHORIZATION), b""),
    (Name::Field(header::CACHE_CONTROL), b""),
    (Name::Field(header::CONTENT_DISPOSITION), b""),
    (Name::Field(header::CONTENT_ENCODING), b""),
    (Name::Field(header::CONTENT_LANGUAGE), b""),
    (Name::Field(header::CONTENT_LENGTH), b""),
    (Name::Field(header::CONTENT_LOCATION), b""),
    (Name::Field(header::CONTENT_RANGE), b""),
    (Name::Field(header::CONTENT_TYPE), b""),
    (Name::Field(header::COOKIE), b""),
    (Name::Field(header::DATE), b""),
    (Name::Field(header::ETAG), b""),
    (Name::Field(header::EXPECT), b""),
    (Name::Field(header::EXPIRES), b""),
    (Name::Field(header::FROM), b""),
    (Name::Field(header::HOST), b""),
    (Name::Field(header::IF_MATCH), b""),
    (Name::Field(header::IF_MODIFIED_SINCE), b""),
    (Name::Field(header::IF_NONE_MATCH), b""),
    (Name::Field(header::IF_RANGE), b""),
    (Name::Field(header::IF_UNMODIFIED_SINCE), b""),
    (Name::Field(header::LAST_MODIFIED), b""),
    (Name::Field(header::LINK), b""),
    (Name::Field(header::LOCATION), b""),
    (Name::Field(header::MAX_FORWARDS), b""),
    (Name::Field(header::PROXY_AUTHENTICATE), b""),
    (Name::Field(header::PROXY_AUTHORIZATION), b""),
    (Name::Field(header::RANGE), b""),
    (Name::Field(header::REFERER), b""),
    (Name::Field(header::REFRESH), b""),
    (Name::Field(header::RETRY_AFTER), b""),
    (Name::Field(header::SERVER), b""),
    (Name::Field(header::SET_COOKIE), b""),
    (Name::Field(header::STRICT_TRANSPORT_SECURITY), b""),
    (Name::Field(header::TRANSFER_ENCODING), b""),
    (Name::Field(header::USER_AGENT), b""),
    (Name::Field(header::VARY), b""),
    (Name::Field(header::VIA), b""),
    (Name::Field(header::WWW_AUTHENTICATE), b""),
];

/// The place of the names that answers have, in the static table.
pub(super) fn static_index(name: &str) -> Option<usize> {
    Some(match name.len() {
        3 => match name {
            "age" => 21,
            "via" => 60,
            _ => return None,
        },
        4 => match name {
            "date" => 33,
            "etag" => 34,
            "vary" => 59,
            "link" => 45,
            _ => return None,
        },
        5 if name == "allow" => 22,
        6 if name == "server" => 54,
        7 if name == "expires" => 36,
        8 if name == "location" => 46,
        10 if name == "set-cookie" => 55,
        11 if name == "retry-after" => 53,
        12 if name == "content-type" => 31,
        13 => match name {
            "cache-control" => 24,
            "content-range" => 30,
            "last-modified" => 44,
            "accept-ranges" => 18,
            _ => return None,
        },
        14 if name == "content-length" => 28,
        16 => match name {
            "content-encoding" => 26,
            "content-language" => 27,
            "www-authenticate" => 61,
            _ => return None,
        },
        19 if name == "content-disposition" => 25,
        25 if name == "strict-transport-security" => 56,
        27 if name == "access-control-allow-origin" => 20,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_where_they_are_looked_for() {
        let mut found = 0;
        for (place, (name, _)) in STATIC.iter().enumerate() {
            let Name::Field(name) = name else { continue };
            if let Some(index) = static_index(name.as_str()) {
                assert_eq!(index, place + 1, "{name}");
                found += 1;
            }
        }
        assert_eq!(found, 24);
        assert_eq!(static_index("x-request-id"), None);
    }

    #[test]
    fn indexes_begin_at_one() {
        let table = Table::of(100);
        assert!(table.get(0).is_none() && table.get(62).is_none());
        assert_eq!(table.get(61).unwrap().name, Name::Field(header::WWW_AUTHENTICATE));
    }
}
