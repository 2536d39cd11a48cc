//! What a table cannot tell.

use tokio::io::AsyncWriteExt;

use super::raw;
use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::h2_backend::H2Backend;
use crate::support::h2_client::H2Client;
use crate::support::proxy::{HTTPS, Proxy, pool_at, quiet_pool_of};
use crate::support::wire::Message;

fn malformed(proxy: &Proxy) -> f64 {
    proxy.metric("tidegate_backend_malformed_responses_total", &[])
}

async fn get(proxy: &Proxy) -> Message {
    proxy.connect().await.get("/").await
}

/// RFC 9112 section 9.2.
#[tokio::test]
async fn what_comes_between_two_requests_is_nobodys_answer() {
    let early = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
    let backend =
        Backend::start(move |_| Reply::ok("well").then(Step::Hold).then(Step::Send(early.into())))
            .await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    for round in 1..=5 {
        assert_eq!(get(&proxy).await.text(), "well");
        backend.release();
        eventually("it is closed", async || backend.open_connections() == 0).await;
        assert_eq!(malformed(&proxy), f64::from(round));
    }
    assert_eq!(backend.requests().len(), 5);
}

#[tokio::test]
async fn a_backend_that_speaks_first_is_no_backend() {
    let address = raw(async |mut stream: tokio::net::TcpStream| {
        let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n").await;
        std::future::pending().await
    })
    .await;
    let proxy = Proxy::start(&pool_at(&[address])).await;
    for _ in 0..5 {
        assert_eq!(get(&proxy).await.status(), 502);
    }
    assert!(malformed(&proxy) >= 5.0);
}

/// Whoever has answered may have acted: a second backend is not asked.
#[tokio::test]
async fn nonsense_is_not_asked_for_twice() {
    let nonsense = || Backend::start(|_| Reply::raw("nonsense\r\n"));
    let backends = [nonsense().await, nonsense().await];
    let proxy = Proxy::start(&quiet_pool_of(&backends.each_ref())).await;
    assert_eq!(get(&proxy).await.status(), 502);
    assert_eq!(backends[0].requests().len() + backends[1].requests().len(), 1);
}

#[tokio::test]
async fn the_log_says_that_it_was_malformed() {
    let backend = Backend::start(|request| match request.request_line().1 {
        "/head" => Reply::raw("HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        "/body" => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .then(Step::Hold)
            .then(Step::Send("z\r\n".into())),
        _ => Reply::ok(""),
    })
    .await;
    let log = "[log]\naccess = \"json\"\naccess_path = \"access.log\"\n";
    let proxy = Proxy::start(&format!("{log}{}", quiet_pool_of(&[&backend]))).await;
    assert_eq!(proxy.connect().await.get("/head").await.status(), 502);
    let mut client = proxy.connect().await;
    client.send("GET /body HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().status(), 200);
    backend.release();
    client.rest().await;
    let path = proxy.dir().join("access.log");
    for start in ["\"/head\"", "\"/body\""] {
        eventually("it is in the log", async || {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            log.lines().any(|line| line.contains(start) && line.contains("\"malformed_response\""))
        })
        .await;
    }
}

/// RFC 9112 sections 6.3 and 7.1.
#[tokio::test]
async fn a_body_until_close_stays_recognisable_as_complete() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it";
    let backend = Backend::start(move |_| Reply::raw(answer).then(Step::Close)).await;
    let proxy = Proxy::start(&(quiet_pool_of(&[&backend]) + HTTPS)).await;
    let mut client = proxy.connect().await;
    let over_h1 = client.get("/").await;
    assert_eq!(over_h1.field("transfer-encoding"), Some("chunked"));
    assert_eq!(over_h1.text(), "all of it");
    assert_eq!(client.get("/").await.text(), "all of it", "the client's connection goes on");

    client.send("GET / HTTP/1.0\r\nHost: test\r\n\r\n").await;
    let over_http10 = client.response().await.unwrap();
    assert_eq!(over_http10.field("transfer-encoding"), None);
    assert_eq!(over_http10.text(), "all of it");

    let mut h2 = H2Client::connect(proxy.address("https")).await;
    assert_eq!(h2.get("/").await.text(), "all of it");
}

#[tokio::test]
async fn a_body_until_close_that_is_reset_is_cut_off() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\n\r\npart of it").then(Step::Hold).then(Step::Reset)
    })
    .await;
    let proxy = Proxy::start(&(quiet_pool_of(&[&backend]) + HTTPS)).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().status(), 200);
    backend.release();
    let rest = client.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));

    let mut h2 = H2Client::connect(proxy.address("https")).await;
    backend.release();
    let error = h2.ask(crate::support::h2_client::get("/")).await.unwrap_err();
    assert!(error.is_reset(), "{error}");
}

