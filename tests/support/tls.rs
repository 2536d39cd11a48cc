//! One authority for the whole test process, and TLS for both sides under it.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tidegate::certs::generate::{Authority, PemPair, Validity};
use tidegate::state::tls::{ClientTls, Trust, authorities};

/// The authority that everybody in the tests trusts.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY
        .get_or_init(|| Authority::new("test", Validity::of_days(SystemTime::now(), 1)).unwrap())
}

/// A certificate of the authority for these names.
pub fn issue(names: &[&str]) -> PemPair {
    authority().issue(names, Validity::of_days(SystemTime::now(), 1)).unwrap()
}

/// The certificate of a pair, as it goes over the wire.
pub fn der(pair: &PemPair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()
}

/// What a TLS backend of these names needs.
pub fn server(names: &[&str], alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let pair = issue(names);
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der(&pair)], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// A client that trusts the authority.
pub fn client(alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let roots = authorities(authority().pem().as_bytes()).unwrap();
    ClientTls::new(None, Trust::Authorities(roots), alpn).unwrap().config
}

/// A client that trusts the authority and speaks one version of TLS only.
pub fn client_of(version: &'static SupportedProtocolVersion, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let roots = authorities(authority().pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}
