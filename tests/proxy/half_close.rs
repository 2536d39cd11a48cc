//! Clients that close their sending side behind their requests and wait for the answers. They look
//! just like clients that have gone, and are waited with for `half_close_timeout`.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{HTTPS, Proxy, quiet_pool_of};
use crate::support::wire::Wire;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n";

/// A proxy that waits for so long, before a backend that does this.
async fn before(timeout: &str, reply: Reply) -> (Proxy, Backend) {
    let backend = Backend::start(move |_| reply.clone()).await;
    let limits = format!("[listeners.http.limits]\nhalf_close_timeout = \"{timeout}\"\n");
    let proxy = Proxy::start(&format!("{limits}{}", quiet_pool_of(&[&backend]))).await;
    (proxy, backend)
}

fn recorded(proxy: &Proxy, code: &str) -> f64 {
    let code = format!("code=\"{code}\"");
    proxy.metric("tidegate_listener_requests_total", &["listener=\"http\"", &code])
}

/// RFC 9112 section 9.6: a half-close ends what one side says, not what it hears.
#[tokio::test]
async fn one_request_is_answered() {
    let (proxy, _backend) = before("1h", Reply::ok("well")).await;
    let body = format!("{POST}0123456789");
    let close = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    for request in [GET, close, "GET / HTTP/1.0\r\n\r\n", &body] {
        let mut client = proxy.connect().await;
        client.send(request).await;
        client.finish().await;
        let answer = client.response().await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "well"), "{request}");
        assert_eq!(client.rest().await, b"", "and then we close too");
    }
}

/// RFC 9112 section 9.3.2.
#[tokio::test]
async fn all_pipelined_requests_are_answered() {
    let (proxy, backend) = before("1h", Reply::ok("well")).await;
    let mut client = proxy.connect().await;
    client.send(GET.repeat(3)).await;
    client.finish().await;
    for _ in 0..3 {
        assert_eq!(client.response().await.unwrap().text(), "well");
    }
    assert_eq!(client.rest().await, b"");
    assert_eq!(backend.requests().len(), 3);
}

#[tokio::test]
async fn a_slow_backend_is_waited_for() {
    let (proxy, backend) = before("1h", Reply::ok("well").after(Step::Hold)).await;
    let mut client = proxy.connect().await;
    client.send(GET).await;
    eventually("asked", async || proxy.in_flight(&backend) == 1).await;
    client.finish().await;
    let mut other = proxy.connect().await;
    other.send(GET).await;
    eventually("asked again", async || backend.requests().len() == 2).await;
    backend.release();
    backend.release();
    assert_eq!(client.response().await.unwrap().text(), "well");
    assert_eq!(client.rest().await, b"");
}

/// Over TLS it is the alert that says so (RFC 8446 section 6.1).
#[tokio::test]
async fn over_tls() {
    let backend = Backend::named("well").await;
    let proxy = Proxy::start(&format!("{HTTPS}{}", quiet_pool_of(&[&backend]))).await;
    let tls = proxy.client_tls(&[b"http/1.1"]);
    let mut client = Wire::connect_tls(proxy.address("https"), tls, "localhost").await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    client.finish().await;
    assert_eq!(client.response().await.unwrap().text(), "well");
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn who_waits_too_long_has_left() {
    let (proxy, backend) = before("100ms", Reply::default().then(Step::Swallow)).await;
    let mut client = proxy.connect().await;
    client.send(GET).await;
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    eventually("recorded", async || recorded(&proxy, "499") == 1.0).await;
    eventually("the slot is free", async || proxy.in_flight(&backend) == 0).await;
    eventually("the connection is closed", async || backend.open_connections() == 0).await;
}

/// So much has been sent ahead that the end cannot be seen. But that alone is no reason to leave.
#[tokio::test]
async fn who_has_sent_much_ahead_is_waited_for() {
    let (proxy, backend) = before("20ms", Reply::ok("well").after(Step::Hold)).await;
    let mut client = proxy.connect().await;
    client.send(GET.repeat(1_500)).await;
    eventually("asked", async || backend.requests().len() == 1).await;
    let mut impatient = proxy.connect().await;
    impatient.send(GET).await;
    eventually("asked again", async || backend.requests().len() == 2).await;
    impatient.finish().await;
    assert_eq!(impatient.rest().await, b"", "its time has passed");
    backend.release();
    backend.release();
    assert_eq!(client.response().await.unwrap().text(), "well");
}

#[tokio::test]
async fn without_a_timeout_the_client_has_left_at_once() {
    let (proxy, backend) = before("0s", Reply::default().then(Step::Swallow)).await;
    let mut client = proxy.connect().await;
    client.send(GET).await;
    eventually("asked", async || backend.requests().len() == 1).await;
    client.finish().await;
    assert_eq!(client.rest().await, b"");
    eventually("the slot is free", async || proxy.in_flight(&backend) == 0).await;
}

/// RFC 9112 section 8: an incomplete request is answered with 400 before the close. The log says 499,
/// since mostly nobody is there to read it.
#[tokio::test]
async fn half_a_body_is_refused() {
    let (proxy, _backend) = before("1h", Reply::ok("well")).await;
    let mut client = proxy.connect().await;
    client.send(format!("{POST}01234")).await;
    client.finish().await;
    let answer = client.response().await.unwrap();
    assert_eq!(answer.start, "HTTP/1.1 400 Bad Request");
    assert_eq!(answer.text(), "400 Bad Request: the request body broke off\n");
    assert_eq!(client.rest().await, b"");
    assert_eq!(recorded(&proxy, "499"), 1.0);
}
