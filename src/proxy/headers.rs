//! What changes in the fields of a message on its way through: pure functions on [`HeaderMap`], and
//! what need not be in one, since nobody looks at it ([`sieve`]).
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
pub mod kind;
pub mod sieve;
pub mod survey;

use http::{HeaderMap, HeaderName};
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
fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&[u8]) -> bool) {
    let names: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| unwanted(name.as_str().as_bytes())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

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
}
