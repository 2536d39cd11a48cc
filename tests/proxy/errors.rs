//! The answers that the proxy makes itself: their status, their form, and what they do not tell.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::{Proxy, pool_of};
use crate::support::wire::Message;

/// A proxy whose only route is for `only.example`.
async fn with_one_host(backend: &Backend) -> Proxy {
    let config =
        pool_of(&[backend]).replace("pool = \"app\"", "pool = \"app\"\nhosts = [\"only.example\"]");
    Proxy::start(&config).await
}

async fn missing(accept: &str) -> Message {
    let backend = Backend::named("one").await;
    let proxy = with_one_host(&backend).await;
    let mut client = proxy.connect().await;
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: other.example\r\n{accept}X-Request-Id: order-7\r\n\r\n"
        ))
        .await;
    client.response().await.unwrap()
}

#[tokio::test]
async fn a_host_without_a_route_is_not_found() {
    assert_eq!(missing("").await.status(), 404);
}

#[tokio::test]
async fn errors_are_text_for_people() {
    let response = missing("Accept: text/html,*/*;q=0.8\r\n").await;
    assert!(response.field("content-type").unwrap().starts_with("text/plain"));
    assert!(response.text().starts_with("404 "), "{}", response.text());
}

#[tokio::test]
async fn errors_are_json_for_those_who_ask_for_it() {
    let response = missing("Accept: application/json\r\n").await;
    assert_eq!(response.field("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["status"], 404);
    assert!(body["error"].is_string(), "{body}");
}

#[tokio::test]
async fn errors_carry_the_requests_id_even_before_it_has_a_route() {
    assert_eq!(missing("").await.all("x-request-id"), ["order-7"]);
}

#[tokio::test]
async fn errors_in_json_name_the_requests_id() {
    let response = missing("Accept: application/json\r\n").await;
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["request_id"], "order-7");
}

#[tokio::test]
async fn an_error_leaves_the_connection_usable() {
    let backend = Backend::named("one").await;
    let proxy = with_one_host(&backend).await;
    let mut client = proxy.connect().await;
    assert_eq!(client.get("/").await.status(), 404);
    client.send("GET / HTTP/1.1\r\nHost: only.example\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().text(), "one");
}

#[tokio::test]
async fn an_error_for_head_has_no_body() {
    let backend = Backend::named("one").await;
    let proxy = with_one_host(&backend).await;
    let mut client = proxy.connect().await;
    client.send("HEAD / HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().status(), 404);
    client.send("GET / HTTP/1.1\r\nHost: only.example\r\n\r\n").await;
    assert_eq!(client.response().await.unwrap().text(), "one", "nothing lay in between");
}

#[tokio::test]
async fn nobody_to_ask_is_unavailable_for_now() {
    let backend = Backend::named("one").await;
    let config = pool_of(&[&backend]).replace("[pools.app]", "[pools.app]\nall_down = \"fail\"");
    let proxy = Proxy::start(&config).await;
    backend.kill();
    crate::support::eventually("down", async || proxy.state_of(&backend) == "unhealthy").await;
    let response = proxy.connect().await.get("/").await;
    assert_eq!(response.status(), 503);
    let seconds: u64 = response.field("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
}

#[tokio::test]
async fn a_backend_that_cannot_be_reached_is_a_bad_gateway() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    backend.kill();
    assert_eq!(proxy.connect().await.get("/").await.status(), 502);
}

#[tokio::test]
async fn errors_do_not_tell_where_backends_are() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    backend.kill();
    let response = proxy.connect().await.get("/").await;
    let port = backend.address.port().to_string();
    let head = String::from_utf8_lossy(&response.raw_head).into_owned();
    assert!(!response.text().contains(&port), "{}", response.text());
    assert!(!head.contains(&port), "{head}");
}

#[tokio::test]
async fn connect_is_not_allowed_and_ends_the_connection() {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n").await;
    let response = client.response().await.unwrap();
    assert_eq!(response.status(), 405);
    assert!(response.field("allow").is_some());
    assert_eq!(client.rest().await, b"", "closed");
    assert_eq!(backend.requests().len(), 0);
}

/// What a pool of one backend makes of this answer.
async fn verdict_on(reply: Reply) -> Message {
    let backend = Backend::start(move |_| reply.clone()).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.get("/").await
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_bad_gateway() {
    let garbage = Reply::raw("SSH-2.0-OpenSSH_9.9\r\n\r\n").then(Step::Close);
    assert_eq!(verdict_on(garbage).await.status(), 502);
}

#[tokio::test]
async fn a_close_without_an_answer_is_a_bad_gateway() {
    assert_eq!(verdict_on(Reply::default().then(Step::Close)).await.status(), 502);
}

#[tokio::test]
async fn a_reset_without_an_answer_is_a_bad_gateway() {
    assert_eq!(verdict_on(Reply::default().then(Step::Reset)).await.status(), 502);
}

#[tokio::test]
async fn half_a_head_is_a_bad_gateway() {
    let half = Reply::raw("HTTP/1.1 200 OK\r\nContent-").then(Step::Close);
    assert_eq!(verdict_on(half).await.status(), 502);
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_bad_gateway() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    assert_eq!(verdict_on(Reply::raw(switch)).await.status(), 502);
}

#[tokio::test]
async fn two_lengths_that_differ_are_a_bad_gateway() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd";
    assert_eq!(verdict_on(Reply::raw(reply)).await.status(), 502);
}

#[tokio::test]
async fn a_length_that_is_no_number_is_a_bad_gateway() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc";
    assert_eq!(verdict_on(Reply::raw(reply)).await.status(), 502);
}

#[tokio::test]
async fn an_endless_head_is_a_bad_gateway() {
    let endless = "X-Padding: 0123456789012345678901234567890123456789\r\n".repeat(20_000);
    let reply = Reply::raw(format!("HTTP/1.1 200 OK\r\n{endless}")).then(Step::Hang);
    assert_eq!(verdict_on(reply).await.status(), 502);
}

#[tokio::test]
async fn early_hints_are_passed_over() {
    let reply = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let response = verdict_on(Reply::raw(reply)).await;
    assert_eq!((response.status(), response.text()), (200, "ok".to_owned()));
    assert_eq!(response.field("link"), None);
}

#[tokio::test]
async fn statuses_that_we_do_not_know_are_passed_on() {
    assert_eq!(verdict_on(Reply::status(299, "odd")).await.status(), 299);
    assert_eq!(verdict_on(Reply::status(599, "odd")).await.status(), 599);
}

/// RFC 9110 section 15.6.3: what is wrong with the answer, or that there is none.
#[tokio::test]
async fn a_bad_gateway_tells_what_was_bad() {
    for (reply, text) in [
        (Reply::raw("nonsense\r\n\r\n"), "the backend's answer is malformed"),
        (Reply(vec![Step::Close]), "the backend closed the connection without an answer"),
    ] {
        let backend = Backend::start(move |_| reply.clone()).await;
        let proxy = Proxy::before(&[&backend]).await;
        let response = proxy.connect().await.get("/").await;
        assert_eq!(response.text(), format!("502 Bad Gateway: {text}\n"));
    }
}
