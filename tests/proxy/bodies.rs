//! How bodies are framed on either side, and that nothing is added to them or lost.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::proxy::Proxy;
use crate::support::wire::Message;

/// The answer to a GET where the backend sends these bytes.
async fn answer(reply: &'static str) -> Message {
    let backend = Backend::start(move |_| Reply::raw(reply)).await;
    let proxy = Proxy::before(&[&backend]).await;
    proxy.connect().await.get("/").await
}

/// What the backend gets to see of this request.
async fn seen(request: &str) -> Message {
    let backend = Backend::named("one").await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(request).await;
    assert_eq!(client.response().await.unwrap().status(), 200);
    backend.requests().pop().unwrap()
}

/// Asks, and asks again on the same connection: whatever the first answer was, the second one
/// must begin right behind it.
async fn head_then_get(request: &str, reply: &'static str) -> Message {
    let backend = Backend::start(move |request| match request.request_line().1 {
        "/next" => Reply::ok("next"),
        _ => Reply::raw(reply),
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(request).await;
    let head = client.head().await.unwrap();
    assert_eq!(client.get("/next").await.text(), "next");
    head
}

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: test\r\n\r\n";

#[tokio::test]
async fn a_response_with_a_length_keeps_it() {
    let response = answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(response.all("content-length"), ["5"]);
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.text(), "hello");
}

#[tokio::test]
async fn a_chunked_response_stays_chunked() {
    let response = answer(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(response.all("transfer-encoding"), ["chunked"]);
    assert_eq!(response.field("content-length"), None);
    assert_eq!(response.text(), "hello");
}

#[tokio::test]
async fn a_response_without_any_framing_becomes_chunked() {
    let backend =
        Backend::start(|_| Reply::raw("HTTP/1.1 200 OK\r\n\r\nhello").then(Step::Close)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        let response = client.get("/").await;
        assert_eq!(response.field("transfer-encoding"), Some("chunked"));
        assert_eq!(response.text(), "hello");
    }
}

#[tokio::test]
async fn a_response_framed_in_both_ways_is_refused() {
    let response = answer(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(response.status(), 502);
}

#[tokio::test]
async fn an_empty_response_is_empty() {
    let response = answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(response.all("content-length"), ["0"]);
    assert_eq!(response.body, b"");
}

#[tokio::test]
async fn an_empty_chunked_response_is_empty() {
    let response = answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert_eq!(response.body, b"");
}

#[tokio::test]
async fn head_tells_the_length_of_what_it_does_not_send() {
    let head = head_then_get(HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n").await;
    assert_eq!(head.all("content-length"), ["5000"]);
}

#[tokio::test]
async fn head_of_a_chunked_answer_has_no_body() {
    let head = head_then_get(HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn head_of_an_answer_without_framing_has_no_body() {
    let head = head_then_get(HEAD, "HTTP/1.1 200 OK\r\nX: y\r\n\r\n").await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.field("content-length"), None, "nobody knows it");
}

#[tokio::test]
async fn no_content_has_neither_body_nor_length() {
    let head = head_then_get(GET, "HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(head.status(), 204);
    assert_eq!(head.field("content-length"), None);
    assert_eq!(head.field("transfer-encoding"), None);
}

#[tokio::test]
async fn no_content_with_a_length_loses_the_length() {
    let head = head_then_get(GET, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(head.field("content-length"), None);
}

#[tokio::test]
async fn not_modified_with_a_length_has_no_body() {
    let head = head_then_get(
        GET,
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5000\r\n\r\n",
    )
    .await;
    assert_eq!(head.status(), 304);
    assert_eq!(head.field("etag"), Some("\"x\""));
}

#[tokio::test]
async fn not_modified_without_a_length_gets_none() {
    let head = head_then_get(GET, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n").await;
    assert_eq!(head.field("content-length"), None);
    assert_eq!(head.field("transfer-encoding"), None);
}

#[tokio::test]
async fn a_request_with_a_length_keeps_it() {
    let request = seen("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(request.all("content-length"), ["5"]);
    assert_eq!(request.field("transfer-encoding"), None);
    assert_eq!(request.text(), "hello");
}

#[tokio::test]
async fn a_chunked_request_stays_chunked() {
    let request = seen(
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(request.all("transfer-encoding"), ["chunked"]);
    assert_eq!(request.field("content-length"), None);
    assert_eq!(request.text(), "hello");
}

#[tokio::test]
async fn a_get_may_have_a_body_with_a_length() {
    let request = seen("GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(request.text(), "hello");
}

#[tokio::test]
async fn a_get_may_have_a_chunked_body() {
    let request = seen(
        "GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(request.text(), "hello");
}

#[tokio::test]
async fn a_get_without_a_body_has_no_framing() {
    let request = seen(GET).await;
    assert_eq!(request.field("content-length"), None);
    assert_eq!(request.field("transfer-encoding"), None);
}

#[tokio::test]
async fn an_empty_post_says_that_it_is_empty() {
    let request = seen("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(request.all("content-length"), ["0"]);
}

#[tokio::test]
async fn an_empty_chunked_post_arrives_empty() {
    let request =
        seen("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert_eq!(request.body, b"");
}

#[tokio::test]
async fn announced_trailers_of_a_request_arrive() {
    let request = seen(
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n",
    )
    .await;
    assert_eq!(request.field("trailer"), Some("X-Sum"));
    assert_eq!(request.trailers, [("x-sum".to_owned(), "42".to_owned())]);
}

#[tokio::test]
async fn announced_trailers_of_a_response_arrive() {
    let backend = Backend::start(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n",
        )
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nConnection: TE\r\n\r\n").await;
    let response = client.response().await.unwrap();
    assert_eq!(response.text(), "hello");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "42".to_owned())]);
    assert_eq!(client.get("/").await.text(), "hello", "and the connection goes on");
}

#[tokio::test]
async fn trailers_that_a_client_does_not_take_are_left_out() {
    let response = answer(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n",
    )
    .await;
    assert_eq!((response.text(), response.trailers), ("hello".to_owned(), Vec::new()));
}

#[tokio::test]
async fn a_body_of_many_pieces_arrives_whole_in_both_directions() {
    let backend = Backend::start(|request| Reply::ok(&request.body)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send([head.as_bytes(), &body].concat()).await;
    assert!(client.response().await.unwrap().body == body);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|request| Reply::ok(request.request_line().1)).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    let requests: String = (0..20)
        .map(|number| {
            format!("POST /{number} HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc")
        })
        .collect();
    client.send(requests).await;
    for number in 0..20 {
        assert_eq!(client.response().await.unwrap().text(), format!("/{number}"));
    }
}

#[tokio::test]
async fn bytes_behind_a_response_never_answer_the_next_request() {
    let backend = Backend::start(|_| {
        Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood\
             HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        )
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(GET.repeat(10)).await;
    for _ in 0..10 {
        assert_eq!(client.response().await.unwrap().text(), "good");
    }
}

#[tokio::test]
async fn a_body_behind_the_answer_to_head_never_answers_the_next_request() {
    let backend = Backend::start(|request| match request.request_line().0 {
        "HEAD" => Reply::raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ),
        _ => Reply::ok("good"),
    })
    .await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    for _ in 0..10 {
        client.send(HEAD).await;
        client.head().await.unwrap();
        assert_eq!(client.get("/").await.text(), "good");
    }
}

/// How a response looks that the backend breaks off: what came of it, and that its end is missing.
async fn broken_off(reply: &'static str, end: Step) -> Vec<u8> {
    let backend = Backend::start(move |_| Reply::raw(reply).then(end.clone())).await;
    let proxy = Proxy::before(&[&backend]).await;
    let mut client = proxy.connect().await;
    client.send(GET).await;
    let response = client.rest().await;
    let broken = proxy.metric("tidegate_pool_requests_total", &["code=\"200\""]);
    assert_eq!(broken, 1.0, "it had its status by then");
    response
}

#[tokio::test]
async fn a_response_that_breaks_off_before_its_length_is_cut_off() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello";
    let response = broken_off(reply, Step::Close).await;
    assert!(response.ends_with(b"\r\n\r\nhello"), "{}", String::from_utf8_lossy(&response));
}

#[tokio::test]
async fn a_response_that_breaks_off_between_chunks_is_cut_off() {
    let reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let response = broken_off(reply, Step::Close).await;
    assert!(response.ends_with(b"5\r\nhello\r\n"), "{}", String::from_utf8_lossy(&response));
}

#[tokio::test]
async fn a_response_that_is_reset_is_cut_off() {
    let reply = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let response = broken_off(reply, Step::Reset).await;
    assert!(!response.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&response));
}
