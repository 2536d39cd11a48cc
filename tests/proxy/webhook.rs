//! The webhook, told over TLS by a whole proxy.

use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::backend::Backend;
use crate::support::proxy::Proxy;
use crate::support::wire::{Message, Wire, read_message};
use crate::support::{in_time, tls};
use crate::swaps::{shop, swap};

/// A receiver under this name.
struct Receiver {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl Receiver {
    async fn named(name: &str) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Receiver { listener, tls: tls::server(&[name], &[b"http/1.1"]).into() }
    }

    /// `[notify]` for it. The authority is that of all tests.
    fn config(&self) -> String {
        let port = self.listener.local_addr().unwrap().port();
        format!("[notify]\nurl = \"https://localhost:{port}/hook\"\nca = \"ca.pem\"\n")
    }

    /// The next message; `None` if whoever came did not like the certificate.
    async fn next(&self) -> Option<Message> {
        let (tcp, _) = in_time("a connection", self.listener.accept()).await.unwrap();
        let mut stream = self.tls.accept(tcp).await.ok()?;
        let message = read_message(&mut stream, &mut Vec::new(), true).await.ok()?;
        let mut wire = Wire::over(stream);
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        Some(message)
    }
}

#[tokio::test]
async fn swaps_are_told_over_tls_in_their_order() {
    let receiver = Receiver::named("localhost").await;
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let config = shop("blue", &[&blue], &[&green], "watch = \"100ms\"");
    let proxy = Proxy::start(&format!("{config}{}", receiver.config())).await;
    swap(&proxy, "green").await.unwrap();
    for kind in ["swap.started", "swap.switched", "swap.undecided", "swap.drained"] {
        let message = receiver.next().await.unwrap();
        assert_eq!(message.request_line(), ("POST", "/hook"));
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!((&body["type"], &body["data"]["pool"]), (&kind.into(), &"shop".into()));
    }
}

#[tokio::test]
async fn a_receiver_of_another_name_is_told_nothing() {
    let receiver = Receiver::named("elsewhere.example.com").await;
    let (blue, green) = (Backend::named("blue").await, Backend::named("green").await);
    let config = shop("blue", &[&blue], &[&green], "watch = \"100ms\"");
    let proxy = Proxy::start(&format!("{config}{}", receiver.config())).await;
    swap(&proxy, "green").await.unwrap();
    assert!(receiver.next().await.is_none());
}
