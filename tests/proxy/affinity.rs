//! Cookies that keep a client on its backend.

use std::collections::BTreeSet;

use crate::support::backend::{Backend, Reply};
use crate::support::eventually;
use crate::support::proxy::{HTTPS, Proxy, app};
use crate::support::wire::{Message, Wire};

const CHECK: &str = "[pools.app.health]\ntype = \"tcp\"\ninterval = \"100ms\"\n";
const COOKIE: &str = "affinity = { cookie = \"seat\" }";

async fn three() -> [Backend; 3] {
    [Backend::named("a").await, Backend::named("b").await, Backend::named("c").await]
}

/// A proxy before these, with affinity by this.
async fn before(backends: &[&Backend], affinity: &str) -> Proxy {
    let proxy = Proxy::start(&app(backends, affinity, CHECK)).await;
    proxy.all_serve(backends).await;
    proxy
}

/// A request on a connection of its own, with this cookie.
async fn ask(proxy: &Proxy, cookie: Option<&str>) -> Message {
    let fields: Vec<(&str, &str)> = cookie.map(|cookie| ("Cookie", cookie)).into_iter().collect();
    proxy.connect().await.ask("GET", "/", &fields, "").await
}

/// The pair of name and value that a client is to send back.
fn pair(answer: &Message) -> String {
    let field = answer.field("set-cookie").expect("a cookie");
    field.split(';').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_client_stays_on_its_backend() {
    let backends = three().await;
    let proxy = before(&backends.each_ref(), COOKIE).await;
    let first = ask(&proxy, None).await;
    let cookie = pair(&first);
    for _ in 0..30 {
        assert_eq!(ask(&proxy, Some(&cookie)).await.text(), first.text());
    }
}

#[tokio::test]
async fn a_client_that_is_bound_is_not_told_again() {
    let backends = three().await;
    let proxy = before(&backends.each_ref(), COOKIE).await;
    let cookie = pair(&ask(&proxy, None).await);
    assert_eq!(ask(&proxy, Some(&cookie)).await.field("set-cookie"), None);
}

#[tokio::test]
async fn clients_without_a_cookie_are_spread() {
    let backends = three().await;
    let proxy = before(&backends.each_ref(), COOKIE).await;
    let mut used = BTreeSet::new();
    for _ in 0..100 {
        used.insert(ask(&proxy, None).await.text());
    }
    assert_eq!(used.len(), 3);
}

#[tokio::test]
async fn the_cookie_is_found_among_others() {
    let backends = three().await;
    let proxy = before(&backends.each_ref(), COOKIE).await;
    let first = ask(&proxy, None).await;
    let cookies = format!("theme=dark; {}; id=7", pair(&first));
    for _ in 0..20 {
        assert_eq!(ask(&proxy, Some(&cookies)).await.text(), first.text());
    }
}

#[tokio::test]
async fn the_cookie_says_nothing_about_the_backend() {
    let backend = Backend::named("a").await;
    let proxy = before(&[&backend], COOKIE).await;
    let cookie = pair(&ask(&proxy, None).await);
    assert!(!cookie.contains(&backend.address.port().to_string()), "{cookie}");
    assert_eq!(cookie.len(), "seat=".len() + 22, "{cookie}");
}

#[tokio::test]
async fn in_plain_text_the_cookie_is_not_marked_secure() {
    let backend = Backend::named("a").await;
    let proxy = before(&[&backend], COOKIE).await;
    let answer = ask(&proxy, None).await;
    let attributes = answer.field("set-cookie").unwrap().split_once("; ").unwrap().1;
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
}

#[tokio::test]
async fn over_tls_the_cookie_is_marked_secure() {
    let backend = Backend::named("a").await;
    let config = format!("{HTTPS}{}", app(&[&backend], COOKIE, CHECK));
    let proxy = Proxy::start(&config).await;
    let tls = proxy.client_tls(&[b"http/1.1"]);
    let mut client = Wire::connect_tls(proxy.address("https"), tls, "localhost").await.unwrap();
    let answer = client.ask("GET", "/", &[("Host", "localhost")], "").await;
    let attributes = answer.field("set-cookie").unwrap().split_once("; ").unwrap().1;
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Secure");
}

#[tokio::test]
async fn the_cookie_can_last_longer_than_the_browser() {
    let backend = Backend::named("a").await;
    let affinity = "affinity = { cookie = \"seat\", ttl = \"1h\", secure = \"always\" }";
    let proxy = before(&[&backend], affinity).await;
    let answer = ask(&proxy, None).await;
    let attributes = answer.field("set-cookie").unwrap().split_once("; ").unwrap().1;
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure");
}

#[tokio::test]
async fn a_cookie_of_the_backend_stays_beside_ours() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nSet-Cookie: id=7\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let proxy = before(&[&backend], COOKIE).await;
    let answer = ask(&proxy, None).await;
    let cookies = answer.all("set-cookie");
    assert_eq!(cookies.len(), 2);
    assert_eq!(cookies[0], "id=7");
}