/// RFC 9110 section 7.6.1.
#[tokio::test]
async fn hop_by_hop_fields_end_here() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close, X-Listed, Content-Length\r\nX-Listed: 1\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
                  Upgrade: h2c\r\nProxy-Authenticate: Basic\r\nX-Kept: 1\r\n\
                  Content-Length: 2\r\n\r\nok";
    let backend = Backend::start(move |_| Reply::raw(answer)).await;
    let proxy = Proxy::start(&(quiet_pool_of(&[&backend]) + HTTPS)).await;
    let gone = [
        "connection",
        "x-listed",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "proxy-authenticate",
        "transfer-encoding",
    ];
    let over_h1 = get(&proxy).await;
    let over_h2 = H2Client::connect(proxy.address("https")).await.get("/").await;
    for name in gone {
        assert_eq!((over_h1.field(name), over_h2.field(name)), (None, None), "{name}");
    }
    for name in ["x-kept", "content-length"] {
        assert!(over_h1.field(name).is_some() && over_h2.field(name).is_some(), "{name}");
    }
}

/// RFC 9110 section 6.5.1.
#[tokio::test]
async fn trailers_that_belong_into_the_head_are_left_out() {
    let answer = "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Content-Length, Set-Cookie\r\n\
                  Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
                  X-Sum: 1\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\nHost: evil\r\n\r\n";
    let backend = Backend::start(move |_| Reply::raw(answer)).await;
    let proxy = Proxy::start(&(quiet_pool_of(&[&backend]) + HTTPS)).await;
    let mut client = proxy.connect().await;
    let over_h1 = client.ask("GET", "/", &[("TE", "trailers")], "").await;
    assert_eq!(over_h1.text(), "ok");
    assert_eq!(over_h1.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    let over_h2 = H2Client::connect(proxy.address("https")).await.get("/").await;
    let names: Vec<String> =
        over_h2.trailers.unwrap().keys().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(names, ["x-sum"]);
}

/// RFC 9110 section 7.8.
#[tokio::test]
async fn a_switch_to_something_else_is_refused() {
    let upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket")];
    for other in ["Upgrade: h2c\r\n", "Upgrade: websocket, h2c\r\n", ""] {
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n{other}\r\nsomething else"
        );
        let backend = Backend::start(move |_| Reply::raw(&answer)).await;
        let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
        let refused = proxy.connect().await.ask("GET", "/", &upgrade, "").await;
        assert_eq!(refused.status(), 502, "{other:?}");
        eventually("it is closed", async || backend.open_connections() == 0).await;
    }
}

#[tokio::test]
async fn a_malformed_answer_to_an_upgrade_is_refused() {
    let backend = Backend::start(|_| Reply::raw("HTTP/1.1 101 Yes\nUpgrade: websocket\n\n")).await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket")];
    assert_eq!(proxy.connect().await.ask("GET", "/", &upgrade, "").await.status(), 502);
    assert_eq!(malformed(&proxy), 1.0);
}

/// RFC 9110 section 15, and RFC 9113 section 8.1.1.
#[tokio::test]
async fn answers_over_h2_are_held_to_the_same_rules() {
    let backend = H2Backend::start(async |mut exchange| match exchange.request.uri().path() {
        "/status" => exchange.bare(999, &[]),
        "/length" => {
            exchange.head(200, &[("content-length", "5")]).send_data("ab".into(), true).unwrap()
        }
        _ => exchange.ok("well"),
    })
    .await;
    let config = pool_at(&[backend.address]) + "[pools.app.upstream]\nprotocol = \"h2\"\n";
    let proxy = Proxy::start(&config).await;
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/status").await.status(), 502);
    assert_eq!(malformed(&proxy), 1.0);
    assert_eq!(client.get("/").await.text(), "well");
    client.send("GET /length HTTP/1.1\r\nHost: test\r\n\r\n").await;
    match client.response().await {
        Ok(answer) => assert_eq!(answer.status(), 502),
        Err(_) => assert_eq!(client.rest().await, b""),
    }
}
