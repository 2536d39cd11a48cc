//! PEM text (RFC 7468) to DER, with errors that say what the text holds instead.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Error, Input};

/// The certificates of a file with authorities to trust, as it stands in an upstream's `ca`.
///
/// # Errors
/// If the file is empty, not PEM, damaged, or holds no certificate.
pub fn authorities(ca_pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates(Input::Authorities, ca_pem)
}

/// All certificates of a file, in its order; at least one. Other sections are passed over.
pub(super) fn certificates(
    input: Input,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = labels(input, text)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|source| Error::DamagedPem { input, source })?;
    if certificates.is_empty() {
        return Err(Error::NoCertificate { input, found: found.join(", ") });
    }
    Ok(certificates)
}

/// The first private key of a file. Other sections (EC parameters, the certificate) are passed
/// over.
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    let found = labels(Input::Key, text)?;
    // The old form of encryption keeps the label of a plain key and says so in a header line
    // (RFC 1421 section 4.6.1.1), which a reader of RFC 7468 takes for bad base64.
    if found.iter().any(|label| label == "ENCRYPTED PRIVATE KEY")
        || lines(text).any(|line| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
    {
        return Err(Error::EncryptedKey);
    }
    match PrivateKeyDer::pem_slice_iter(text).next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(source)) => Err(Error::DamagedPem { input: Input::Key, source }),
        None => Err(Error::NoPrivateKey { found: found.join(", ") }),
    }
}

/// What the sections of a PEM file call themselves; at least one.
fn labels(input: Input, text: &[u8]) -> Result<Vec<String>, Error> {
    if text.trim_ascii().is_empty() {
        return Err(Error::Empty(input));
    }
    let found: Vec<String> = lines(text)
        .filter_map(|line| line.strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----"))
        .map(|label| String::from_utf8_lossy(label).into_owned())
        .collect();
    if found.is_empty() { Err(Error::NotPem(input)) } else { Ok(found) }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n' || byte == b'\r').map(<[u8]>::trim_ascii_end)
}
