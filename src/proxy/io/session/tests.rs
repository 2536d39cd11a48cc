//! Sessions over loopback, and what goes out when.

use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ContentType, RootCertStore, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::Socket;
use super::*;

/// Both ends of a session over TCP whose handshake is done.
pub async fn settled(
    version: &'static SupportedProtocolVersion,
) -> (TlsStream<TcpStream>, Session) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, from) = listener.accept().await.unwrap();
    let raw = RawStream::Tcp(Socket::new(accepted.into_std().unwrap()), from);
    settled_over(version, tcp, raw).await
}

/// The same where the socket takes no more than a few KiB until the client reads, which it does past
/// TLS.
pub async fn settled_in_little() -> (UnixStream, Session) {
    let (client, socket) = UnixStream::pair().unwrap();
    SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
    let (client, session) = settled_over(&TLS12, client, RawStream::Unix(socket)).await;
    (client.into_inner().0, session)
}

async fn settled_over<T: AsyncRead + AsyncWrite + Unpin>(
    version: &'static SupportedProtocolVersion,
    socket: T,
    raw: RawStream,
) -> (TlsStream<T>, Session) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    server.send_tls13_tickets = 1;

    let name = "localhost".try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let server = Arc::new(server);
    let begun = Cell::new(false);
    let accepting = Session::accept(raw, &begun, |_| server);
    let (client, session) = tokio::join!(connector.connect(name, socket), accepting);
    (client.unwrap(), session.unwrap())
}

/// Whether nothing has come for the client.
fn is_silent(client: &TlsStream<TcpStream>) -> bool {
    client.get_ref().0.try_read(&mut [0]).is_err()
}

#[tokio::test]
async fn the_ticket_goes_with_the_first_answer() {
    let (mut client, mut session) = settled(&TLS13).await;
    assert!(session.holds_ticket() && !session.has_sealed() && is_silent(&client));
    let answer = [IoSlice::new(b"answer")];
    poll_fn(|cx| session.poll_write(cx, &answer)).await.unwrap();
    client.read_exact(&mut [0; 6]).await.unwrap();
    assert_eq!(client.get_ref().1.tls13_tickets_received(), 1);
    assert!(!session.holds_ticket());
}

#[tokio::test]
async fn the_ticket_goes_before_the_end() {
    let (mut client, mut session) = settled(&TLS13).await;
    poll_fn(|cx| session.poll_shutdown(cx)).await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(client.get_ref().1.tls13_tickets_received(), 1);
}

#[tokio::test]
async fn nothing_is_held_back_under_tls_1_2() {
    let (_client, session) = settled(&TLS12).await;
    assert!(!session.holds_ticket() && !session.tls().wants_write());
}

/// A handshake that asks for another one, as short as it may be (RFC 5246 section 7.4.1.2).
const HELLO: &[u8] = &{
    let mut hello = [0; 45];
    (hello[0], hello[3]) = (1, 41);
    (hello[4], hello[5]) = (3, 3);
    (hello[40], hello[41], hello[42], hello[43]) = (2, 0xc0, 0x2f, 1);
    hello
};

#[tokio::test]
async fn who_asks_for_another_handshake_is_told_that_there_will_be_none() {
    let (client, mut session) = settled(&TLS12).await;
    let (mut tcp, tls) = client.into_inner();
    let Some(SupportedCipherSuite::Tls12(suite)) = tls.negotiated_cipher_suite() else {
        panic!("TLS 1.2");
    };
    let (number, secrets) = tls.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        panic!("what the library likes best");
    };
    let (fixed, explicit) = iv.as_ref().split_at(4);
    let asked = OutboundPlainMessage {
        typ: ContentType::Handshake,
        version: ProtocolVersion::TLSv1_2,
        payload: OutboundChunks::Single(HELLO),
    };
    let mut encrypter = suite.aead_alg.encrypter(key, fixed, explicit);
    tcp.write_all(&encrypter.encrypt(asked, number).unwrap().encode()).await.unwrap();

    poll_fn(|cx| session.poll_readable(cx)).await.unwrap();
    let mut room = [0; 16];
    let read = poll_fn(|cx| Poll::Ready(session.poll_read(cx, &mut ReadBuf::new(&mut room)))).await;
    assert!(read.is_pending());
    assert!(!session.has_sealed(), "the client is told");
}
