//! However an exchange ends, its slot is let go and it is told once, with the right status.

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{HTTPS, Proxy, quiet_pool_of};
use crate::support::wire::Wire;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";

/// What the client does after it has sent its request.
enum Client {
    /// Reads the whole answer.
    Reads,
    /// Reads the head, which is all there is.
    ReadsHead,
    /// Reads to the end of the connection.
    ReadsToEnd,
    /// Leaves as soon as the backend has the request.
    LeavesBeforeHead,
    /// Leaves when the head of the answer has come.
    LeavesAfterHead,
}

/// Lets one exchange happen and checks that both of its guards are gone, and what was told.
async fn ends_once(request: &str, reply: Reply, client: Client, status: &str) {
    let backend = Backend::at_head(move |_| reply.clone()).await;
    let proxy = Proxy::start(&quiet_pool_of(&[&backend])).await;
    let mut wire = proxy.connect().await;
    wire.send(request).await;
    eventually("asked", async || backend.requests().len() == 1).await;
    act(wire, client).await;

    let code = format!("code=\"{status}\"");
    let told = |name: &str| proxy.metric(name, &[]);
    eventually("the slot is free", async || proxy.in_flight(&backend) == 0).await;
    eventually("told", async || told("tidegate_listener_requests_total") >= 1.0).await;
    assert_eq!(proxy.metric("tidegate_listener_requests_total", &[&code]), 1.0, "{status}");
    assert_eq!(told("tidegate_listener_requests_total"), 1.0, "told once");
    assert_eq!(proxy.metric("tidegate_pool_requests_total", &[&code]), 1.0);
    assert_eq!(told("tidegate_pool_requests_total"), 1.0, "told once");
    eventually("the process is idle", async || proxy.running().shared().requests_in_flight() == 0)
        .await;
}

async fn act(mut wire: Wire, client: Client) {
    match client {
        Client::Reads => drop(wire.response().await.unwrap()),
        Client::ReadsHead | Client::LeavesAfterHead => drop(wire.head().await.unwrap()),
        Client::ReadsToEnd => drop(wire.rest().await),
        Client::LeavesBeforeHead => {}
    }
}

#[tokio::test]
async fn a_get_with_a_length() {
    ends_once(GET, Reply::ok("hello"), Client::Reads, "200").await;
}

#[tokio::test]
async fn a_get_of_nothing() {
    ends_once(GET, Reply::ok(""), Client::Reads, "200").await;
}

#[tokio::test]
async fn a_head() {
    let reply = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
    ends_once("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n", reply, Client::ReadsHead, "200").await;
}

#[tokio::test]
async fn no_content() {
    let reply = Reply::raw("HTTP/1.1 204 No Content\r\n\r\n");
    ends_once(GET, reply, Client::ReadsHead, "204").await;
}

#[tokio::test]
async fn not_modified() {
    let reply = Reply::raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n");
    ends_once(GET, reply, Client::ReadsHead, "304").await;
}

