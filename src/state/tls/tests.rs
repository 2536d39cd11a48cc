use std::io::Write;
use std::time::SystemTime;

use rustls::server::Acceptor;
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion, ServerConnection};

use super::*;
use crate::certs::generate::{Authority, PemPair, Validity, self_signed};

// The handshakes compare certificates with the real clock.
fn validity() -> Validity {
    Validity::of_days(SystemTime::now(), 1)
}

fn table(pairs: &[&PemPair]) -> Arc<CertificateTable> {
    let identities = pairs.iter().map(|pair| {
        certs::parse(pair.cert.as_bytes(), pair.key.as_bytes(), SystemTime::now()).unwrap()
    });
    Arc::new(CertificateTable::new(identities.collect()).unwrap())
}

fn server(pairs: &[&PemPair], ticketer: &Arc<dyn ProducesTickets>) -> ServerTls {
    ServerTls::new(table(pairs), &[ALPN_H2, ALPN_HTTP1], Arc::clone(ticketer)).unwrap()
}

fn trusting(ca_pem: &str) -> Trust {
    Trust::Authorities(authorities(ca_pem.as_bytes()).unwrap())
}

fn client(trust: Trust, alpn: &[&[u8]]) -> ClientTls {
    ClientTls::new(None, trust, alpn).unwrap()
}

/// A client's settings held to one TLS version.
fn only(version: &'static SupportedProtocolVersion, ca_pem: &str) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(authorities(ca_pem.as_bytes()).unwrap())
        .with_no_client_auth();
    Arc::new(config)
}

/// Both ends of one connection, in memory.
#[derive(Debug)]
struct Ends {
    client: ClientConnection,
    server: ServerConnection,
}

impl Ends {
    fn leaf(&self) -> &[u8] {
        self.client.peer_certificates().unwrap()[0].as_ref()
    }
}

/// Shakes hands until neither end has anything to say, session tickets included. The error is the
/// client's if it has one, else the server's.
fn handshake(
    server: &ServerTls,
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Ends, rustls::Error> {
    let mut client = ClientConnection::new(Arc::clone(config), name)?;
    let mut failure = None;
    let mut wire = Vec::new();
    let mut acceptor = Acceptor::default();
    client.write_tls(&mut wire).unwrap();
    acceptor.read_tls(&mut &*std::mem::take(&mut wire)).unwrap();
    let accepted = acceptor.accept().unwrap().unwrap();
    let config = server.config_for(&accepted.client_hello());
    let mut server = match accepted.into_connection(config) {
        Ok(server) => server,
        Err((error, mut alert)) => {
            alert.write_all(&mut wire).unwrap();
            receive(&mut wire, |bytes| {
                client.read_tls(bytes).unwrap();
                client.process_new_packets().map(|_| ())
            })?;
            return Err(error);
        }
    };
    while client.wants_write() || server.wants_write() {
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        if let Err(error) = receive(&mut wire, |bytes| {
            server.read_tls(bytes).unwrap();
            server.process_new_packets().map(|_| ())
        }) {
            failure.get_or_insert(error);
        }
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        receive(&mut wire, |bytes| {
            client.read_tls(bytes).unwrap();
            client.process_new_packets().map(|_| ())
        })?;
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(Ends { client, server }),
    }
}

fn receive(
    wire: &mut Vec<u8>,
    mut take: impl FnMut(&mut &[u8]) -> Result<(), rustls::Error>,
) -> Result<(), rustls::Error> {
    let sent = std::mem::take(wire);
    let mut rest = sent.as_slice();
    while !rest.is_empty() {
        take(&mut rest)?;
    }
    Ok(())
}

fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).unwrap()
}

#[test]
fn sessions_resume_after_a_reload_that_keeps_the_ticketer() {
    let pair = self_signed(&["a.test"], validity()).unwrap();
    let ticketer = ticketer().unwrap();
    let (before, after) = (server(&[&pair], &ticketer), server(&[&pair], &ticketer));
    for (version, expected) in
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let config = only(version, &pair.cert);
        let first = handshake(&before, &config, name("a.test")).unwrap();
        assert_eq!(first.server.protocol_version(), Some(expected));
        assert_eq!(first.server.handshake_kind(), Some(HandshakeKind::Full), "{expected:?}");
        let second = handshake(&after, &config, name("a.test")).unwrap();
        assert_eq!(second.server.handshake_kind(), Some(HandshakeKind::Resumed), "{expected:?}");
        assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Resumed), "{expected:?}");
    }
}

