//! TLS settings ready to run: what a listener answers handshakes with, and what an upstream opens
//! them with.
//!
//! They are made by the control plane once per configuration and shared by all workers. The
//! cryptography is named here and nowhere else, so that no process-wide default decides.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct,
    InvalidMessage, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};

use crate::certs::{self, CertificateTable};

/// HTTP/2 in ALPN (RFC 9113 section 3.2).
pub const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN (RFC 7301 section 6).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Why TLS settings are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA file cannot be read.
    #[error(transparent)]
    Authorities(#[from] certs::Error),

    /// A certificate in the CA file cannot serve as an authority.
    #[error(
        "certificate number {position} of the CA file cannot be used as an authority: {source}"
    )]
    UnusableAuthority {
        /// Counted from 1, in the order of the file.
        position: usize,
        /// What the reader of it says.
        source: rustls::Error,
    },

    /// The system keeps no trusted authorities where they are looked for.
    #[error(
        "the system has no trusted certificate authorities{reason}; install the package \
         `ca-certificates`, or name a file with `tls.ca`"
    )]
    NoSystemAuthorities {
        /// Empty, or what went wrong while reading them.
        reason: String,
    },

    /// Neither a DNS name nor an address.
    #[error(
        "`{0}` is no name that a certificate can hold; set `tls.server_name` to a host name or \
         an address, without port"
    )]
    ServerName(String),

    /// The TLS library refuses the settings, or has no randomness.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A new ticketer: it encrypts what a client needs to resume its session, with keys that it makes
/// itself and replaces every six hours, whenever it next makes or takes a ticket then; a ticket is
/// good for twelve at most.
///
/// There is one per TLS policy, shared by the workers and carried across reloads, so that clients
/// can resume on whichever worker and after whichever reload. Never share it between listeners
/// that ask different things of their clients (certificates): what one admits, the other resumes.
///
/// # Errors
/// If the system has no randomness.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    Ok(aws_lc_rs::Ticketer::new()?)
}

/// How a listener answers TLS handshakes.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// For nearly all clients: of the suites that both sides know, the first of ours is taken.
    pub config: Arc<ServerConfig>,
    /// For those that ask for ChaCha20 first: the first of theirs is.
    config_for_chacha: Arc<ServerConfig>,
    /// What `config` chooses from; tells which hosts may share a connection.
    pub certificates: Arc<CertificateTable>,
}

impl ServerTls {
    /// TLS 1.3 and 1.2 with the given certificates. Of the suites AES with keys of 128 bits comes first:
    /// no attack on it is known that longer keys would withstand, it is the one that every client of TLS
    /// 1.3 must have (RFC 8446 section 9.1), and handshakes and large bodies take much less computing
    /// than with 256 bits and SHA-384, which many clients list first. `alpn` lists protocols, the preferred first; a
    /// client that offers ALPN and none of these is refused (RFC 7301 section 3.2).
    ///
    /// Sessions are resumed by ticket only, so that they cost no memory here.
    ///
    /// # Errors
    /// If the TLS library refuses the settings.
    pub fn new(
        certificates: Arc<CertificateTable>,
        alpn: &[&[u8]],
        ticketer: Arc<dyn ProducesTickets>,
    ) -> Result<Self, TlsError> {
        let resolver: Arc<CertificateTable> = Arc::clone(&certificates);
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(VERSIONS)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = owned(alpn);
        config.ticketer = ticketer;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Every handshake brings a ticket, a resumed one too; more than one at a time would help
        // only clients that open several connections at once, and cost all others.
        config.send_tls13_tickets = 1;
        // Early data can be replayed by anyone who saw it (RFC 8446 section 8).
        config.max_early_data_size = 0;
        config.ignore_client_order = false;
        let config_for_chacha = Arc::new(config.clone());
        config.ignore_client_order = true;
        Ok(Self { config: Arc::new(config), config_for_chacha, certificates })
    }

