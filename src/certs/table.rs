//! Which certificate for which server name.
//!
//! The names are hashed once, when the table is made; a choice is two look-ups at most and
//! allocates nothing, because it is made at every handshake, and again for every request of a
//! connection that carries several hosts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Error, Identity};

/// The longest host name in text form (RFC 1035 section 2.3.4, without the final dot).
const MAX_NAME_LEN: usize = 253;

/// The names that lead to an identity. Only configuration fills it, so that its hash needs no seed.
type Names = HashMap<Box<str>, usize, FixedState>;

/// The certificates of a listener, chosen by server name: the exact name first, then a wildcard
/// for its first label (RFC 9525 section 6.3), then the first certificate. Where several hold the
/// same name, the earliest is taken.
///
/// Addresses are not looked up: a client that connects to an address sends no server name
/// (RFC 6066 section 3), so that the handshake could not tell; it gets the first certificate.
#[derive(Debug)]
pub struct CertificateTable {
    identities: Vec<Identity>,
    exact: Names,
    /// By what follows `*.`
    wildcard: Names,
}

impl CertificateTable {
    /// A table of these certificates, the first being the default.
    ///
    /// # Errors
    /// [`Error::NoCertificates`] if there is none.
    pub fn new(identities: Vec<Identity>) -> Result<Self, Error> {
        if identities.is_empty() {
            return Err(Error::NoCertificates);
        }
        let mut exact = Names::default();
        let mut wildcard = Names::default();
        for (index, identity) in identities.iter().enumerate() {
            for name in identity.names.iter().filter(|name| name.parse::<IpAddr>().is_err()) {
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.into()).or_insert(index),
                    None => exact.entry(name.as_str().into()).or_insert(index),
                };
            }
        }
        Ok(Self { identities, exact, wildcard })
    }

    /// All certificates, in the order given; indices of this table are positions in it.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The index of the certificate for `host`: a name without port, in any case, with or without
    /// a trailing dot. Unknown names get the first.
    pub fn chosen_for(&self, host: &str) -> usize {
        let host = host.strip_suffix('.').unwrap_or(host);
        if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.find(host);
        }
        let mut buffer = [0; MAX_NAME_LEN];
        // What is longer is no host name and in no certificate.
        let Some(lower) = buffer.get_mut(..host.len()) else { return 0 };
        lower.copy_from_slice(host.as_bytes());
        lower.make_ascii_lowercase();
        std::str::from_utf8(lower).map_or(0, |host| self.find(host))
    }

    /// Whether a handshake with server name `sni` chose the certificate that `host` would choose.
    /// If it did not, the request belongs on another connection: 421 (RFC 9110 section 15.5.20).
    pub fn same_certificate(&self, sni: Option<&str>, host: &str) -> bool {
        if self.identities.len() == 1 {
            return true;
        }
        match sni {
            Some(sni) if sni.eq_ignore_ascii_case(host) => true,
            Some(sni) => self.chosen_for(sni) == self.chosen_for(host),
            None => self.chosen_for(host) == 0,
        }
    }

    fn find(&self, host: &str) -> usize {
        let exact = self.exact.get(host);
        let found = exact.or_else(|| {
            let (label, parent) = host.split_once('.')?;
            if label.is_empty() { None } else { self.wildcard.get(parent) }
        });
        found.copied().unwrap_or(0)
    }
}

impl ResolvesServerCert for CertificateTable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = hello.server_name().map_or(0, |name| self.chosen_for(name));
        self.identities.get(index).map(|identity| Arc::clone(&identity.certified_key))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::certs::generate::{Validity, self_signed};
    use crate::certs::parse;

    fn table(certificates: &[&[&str]]) -> CertificateTable {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let validity = Validity::of_days(now, 90);
        let identities = certificates.iter().map(|names| {
            let pair = self_signed(names, validity).unwrap();
            parse(pair.cert.as_bytes(), pair.key.as_bytes(), now).unwrap()
        });
        CertificateTable::new(identities.collect()).unwrap()
    }

    #[test]
    fn chooses_exact_then_wildcard_then_first() {
        let table = table(&[
            &["default.test", "10.0.0.1"],
            &["*.example.org", "example.org"],
            &["www.example.org", "*.deep.example.org", "10.0.0.2"],
            &["www.example.org", "*.example.org", "late.test"],
        ]);
        let cases = [
            ("default.test", 0),
            ("example.org", 1),
            ("shop.example.org", 1),
            ("www.example.org", 2),
            ("WWW.Example.ORG", 2),
            ("www.example.org.", 2),
            ("a.deep.example.org", 2),
            ("a.b.example.org", 0),
            ("b.a.deep.example.org", 0),
            (".example.org", 0),
            ("*.example.org", 1),
            ("late.test", 3),
            ("LATE.test.", 3),
            ("10.0.0.2", 0),
            ("unknown.test", 0),
            ("org", 0),
            ("", 0),
            (".", 0),
            ("Ünknown.example.org", 1),
            (&"A".repeat(254), 0),
        ];
        for (host, index) in cases {
            assert_eq!(table.chosen_for(host), index, "{host:?}");
        }
    }

    #[test]
    fn tells_whether_a_host_may_share_the_connection() {
        let table = table(&[&["a.test", "b.test"], &["*.example.org"], &["api.example.org"]]);
        let cases = [
            (Some("a.test"), "a.test", true),
            (Some("a.test"), "A.TEST", true),
            (Some("a.test"), "b.test", true),
            (Some("a.test"), "unknown.test", true),
            (Some("a.test"), "x.example.org", false),
            (Some("x.example.org"), "y.example.org", true),
            (Some("x.example.org"), "api.example.org", false),
            (Some("api.example.org"), "a.test", false),
            (None, "a.test", true),
            (None, "127.0.0.1", true),
            (None, "api.example.org", false),
        ];
        for (sni, host, same) in cases {
            assert_eq!(table.same_certificate(sni, host), same, "{sni:?} {host:?}");
        }
    }

    #[test]
    fn a_single_certificate_serves_every_host() {
        let table = table(&[&["a.test"]]);
        assert!(table.same_certificate(Some("a.test"), "other.test"));
        assert!(table.same_certificate(None, "other.test"));
    }

    #[test]
    fn an_empty_table_is_refused() {
        assert!(matches!(CertificateTable::new(Vec::new()), Err(Error::NoCertificates)));
    }
}