#[test]
fn sessions_resume_on_the_same_settings() {
    let pair = self_signed(&["a.test"], validity()).unwrap();
    let server = server(&[&pair], &ticketer().unwrap());
    for version in [&TLS12, &TLS13] {
        let config = only(version, &pair.cert);
        let kinds = [0; 4].map(|_| {
            let ends = handshake(&server, &config, name("a.test")).unwrap();
            ends.server.handshake_kind().unwrap()
        });
        let resumed = HandshakeKind::Resumed;
        assert_eq!(kinds, [HandshakeKind::Full, resumed, resumed, resumed], "{version:?}");
    }
}

#[test]
fn another_ticketer_does_not_resume_but_shakes_hands_in_full() {
    let pair = self_signed(&["a.test"], validity()).unwrap();
    let (one, other) =
        (server(&[&pair], &ticketer().unwrap()), server(&[&pair], &ticketer().unwrap()));
    for version in [&TLS12, &TLS13] {
        let config = only(version, &pair.cert);
        handshake(&one, &config, name("a.test")).unwrap();
        let second = handshake(&other, &config, name("a.test")).unwrap();
        assert_eq!(second.server.handshake_kind(), Some(HandshakeKind::Full), "{version:?}");
    }
}

#[test]
fn one_ticket_per_handshake_is_sent() {
    let pair = self_signed(&["a.test"], validity()).unwrap();
    let server = server(&[&pair], &ticketer().unwrap());
    let ends = handshake(&server, &only(&TLS13, &pair.cert), name("a.test")).unwrap();
    assert_eq!(ends.client.tls13_tickets_received(), 1);
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let authority = Authority::new("Test", validity()).unwrap();
    let pairs = [&["a.test", "127.0.0.1"][..], &["*.example.org"], &["api.example.org"]]
        .map(|names| authority.issue(names, validity()).unwrap());
    let [a, wild, api] = &pairs;
    let server = server(&[a, wild, api], &ticketer().unwrap());
    let client = client(trusting(&authority.pem()), &[]);
    for (host, index) in
        [("a.test", 0), ("shop.example.org", 1), ("api.example.org", 2), ("127.0.0.1", 0)]
    {
        let ends =
            handshake(&server, &client.config, client.server_name_for(host).unwrap()).unwrap();
        let expected = &server.certificates.identities()[index].certified_key.cert[0];
        assert_eq!(ends.leaf(), expected.as_ref(), "{host}");
    }
}

#[test]
fn the_server_prefers_its_own_order_of_protocols() {
    let pair = self_signed(&["a.test"], validity()).unwrap();
    let server = server(&[&pair], &ticketer().unwrap());
    let cases = [
        (&[ALPN_HTTP1, ALPN_H2][..], Some(ALPN_H2)),
        (&[ALPN_HTTP1], Some(ALPN_HTTP1)),
        (&[], None),
    ];
    for (offered, agreed) in cases {
        let client = client(trusting(&pair.cert), offered);
        let ends = handshake(&server, &client.config, name("a.test")).unwrap();
        assert_eq!(ends.server.alpn_protocol(), agreed, "{offered:?}");
        assert_eq!(ends.client.alpn_protocol(), agreed, "{offered:?}");
    }
}

#[test]
fn protocols_that_nobody_shares_end_the_handshake() {
    let pair = self_signed(&["a.test"], validity()).unwrap();
    let ticketer = ticketer().unwrap();
    let server = ServerTls::new(table(&[&pair]), &[ALPN_HTTP1], ticketer).unwrap();
    let client = client(trusting(&pair.cert), &[ALPN_H2]);
    let error = handshake(&server, &client.config, name("a.test")).unwrap_err();
    assert_eq!(
        error,
        rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)
    );
    assert!(upstream_hint(&error).unwrap().contains("upstream.protocol"));
}

