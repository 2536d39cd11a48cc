//! One certificate chain with its private key, checked: what a server is known by.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

use super::{Error, Input, pem};

/// A certificate with less than this to live is reported, or with less than a third of its life if
/// that is shorter: certificates that live a week are no cause for alarm on their first day.
pub const EXPIRES_SOON: Duration = Duration::from_secs(14 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// A certificate chain and its key, ready to be served, with what operators ask about it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Chain and key as rustls wants them; the server's own certificate is the first.
    pub certified_key: Arc<CertifiedKey>,
    /// The DNS names (lower case, wildcards as `*.example.org`) and addresses of the subject
    /// alternative name. The common name is not used (RFC 9525 section 2).
    pub names: Vec<String>,
    /// From when on the certificate is valid.
    pub not_before: SystemTime,
    /// The last second of its validity.
    pub not_after: SystemTime,
    /// SHA-256 of the certificate (DER) in lower-case hex.
    pub fingerprint: String,
    /// What works and yet deserves a look, as of the time that was given to [`parse`].
    pub warnings: Vec<Warning>,
}

impl Identity {
    /// What is to be said about the certificate's validity at `now`, if anything.
    pub fn validity_warning(&self, now: SystemTime) -> Option<Warning> {
        validity_warning(self.not_before, self.not_after, now)
    }
}

/// A certificate that can be served, but that clients may refuse, now or soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// Its last day is over.
    Expired {
        /// Whole days since then.
        days: u64,
    },
    /// Its first day is to come: a wrong clock, more often than not.
    NotYetValid {
        /// Whole days until then.
        days: u64,
    },
    /// It is to expire within [`EXPIRES_SOON`].
    ExpiresSoon {
        /// Whole days until then.
        days: u64,
    },
    /// It names no host and no address.
    NoNames,
    /// A certificate of the chain did not sign the one before it (RFC 5246 section 7.4.2).
    ChainOrder {
        /// Counted from 1, in the order of the file.
        position: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Expired { days } => {
                write!(f, "the certificate expired {days} days ago: clients refuse it; renew it")
            }
            Warning::NotYetValid { days } => write!(
                f,
                "the certificate is not valid for another {days} days: clients refuse it until \
                 then; is the clock right?"
            ),
            Warning::ExpiresSoon { days } => {
                write!(f, "the certificate expires in {days} days; renew it")
            }
            Warning::NoNames => f.write_str(
                "the certificate has no subject alternative name: clients refuse it, as they no \
                 longer look at the common name",
            ),
            Warning::ChainOrder { position } => write!(
                f,
                "certificate number {position} of the file is not the one that signed the \
                 certificate before it; the order is the server's own, then each one's signer"
            ),
        }
    }
}

/// Reads a certificate chain and its private key, both PEM, and checks that they belong together.
/// `now` is used for [`Identity::warnings`] alone: an expired certificate is no error, since a
/// server with a certificate that is a day too old is worth more than none.
///
/// # Errors
/// If one of them cannot be read or used, or the key is not that of the first certificate.
pub fn parse(cert_pem: &[u8], key_pem: &[u8], now: SystemTime) -> Result<Identity, Error> {
    let chain = pem::certificates(Input::Certificate, cert_pem)?;
    let key = pem::private_key(key_pem)?;
    let key = any_supported_type(&key).map_err(Error::UnusableKey)?;

    let parsed = read_chain(&chain)?;
    // `pem::certificates` gives at least one.
    let leaf = parsed.first().ok_or(Error::NoCertificates)?;
    check_key(&*key, &parsed)?;

    let names = names(leaf)?;
    let not_before = system_time(leaf.validity().not_before);
    let not_after = system_time(leaf.validity().not_after);
    let fingerprint = fingerprint(leaf.as_raw());

    let mut warnings = Vec::new();
    warnings.extend(validity_warning(not_before, not_after, now));
    if names.is_empty() {
        warnings.push(Warning::NoNames);
    }
    warnings.extend(misplaced(&parsed).map(|position| Warning::ChainOrder { position }));

    drop(parsed);
    let certified_key = Arc::new(CertifiedKey::new(chain, key));
    Ok(Identity { certified_key, names, not_before, not_after, fingerprint, warnings })
}

fn read_chain<'a>(chain: &'a [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'a>>, Error> {
    let mut parsed = Vec::with_capacity(chain.len());
    for (index, der) in chain.iter().enumerate() {
        match X509Certificate::from_der(der) {
            Ok((_, certificate)) => parsed.push(certificate),
            Err(error) => return Err(malformed(index + 1, &error)),
        }
    }
    Ok(parsed)
}

fn malformed(position: usize, reason: &impl ToString) -> Error {
    Error::Malformed { input: Input::Certificate, position, reason: reason.to_string() }
}

/// Compares the public keys as encoded (RFC 5280 section 4.1.2.7).
fn check_key(key: &dyn SigningKey, chain: &[X509Certificate<'_>]) -> Result<(), Error> {
    let Some(public_key) = key.public_key() else { return Ok(()) };
    let public_key: &[u8] = public_key.as_ref();
    match chain.iter().position(|certificate| certificate.public_key().raw == public_key) {
        Some(0) => Ok(()),
        Some(index) => Err(Error::LeafNotFirst { position: index + 1 }),
        None => Err(Error::KeyMismatch),
    }
}

fn names(leaf: &X509Certificate<'_>) -> Result<Vec<String>, Error> {
    let extension = leaf.subject_alternative_name().map_err(|error| malformed(1, &error))?;
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => {
                Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
            }
            GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
            _ => None,
        })
        .collect())
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

/// The positions (from 1) of certificates that are not the issuer of the one before them.
fn misplaced(chain: &[X509Certificate<'_>]) -> impl Iterator<Item = usize> {
    chain
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| match pair {
            [signed, signer] => signed.issuer().as_raw() != signer.subject().as_raw(),
            _ => false,
        })
        .map(|(index, _)| index + 2)
}

fn validity_warning(
    not_before: SystemTime,
    not_after: SystemTime,
    now: SystemTime,
) -> Option<Warning> {
    if let Ok(until) = not_before.duration_since(now)
        && !until.is_zero()
    {
        return Some(Warning::NotYetValid { days: until.as_secs() / DAY });
    }
    match not_after.duration_since(now) {
        Err(over) => Some(Warning::Expired { days: over.duration().as_secs() / DAY }),
        Ok(left) => {
            let life = not_after.duration_since(not_before).unwrap_or_default();
            (left < EXPIRES_SOON.min(life / 3))
                .then_some(Warning::ExpiresSoon { days: left.as_secs() / DAY })
        }
    }
}

/// Certificates may be dated before 1970 (RFC 5280 section 4.1.2.5 allows for 1950).
fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests;
