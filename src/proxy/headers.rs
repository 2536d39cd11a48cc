//! What changes in the fields of a message on its way through: pure functions on [`HeaderMap`].
//!
//! Three things go on here. Fields that speak about one connection end with it ([`hop`]). Fields
//! that tell a backend who asks are ours to set, and a client's are not believed unless it is
//! trusted ([`forwarded`]). And a request gets a name and a trace of where it was ([`identity`]).
//! The order for a request is: check for a loop, strip, then set, so that a client cannot list our
//! fields away.
//!
//! Nothing here is formatted per request that could have been once per connection, and what we
//! add stands beside the map of the client's fields, where nobody has to look for it.

pub mod accept;
pub mod forwarded;
pub mod hop;
pub mod identity;
pub mod sieve;
pub mod survey;

use http::{HeaderMap, HeaderName, header};
use smallvec::SmallVec;

/// Where the request began, nearest last (no standard; everybody's).
pub static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The client's scheme.
pub static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The client's Host.
pub static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The port that the client connected to.
pub static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// The name of a request in everybody's logs.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Which processes of ours a request went through.
pub static HOPS: HeaderName = HeaderName::from_static("tidegate-hops");
/// Marks the copy of a request, whose answer nobody sees.
pub static SHADOW: HeaderName = HeaderName::from_static("tidegate-shadow");

/// The members of a list field (RFC 9110 section 5.6.1), over all its lines, without the white
/// space around them. Empty ones are skipped.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(|value| split(value.as_bytes()))
}

fn split(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Takes fields out by name, in one pass: nearly always there are few or none, and a pass over the
/// names is cheaper than a look-up for each that might be there.
fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// True for fields that tell where a request comes from, in any spelling that a backend might
/// take for one: CGI-like interfaces read `_` as `-`. Of the request's name and trace only the other
/// spellings: the plain ones are looked at elsewhere.
fn is_forwarding(name: &str) -> bool {
    const FAMILY: &str = "x-forwarded-";
    match name.as_bytes().first() {
        Some(b'f') => name == header::FORWARDED.as_str(),
        Some(b'x') => {
            same_but_underscores(name, "x-real-ip")
                || is_misspelt(name, X_REQUEST_ID.as_str())
                || name.get(..FAMILY.len()).is_some_and(|start| same_but_underscores(start, FAMILY))
        }
        Some(b't') => {
            is_misspelt(name, HOPS.as_str()) || same_but_underscores(name, SHADOW.as_str())
        }
        _ => false,
    }
}

fn is_misspelt(name: &str, listed: &str) -> bool {
    same_but_underscores(name, listed) && name != listed
}

fn same_but_underscores(name: &str, listed: &str) -> bool {
    name.len() == listed.len()
        && name
            .bytes()
            .zip(listed.bytes())
            .all(|(byte, wanted)| byte == wanted || (byte == b'_' && wanted == b'-'))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    /// Fields as written.
    pub(super) fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    /// The names that are left, sorted.
    pub(super) fn names(headers: &HeaderMap) -> Vec<String> {
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn forwarding_fields_in_every_spelling() {
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_ssl",
            "x_real-ip",
            "x_request_id",
            "tidegate_hops",
            "tidegate-shadow",
            "tidegate_shadow",
        ] {
            assert!(is_forwarding(name), "{name}");
        }
        for name in [
            "from",
            "x-forwarde",
            "x-forward-for",
            "x-real-ipx",
            "x-request-id",
            "tidegate-hops",
            "te",
            "host",
        ] {
            assert!(!is_forwarding(name), "{name}");
        }
    }
}