#[test]
fn a_stranger_is_refused_unless_anyone_is_believed() {
    let pair = self_signed(&["a.test"], validity()).unwrap();
    let other = self_signed(&["a.test"], validity()).unwrap();
    let server = server(&[&pair], &ticketer().unwrap());

    let strict = client(trusting(&other.cert), &[]);
    let error = handshake(&server, &strict.config, name("a.test")).unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");

    let lax = client(Trust::Anyone, &[]);
    for host in ["a.test", "b.test", "127.0.0.1"] {
        assert!(handshake(&server, &lax.config, name(host)).is_ok(), "{host}");
    }
}

#[test]
fn failed_handshakes_come_with_advice() {
    let authority = Authority::new("Test", validity()).unwrap();
    let stranger = Authority::new("Stranger", validity()).unwrap();
    let pair = authority.issue(&["a.test"], validity()).unwrap();
    let server = server(&[&pair], &ticketer().unwrap());
    let hint = |ca: &Authority, host| {
        let client = client(trusting(&ca.pem()), &[]);
        upstream_hint(&handshake(&server, &client.config, name(host)).unwrap_err()).unwrap()
    };
    assert!(hint(&stranger, "a.test").contains("tls.ca"));
    assert!(hint(&authority, "b.test").contains("tls.server_name"));

    let client = client(trusting(&authority.pem()), &[]);
    let mut plain = ClientConnection::new(client.config, name("a.test")).unwrap();
    plain.read_tls(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]).unwrap();
    let error = plain.process_new_packets().unwrap_err();
    assert_eq!(upstream_hint(&error), Some("the backend does not speak TLS on this port"));
}

#[test]
fn a_server_name_that_is_set_stands_for_every_backend() {
    let fixed = ClientTls::new(Some("app.internal"), Trust::Anyone, &[]).unwrap();
    assert_eq!(fixed.server_name_for("10.0.0.1").unwrap(), name("app.internal"));

    let free = client(Trust::Anyone, &[]);
    assert_eq!(free.server_name_for("10.0.0.1").unwrap(), name("10.0.0.1"));
    assert_eq!(free.server_name_for("::1").unwrap(), name("::1"));
    assert_eq!(free.server_name_for("app.test").unwrap(), name("app.test"));
}

#[test]
fn names_that_no_certificate_holds_are_refused_in_words() {
    for bad in ["", "app.test:443", "http://app.test", "a b"] {
        let error = ClientTls::new(Some(bad), Trust::Anyone, &[]).unwrap_err();
        assert!(matches!(&error, TlsError::ServerName(name) if name == bad), "{bad:?}");
        assert!(error.to_string().contains("tls.server_name"), "{error}");
    }
}

#[test]
fn a_ca_file_without_an_authority_is_refused_in_words() {
    let pair = self_signed(&["a.test"], validity()).unwrap();
    let error = authorities(pair.key.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "the CA file holds no certificate, only PRIVATE KEY");

    let mut nonsense = Vec::from(pair.cert.as_bytes());
    nonsense.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let error = authorities(&nonsense).unwrap_err();
    assert!(matches!(error, TlsError::UnusableAuthority { position: 2, .. }), "{error}");
}

#[test]
fn aes_with_128_bits_is_taken_unless_the_client_asks_for_chacha20_first() {
    let pair = self_signed(&["a.test"], validity()).unwrap();
    let server = server(&[&pair], &ticketer().unwrap());
    let chosen = |versions: &[&'static SupportedProtocolVersion], first: &[&str]| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| {
            let name = format!("{:?}", suite.suite());
            first.iter().position(|part| name.contains(part)).unwrap_or(first.len())
        });
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(authorities(pair.cert.as_bytes()).unwrap())
            .with_no_client_auth();
        let ends = handshake(&server, &Arc::new(config), name("a.test")).unwrap();
        format!("{:?}", ends.server.negotiated_cipher_suite().unwrap().suite())
    };
    for version in [&TLS13, &TLS12] {
        assert!(chosen(&[version], &["AES_256"]).ends_with("AES_128_GCM_SHA256"));
        assert!(chosen(&[version], &["AES_128"]).ends_with("AES_128_GCM_SHA256"));
        assert!(chosen(&[version], &["CHACHA20"]).ends_with("CHACHA20_POLY1305_SHA256"));
    }
}
