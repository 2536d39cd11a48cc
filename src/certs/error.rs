//! What can be wrong with a certificate or a key, in words that say what to do next.

use std::fmt;

use rustls::pki_types::pem;

/// Which of the given files an [`Error`] is about, so that it can be reported at the setting that
/// names the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The server's certificate and its intermediates.
    Certificate,
    /// The private key of that certificate.
    Key,
    /// Certificate authorities to trust.
    Authorities,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Input::Certificate => "certificate",
            Input::Key => "key",
            Input::Authorities => "CA",
        })
    }
}

/// Why certificate or key bytes are of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing in it but white space.
    #[error("the {0} file is empty")]
    Empty(Input),

    /// Binary, where PEM text is wanted.
    #[error(
        "the {0} file is not PEM text (no line begins with \"-----BEGIN\"); {hint}",
        hint = not_pem_hint(*.0)
    )]
    NotPem(Input),

    /// The framing or the base64 of a PEM section is broken.
    #[error(
        "the {input} file is damaged PEM: {damage}; was it cut off or edited? Copy it once more",
        damage = damage(source)
    )]
    DamagedPem {
        /// Which file.
        input: Input,
        /// What the PEM reader stumbled over.
        source: pem::Error,
    },

    /// PEM, but no `CERTIFICATE` section in it.
    #[error("the {input} file holds no certificate, only {found}{hint}", hint = swapped_hint(*input, found))]
    NoCertificate {
        /// Which file.
        input: Input,
        /// The labels of the sections that it does hold.
        found: String,
    },

    /// PEM, but no private key in it.
    #[error("the key file holds no private key, only {found}{hint}", hint = swapped_hint(Input::Key, found))]
    NoPrivateKey {
        /// The labels of the sections that it does hold.
        found: String,
    },

    /// A key that needs a passphrase, which a server that starts by itself has nobody to ask for.
    #[error(
        "the private key is encrypted; write a copy without passphrase with \
         `openssl pkey -in ENCRYPTED -out KEY`, readable by the server alone"
    )]
    EncryptedKey,

    /// A key of a kind, or of a size, that is not supported.
    #[error(
        "the private key cannot be used: it is damaged, or none of RSA with 2048 to 8192 bits, \
         ECDSA on P-256, P-384 or P-521, and Ed25519"
    )]
    UnusableKey(#[source] rustls::Error),

    /// One of the certificates is not a certificate inside.
    #[error("certificate number {position} of the {input} file cannot be read: {reason}")]
    Malformed {
        /// Which file.
        input: Input,
        /// Counted from 1, in the order of the file.
        position: usize,
        /// What the reader of it says.
        reason: String,
    },

    /// The key is no key of any certificate in the file.
    #[error(
        "the key does not belong to this certificate: their public keys differ. \
         After a renewal, were both files replaced?"
    )]
    KeyMismatch,

    /// The key is that of a later certificate: the chain is in the wrong order.
    #[error(
        "the key belongs to certificate number {position} of the file; the server's own \
         certificate must stand first, then what signed it"
    )]
    LeafNotFirst {
        /// Counted from 1, in the order of the file.
        position: usize,
    },

    /// A table without a certificate could not answer any handshake.
    #[error("a TLS listener needs at least one certificate")]
    NoCertificates,
}

impl Error {
    /// The file that the error is about. A key that does not fit is reported at the key.
    pub fn input(&self) -> Input {
        match self {
            Error::Empty(input)
            | Error::NotPem(input)
            | Error::DamagedPem { input, .. }
            | Error::NoCertificate { input, .. }
            | Error::Malformed { input, .. } => *input,
            Error::NoPrivateKey { .. }
            | Error::EncryptedKey
            | Error::UnusableKey(_)
            | Error::KeyMismatch => Input::Key,
            Error::LeafNotFirst { .. } | Error::NoCertificates => Input::Certificate,
        }
    }
}

fn damage(source: &pem::Error) -> String {
    match source {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("no line says \"-----END {}-----\"", String::from_utf8_lossy(end_marker))
        }
        pem::Error::Base64Decode(_) => "what stands between its marks is not base64".to_owned(),
        other => other.to_string(),
    }
}

fn not_pem_hint(input: Input) -> &'static str {
    match input {
        Input::Key => "if it is DER, convert it with `openssl pkey -inform DER -in KEY -out PEM`",
        Input::Certificate | Input::Authorities => {
            "if it is DER, convert it with `openssl x509 -inform DER -in CERT -out PEM`"
        }
    }
}

fn swapped_hint(input: Input, found: &str) -> &'static str {
    match input {
        Input::Certificate if found.contains("PRIVATE KEY") => ": were `cert` and `key` swapped?",
        Input::Key if found.split(", ").any(|label| label == "CERTIFICATE") => {
            ": were `cert` and `key` swapped?"
        }
        Input::Certificate if found.contains("CERTIFICATE REQUEST") => {
            ": a request goes to a certificate authority, which answers with the certificate"
        }
        _ => "",
    }
}