    /// What a client is answered with. Whoever asks for ChaCha20 first has no AES in hardware, and gets
    /// what it asks for.
    pub fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let known = |suite: &&CipherSuite| {
            self.config.crypto_provider().cipher_suites.iter().any(|ours| ours.suite() == **suite)
        };
        let first = hello.cipher_suites().iter().find(known);
        Arc::clone(match first {
            Some(suite) if is_chacha20(*suite) => &self.config_for_chacha,
            _ => &self.config,
        })
    }
}

/// Whom an upstream connection believes.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Certificates signed by these, from [`system_authorities`] or [`authorities`].
    Authorities(Arc<RootCertStore>),
    /// Whoever answers: the connection is encrypted, but anyone in between can read it.
    Anyone,
}

/// How an upstream opens TLS connections.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// For the connector. It remembers sessions to resume, so keep it as long as its settings.
    pub config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// TLS 1.3 and 1.2. `server_name` is what the backends' certificates must hold, where that is
    /// not the host they are reached by. `alpn` lists protocols, the preferred first.
    ///
    /// # Errors
    /// If `server_name` is none, or the TLS library refuses the settings.
    pub fn new(server_name: Option<&str>, trust: Trust, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let server_name = server_name.map(parse_server_name).transpose()?;
        let provider = provider();
        // Its first use takes tens of milliseconds: now, and not on the worker whose connection is the
        // first. For a listener's TLS its ticketer has seen to that.
        provider.secure_random.fill(&mut [0]).map_err(rustls::Error::from)?;
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Authorities(roots) => {
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .map_err(|error| rustls::Error::General(error.to_string()))?
            }
            Trust::Anyone => Arc::new(BelieveAnyone(supported_schemes(&provider))),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = owned(alpn);
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// The name to ask for, and to find in the certificate, of a backend reached by `host` (a DNS
    /// name or an address, without port and brackets). To be asked once per backend.
    ///
    /// # Errors
    /// If no `server_name` is set, and `host` is none either.
    pub fn server_name_for(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => parse_server_name(host),
        }
    }
}

/// The authorities that the system trusts. Reads files and can take a tenth of a second, so do it
/// once per configuration, if any upstream needs it.
///
/// # Errors
/// If there are none. Single ones that cannot be read are passed over, as other programs do.
pub fn system_authorities() -> Result<Arc<RootCertStore>, TlsError> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let reason = loaded.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsError::NoSystemAuthorities { reason });
    }
    Ok(Arc::new(roots))
}

/// The authorities of a CA file, PEM. A certificate that signs itself may stand for itself.
///
/// # Errors
/// If it holds none, or one that cannot be used.
pub fn authorities(ca_pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, der) in certs::authorities(ca_pem)?.into_iter().enumerate() {
        roots
            .add(der)
            .map_err(|source| TlsError::UnusableAuthority { position: index + 1, source })?;
    }
    Ok(Arc::new(roots))
}

/// What to do about a failed handshake with a backend, where that is known.
pub fn upstream_hint(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                Some("set `tls.ca` to the authority that signed the backend's certificate")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Some("set `tls.server_name` to a name that the backend's certificate holds")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Some("renew the backend's certificate")
            }
            _ => None,
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            Some("the backend does not speak TLS on this port")
        }
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            Some("the backend does not offer the protocol that `upstream.protocol` asks for")
        }
        _ => None,
    }
}

fn is_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

fn is_chacha20(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

fn parse_server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}

fn supported_schemes(provider: &CryptoProvider) -> Vec<SignatureScheme> {
    provider.signature_verification_algorithms.supported_schemes()
}

/// For [`Trust::Anyone`]. Signatures of the handshake are not checked either: they would prove that
/// the peer has the key of a certificate that proves nothing.
#[derive(Debug)]
struct BelieveAnyone(Vec<SignatureScheme>);

impl ServerCertVerifier for BelieveAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests;