#[tokio::test]
async fn an_unknown_cookie_is_replaced() {
    let backends = three().await;
    let proxy = before(&backends.each_ref(), COOKIE).await;
    for cookie in ["seat=AAAAAAAAAAAAAAAAAAAAAA", "seat=", "seat=127.0.0.1:80"] {
        let answer = ask(&proxy, Some(cookie)).await;
        assert_eq!(answer.status(), 200);
        assert_ne!(pair(&answer), cookie);
    }
}

#[tokio::test]
async fn a_client_whose_backend_is_gone_is_bound_anew() {
    let backends = three().await;
    let proxy = before(&backends.each_ref(), COOKIE).await;
    let first = ask(&proxy, None).await;
    let old = pair(&first);
    let gone = ["a", "b", "c"].iter().position(|name| *name == first.text()).unwrap();
    backends[gone].kill();
    // At once: the failed connect goes elsewhere, whatever the probes know.
    let moved = ask(&proxy, Some(&old)).await;
    assert_eq!(moved.status(), 200);
    assert_ne!(moved.text(), first.text());
    let new = pair(&moved);
    for _ in 0..20 {
        assert_eq!(ask(&proxy, Some(&new)).await.text(), moved.text());
    }
}

#[tokio::test]
async fn a_client_bound_to_an_unhealthy_backend_is_bound_anew() {
    let backends = three().await;
    let proxy = before(&backends.each_ref(), COOKIE).await;
    let first = ask(&proxy, None).await;
    let gone = ["a", "b", "c"].iter().position(|name| *name == first.text()).unwrap();
    backends[gone].kill();
    eventually("out", async || proxy.state_of(&backends[gone]) == "unhealthy").await;
    proxy.usable(2).await;
    let moved = ask(&proxy, Some(&pair(&first))).await;
    assert_ne!(pair(&moved), pair(&first));
    assert_eq!(proxy.metric("tidegate_backend_retries_total", &[]), 0.0);
}

#[tokio::test]
async fn a_reload_that_changes_the_backends_leaves_clients_where_they_are() {
    let backends = three().await;
    let proxy = before(&backends.each_ref(), COOKIE).await;
    let first = ask(&proxy, None).await;
    let cookie = pair(&first);
    let new = Backend::named("d").await;
    // Another order, and another member: the place in the list is not what a cookie names.
    let [a, b, c] = &backends;
    proxy.reload(&app(&[&new, c, b, a], COOKIE, CHECK)).await.unwrap();
    proxy.all_serve(&[&new, c, b, a]).await;
    for _ in 0..30 {
        assert_eq!(ask(&proxy, Some(&cookie)).await.text(), first.text());
    }
}

#[tokio::test]
async fn proxies_with_the_same_secret_agree() {
    let backends = three().await;
    let affinity = "affinity = { cookie = \"seat\", secret = \"sixteen characters\" }";
    let (here, there) = (
        before(&backends.each_ref(), affinity).await,
        before(&backends.each_ref(), affinity).await,
    );
    for _ in 0..10 {
        let first = ask(&here, None).await;
        let again = ask(&there, Some(&pair(&first))).await;
        assert_eq!(again.text(), first.text());
        assert_eq!(again.field("set-cookie"), None);
    }
}

#[tokio::test]
async fn proxies_with_secrets_of_their_own_do_not_know_each_others_cookies() {
    let backends = three().await;
    let (here, there) =
        (before(&backends.each_ref(), COOKIE).await, before(&backends.each_ref(), COOKIE).await);
    let cookie = pair(&ask(&here, None).await);
    assert_ne!(pair(&ask(&there, Some(&cookie)).await), cookie);
}

#[tokio::test]
async fn a_websocket_is_bound_too() {
    let backends = [
        Backend::start(|_| upgraded("a")).await,
        Backend::start(|_| upgraded("b")).await,
        Backend::start(|_| upgraded("c")).await,
    ];
    let proxy = before(&backends.each_ref(), COOKIE).await;
    let ask = async |cookie: &str| {
        let mut client = proxy.connect().await;
        let cookie = [("Upgrade", "websocket"), ("Connection", "upgrade"), ("Cookie", cookie)];
        let mut head = "GET / HTTP/1.1\r\nHost: test\r\n".to_owned();
        cookie.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        client.send(head + "\r\n").await;
        client.head().await.unwrap()
    };
    let first = ask("none=1").await;
    assert_eq!(first.status(), 101);
    for _ in 0..10 {
        let again = ask(&pair(&first)).await;
        assert_eq!(again.field("x-name"), first.field("x-name"));
    }
}

fn upgraded(name: &str) -> Reply {
    Reply::raw(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
         X-Name: {name}\r\n\r\n"
    ))
}