#[tokio::test]
async fn a_chunked_answer() {
    let reply = Reply::raw(format!("{CHUNKED}\r\n5\r\nhello\r\n0\r\n\r\n"));
    ends_once(GET, reply, Client::Reads, "200").await;
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection() {
    let reply = Reply::raw("HTTP/1.1 200 OK\r\n\r\nhello").then(Step::Close);
    ends_once(GET, reply, Client::Reads, "200").await;
}

#[tokio::test]
async fn an_answer_with_trailers_that_the_client_takes() {
    let reply =
        Reply::raw(format!("{CHUNKED}Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"));
    let request = "GET / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    ends_once(request, reply, Client::Reads, "200").await;
}

#[tokio::test]
async fn an_answer_with_trailers_that_the_client_does_not_take() {
    let reply =
        Reply::raw(format!("{CHUNKED}Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"));
    ends_once(GET, reply, Client::Reads, "200").await;
}

#[tokio::test]
async fn an_upload() {
    let reply = Reply::ok("done").after(Step::Take(5));
    let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";
    ends_once(request, reply, Client::Reads, "200").await;
}

#[tokio::test]
async fn an_early_answer() {
    let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5000\r\n\r\nhello";
    ends_once(request, Reply::status(403, "no"), Client::Reads, "403").await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head() {
    let reply = Reply::default().then(Step::Swallow);
    ends_once(GET, reply, Client::LeavesBeforeHead, "499").await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_the_body() {
    let reply = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nhello");
    ends_once(GET, reply.then(Step::Swallow), Client::LeavesAfterHead, "200").await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_upload() {
    let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5000\r\n\r\nhello";
    let reply = Reply::default().then(Step::Swallow);
    ends_once(request, reply, Client::LeavesBeforeHead, "499").await;
}

#[tokio::test]
async fn a_backend_that_leaves_before_the_head() {
    let request = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    ends_once(request, Reply::default().then(Step::Close), Client::Reads, "502").await;
}

#[tokio::test]
async fn a_backend_that_leaves_in_the_middle_of_the_body() {
    let reply = Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nhello");
    ends_once(GET, reply.then(Step::Reset), Client::ReadsToEnd, "200").await;
}

#[tokio::test]
async fn a_backend_that_talks_nonsense() {
    let reply = Reply::raw("nonsense\r\n\r\n").then(Step::Close);
    ends_once(GET, reply, Client::Reads, "502").await;
}

/// RFC 9112 section 9.6: were the connection closed while something that came behind the request is
/// unread, a reset would overtake the answer.
#[tokio::test]
async fn the_last_answer_comes_whole_whatever_was_sent_behind_its_request() {
    let size = 4 * 1024 * 1024;
    let backend = Backend::start(move |_| Reply::ok(vec![b'x'; size])).await;
    let close = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let unkept = "[listeners.http.limits]\nkeepalive_timeout = \"0s\"\n";
    for (limits, request) in [("", close), ("", "GET / HTTP/1.0\r\n\r\n"), (unkept, GET)] {
        let config = format!("{limits}{HTTPS}{}", quiet_pool_of(&[&backend]));
        let proxy = Proxy::start(&config).await;
        let tls = proxy.client_tls(&[b"http/1.1"]);
        let secured = Wire::connect_tls(proxy.address("https"), tls, "localhost").await.unwrap();
        for mut client in [proxy.connect().await, secured] {
            client.send(format!("{request}{}", GET.repeat(1_500))).await;
            assert_eq!(client.response().await.unwrap().body.len(), size, "{request}");
        }
        let open = || proxy.metric("tidegate_listener_connections", &["listener=\"http\""]);
        eventually("nobody lingers", async || open() == 0.0).await;
    }
}

/// RFC 9112 section 9.6: who asks for the close sends nothing more.
const LAST: [&str; 2] = [
    "POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
    "GET / HTTP/1.0\r\n\r\n",
];

#[tokio::test]
async fn a_client_that_asks_for_the_close_is_not_waited_for() {
    let backend = Backend::named("one").await;
    let local = "[listeners.local]\nbind = \"unix:local.sock\"\n";
    let proxy = Proxy::start(&format!("{local}{}", quiet_pool_of(&[&backend]))).await;
    for request in LAST {
        let socket = UnixStream::connect(proxy.dir().join("local.sock")).await.unwrap();
        let mut client = Wire::over(socket);
        client.send(request).await;
        assert_eq!(client.response().await.unwrap().text(), "one");
        assert_eq!(client.rest().await, b"");
        // One that is read on would take it.
        assert!(client.try_send("?").await.is_err(), "{request}");
    }
}

#[tokio::test]
async fn under_tls_a_client_that_asks_for_the_close_gets_the_proper_goodbye() {
    for size in [3, 3_000, 300_000] {
        let backend = Backend::start(move |_| Reply::ok("x".repeat(size))).await;
        let proxy = Proxy::start(&format!("{HTTPS}{}", quiet_pool_of(&[&backend]))).await;
        let tls = proxy.client_tls(&[b"http/1.1"]);
        for request in LAST {
            let (address, tls) = (proxy.address("https"), tls.clone());
            let mut client = Wire::connect_tls(address, tls, "localhost").await.unwrap();
            client.send(request).await;
            assert_eq!(client.response().await.unwrap().body.len(), size);
            let (mut stream, _) = client.into_stream();
            // Without it this is an error.
            let read = stream.read_to_end(&mut Vec::new()).await;
            assert_eq!(read.unwrap(), 0, "{request}, {size} bytes");
        }
    }
}
