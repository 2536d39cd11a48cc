//! Handshakes that do not end, and too many that do.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::flood::Flood;
use crate::support::tls;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes() {
    Flood::new("half_open_handshakes")
        .memory_each(16 + 32)
        .good_over_tls()
        .run(1000, |target, number| async move {
            let Ok(mut stream) = TcpStream::connect(target.https).await else { return };
            target.count();
            if number % 2 == 0 {
                // The head of a record that promises the longest handshake message there is.
                let _ = stream.write_all(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03").await;
            } else {
                let _ = stream.write_all(&client_hello()).await;
                // The server has answered with its flight by now.
                let _ = stream.read_u8().await;
            }
            std::future::pending::<()>().await;
        })
        .await;
}

fn client_hello() -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(tls::client(&[b"h2"]), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes() {
    let mut config = (*tls::client(&[b"h2"])).clone();
    config.resumption = rustls::client::Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));
    Flood::new("handshakes")
        .good_over_tls()
        .run(64, move |target, _| {
            let connector = connector.clone();
            async move {
                while target.goes_on() {
                    let Ok(stream) = TcpStream::connect(target.https).await else { continue };
                    let name = ServerName::try_from("localhost").unwrap();
                    if connector.connect(name, stream).await.is_ok() {
                        target.count();
                    }
                }
            }
        })
        .await;
}
