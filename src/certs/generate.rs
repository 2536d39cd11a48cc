//! Certificates made on the spot, for demonstrations and tests: one that signs itself, and a small
//! certificate authority that lives in memory.
//!
//! The times are arguments. The keys come from the operating system's randomness, as nothing else
//! would do for a key, even one for tests.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

/// Why no certificate could be made: a name that no certificate can hold, or no randomness.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct GenerateError(#[from] rcgen::Error);

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct PemPair {
    /// The certificate.
    pub cert: String,
    /// Its private key, PKCS #8.
    pub key: String,
}

impl fmt::Debug for PemPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemPair").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// When a certificate is valid, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: SystemTime,
    /// The last second.
    pub not_after: SystemTime,
}

impl Validity {
    /// From an hour before `now`, for peers whose clock is late, to `days` after it.
    pub fn of_days(now: SystemTime, days: u32) -> Self {
        let after = Duration::from_secs(u64::from(days) * 24 * 60 * 60);
        Self {
            not_before: now.checked_sub(Duration::from_secs(60 * 60)).unwrap_or(now),
            not_after: now.checked_add(after).unwrap_or(now),
        }
    }
}

/// Makes a P-256 certificate for `names` (host names, wildcards, addresses) that signs itself.
///
/// # Errors
/// If a name does not fit into a certificate.
pub fn self_signed(names: &[&str], validity: Validity) -> Result<PemPair, GenerateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let cert = server_params(names, validity)?.self_signed(&key)?;
    Ok(PemPair { cert: cert.pem(), key: key.serialize_pem() })
}

/// A certificate authority in memory.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new authority with a P-256 key.
    ///
    /// # Errors
    /// If `name` does not fit into a certificate.
    pub fn new(name: &str, validity: Validity) -> Result<Self, GenerateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, validity);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Self(CertifiedIssuer::self_signed(params, key)?))
    }

    /// The authority's own certificate, PEM: what clients must trust.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a P-256 certificate for `names` (host names, wildcards, addresses).
    ///
    /// # Errors
    /// If a name does not fit into a certificate.
    pub fn issue(&self, names: &[&str], validity: Validity) -> Result<PemPair, GenerateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = server_params(names, validity)?;
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.0)?;
        Ok(PemPair { cert: cert.pem(), key: key.serialize_pem() })
    }
}

fn server_params(names: &[&str], validity: Validity) -> Result<CertificateParams, GenerateError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let common_name = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_validity(&mut params, validity);
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970(validity.not_before);
    params.not_after = epoch + since_1970(validity.not_after);
}

/// Held within what a certificate can say (RFC 5280 section 4.1.2.5): at most the end of 9999.
fn since_1970(time: SystemTime) -> Duration {
    const END_OF_9999: Duration = Duration::from_secs(253_402_300_799);
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(END_OF_9999)
}
