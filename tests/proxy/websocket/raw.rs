//! Tunnels of any protocol, byte by byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::before;
use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::H2Client;
use crate::support::proxy::{HTTPS, Proxy, pool_of};
use crate::support::wire::read_head;
use crate::support::{eventually, in_time};

/// What asks for a protocol that nobody has heard of.
const ASK: &str = "GET /up HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";

/// Switches and says back what it is told.
async fn shouter() -> Backend {
    Backend::start(|_| Reply::raw(SWITCH).then(Step::Echo)).await
}

#[tokio::test]
async fn other_protocols_pass() {
    let backend = shouter().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    let answer = client.head().await.unwrap();
    assert_eq!((answer.status(), answer.field("upgrade")), (101, Some("shout")));
    client.send("hello").await;
    assert_eq!(client.bytes(5).await, b"hello");
    assert_eq!(backend.requests()[0].all("upgrade"), ["shout"]);
}

#[tokio::test]
async fn bytes_right_behind_the_request_are_not_lost() {
    let backend = shouter().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(format!("{ASK}early")).await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    client.send(" and late").await;
    assert_eq!(client.bytes(14).await, b"early and late");
}

#[tokio::test]
async fn more_bytes_behind_the_request_than_are_held_are_not_lost() {
    let backend = Backend::start(|_| Reply::raw(SWITCH).then(Step::Echo).after(Step::Hold)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    let early = "x".repeat(200_000);
    client.send(format!("{ASK}{early}")).await;
    backend.release();
    assert_eq!(client.head().await.unwrap().status(), 101);
    assert!(client.bytes(early.len()).await == early.as_bytes());
}

#[tokio::test]
async fn bytes_right_behind_the_answer_are_not_lost() {
    let backend = Backend::start(|_| Reply::raw(format!("{SWITCH}early")).then(Step::Echo)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    assert_eq!(client.head().await.unwrap().status(), 101);
    assert_eq!(client.bytes(5).await, b"early");
}

#[tokio::test]
async fn a_client_may_end_its_half_and_still_hear() {
    let backend = shouter().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    client.send("last words").await;
    client.finish().await;
    assert_eq!(client.rest().await, b"last words");
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

#[tokio::test]
async fn a_backend_may_end_its_half_and_still_hear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, mut ahead) = loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut ahead = Vec::new();
            // Probes connect and say nothing.
            if read_head(&mut stream, &mut ahead).await.is_ok() {
                break (stream, ahead);
            }
        };
        stream.write_all(SWITCH.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut ahead).await.unwrap();
        heard.send(ahead).unwrap();
    });
    let proxy = before(address).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    assert_eq!(client.rest().await, b"");
    client.send("last words").await;
    client.finish().await;
    assert_eq!(in_time("the words", hears).await.unwrap(), b"last words");
    eventually("free", async || proxy.in_flight_at(address) == 0).await;
}

/// The proxy learns only from what the client sends that nobody is there to hear it.
#[tokio::test]
async fn whoever_talks_to_a_backend_that_has_closed_is_let_go() {
    let backend = Backend::start(|_| Reply::raw(SWITCH).then(Step::Close)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    assert_eq!(client.rest().await, b"");
    eventually("free", async || {
        let _closed = client.try_send("hello?").await;
        proxy.in_flight(&backend) == 0
    })
    .await;
    eventually("no tunnel", async || proxy.metric("tidegate_tunnels", &[]) == 0.0).await;
}

#[tokio::test]
async fn a_tunnel_that_nobody_uses_is_closed() {
    let backend = shouter().await;
    let pool = pool_of(&[&backend]);
    let limit = "[pools.app.upstream]\ntunnel_idle_timeout = \"200ms\"\n";
    let proxy = Proxy::start(&format!("{pool}{limit}")).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    client.send("hello").await;
    assert_eq!(client.rest().await, b"hello");
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

/// A backend that upgrades nobody.
async fn declining() -> Backend {
    Backend::start(|request| match request.field("upgrade") {
        Some(_) => Reply::status(403, "no"),
        None => Reply::ok("plain"),
    })
    .await
}

#[tokio::test]
async fn a_connection_goes_on_after_a_declined_upgrade() {
    let backend = declining().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        client.send(ASK).await;
        let answer = client.response().await.unwrap();
        assert_eq!((answer.status(), &*answer.text()), (403, "no"));
        assert_eq!(client.get("/").await.text(), "plain");
    }
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}

#[tokio::test]
async fn a_request_right_behind_a_declined_upgrade_is_served() {
    let backend = declining().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(format!("{ASK}GET / HTTP/1.1\r\nHost: test\r\n\r\n")).await;
    assert_eq!(client.response().await.unwrap().status(), 403);
    assert_eq!(client.response().await.unwrap().text(), "plain");
}

#[tokio::test]
async fn a_head_is_not_taken_for_a_wish() {
    let only_head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let backend = Backend::start(move |request| match request.request_line().0 {
        "HEAD" => Reply::raw(only_head),
        _ => Reply::ok("plain"),
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK.replace("GET", "HEAD")).await;
    let answer = client.head().await.unwrap();
    assert_eq!((answer.status(), answer.field("content-length")), (200, Some("5")));
    assert_eq!(client.get("/").await.text(), "plain");
    assert_eq!(backend.requests()[0].field("upgrade"), None);
    eventually("both are judged", async || proxy.judged(backend.address) == (2, 0)).await;
}

/// RFC 9110 section 15.5.22.
#[tokio::test]
async fn a_426_says_what_is_needed() {
    let backend = Backend::start(|request| {
        let status = if request.request_line().1 == "/426" { "426 Switch" } else { "400 Bad" };
        Reply::raw(format!(
            "HTTP/1.1 {status}\r\nConnection: upgrade\r\nUpgrade: shout\r\nUpgrade: b\r\n\
             Content-Length: 0\r\n\r\n"
        ))
    })
    .await;
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_of(&[&backend]))).await;
    let mut client = proxy.connect().await;
    for (target, upgrade) in [("/426", &["shout, b"][..]), ("/400", &[]), ("/426", &["shout, b"])] {
        for request in [ASK, "GET /up HTTP/1.1\r\nHost: test\r\n\r\n"] {
            client.send(request.replace("/up", target)).await;
            let answer = client.response().await.unwrap();
            let connection = if upgrade.is_empty() { &[][..] } else { &["upgrade"] };
            assert_eq!(answer.all("upgrade"), upgrade, "{target}");
            assert_eq!(answer.all("connection"), connection, "{target}");
        }
    }
    client.send("GET /426 HTTP/1.0\r\n\r\n").await;
    let answer = client.response().await.unwrap();
    assert_eq!((answer.status(), answer.field("upgrade")), (426, None));
    let answer = H2Client::connect(proxy.address("https")).await.get("/426").await;
    assert_eq!((answer.status.as_u16(), answer.field("upgrade")), (426, None));
}

#[tokio::test]
async fn h2c_is_not_forwarded() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.unwrap().text(), "one");
    let request = &backend.requests()[0];
    for name in ["upgrade", "http2-settings"] {
        assert_eq!(request.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_backend_that_dies_ends_the_tunnel() {
    let backend = shouter().await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    backend.kill();
    client.rest().await;
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
}
