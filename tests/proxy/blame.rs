//! Uploads that a client does not bring to their end: what is held against the backend, and what not.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::h2_backend::H2Backend;
use crate::support::proxy::{Proxy, app_at};
use crate::support::wire::Wire;
use crate::timeouts::FullBacklog;

const HALF: &str =
    "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
const EARLY: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
const WHOLE: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc";

/// A proxy that logs, and whose circuit breaker opens with a single failure.
struct Judge {
    proxy: Proxy,
    backend: SocketAddr,
    dir: TempDir,
}

impl Judge {
    /// With these keys of the listener's limits, of the route and of the pool's `upstream`.
    async fn of(backend: SocketAddr, limits: &str, route: &str, upstream: &str) -> Judge {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = format!("[log]\naccess = \"json\"\naccess_path = \"{}\"\n", path.display());
        let limits = format!("[listeners.http.limits]\n{limits}\n");
        let sections = format!(
            "[pools.app.health]\ntype = \"tcp\"\ntimeout = \"100ms\"\n\
             [pools.app.upstream]\n{upstream}\n"
        );
        let app = app_at(&[backend], "circuit_breaker = { failures = 1 }", &sections);
        let app = app.replacen("[[routes]]", &format!("[[routes]]\n{route}"), 1);
        Judge { proxy: Proxy::start(&format!("{log}{limits}{app}")).await, backend, dir }
    }

    /// A client whose connection is reset, and not only ended, when it leaves.
    async fn abrupt_client(&self) -> Wire {
        let stream = TcpStream::connect(self.proxy.http()).await.unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        Wire::over(stream)
    }

    /// Waits for the one request to be over; gives its reason in the log.
    async fn reason(&self) -> String {
        let line = || std::fs::read_to_string(self.dir.path().join("access.log")).unwrap();
        eventually("it is logged", async || line().ends_with('\n')).await;
        let entry: serde_json::Value = serde_json::from_str(&line()).unwrap();
        entry["reason"].as_str().unwrap().to_owned()
    }

    /// The attempts that the backend is judged by, how many of them failed, and whether the
    /// breaker is open.
    fn verdict(&self) -> (u64, u64, bool) {
        let (requests, failures) = self.proxy.judged(self.backend);
        let open = self.proxy.metric("tidegate_pool_circuit_breaker_state", &["state=\"open\""]);
        (requests, failures, open == 1.0)
    }
}

/// How a client fails in the middle of its upload.
#[derive(Clone, Copy, Debug)]
enum Failing {
    Says(&'static str),
    Pauses,
    Closes,
    Resets,
}

const FAILING: [(Failing, &str); 5] = [
    (Failing::Says("ZZ\r\n"), "body_malformed"),
    (Failing::Says("8\r\nabcdefgh\r\n"), "body_too_large"),
    (Failing::Pauses, "body_timeout"),
    (Failing::Closes, "client_left"),
    (Failing::Resets, "client_left"),
];

/// Lets a client fail while its request is being answered already.
async fn fails_behind_an_answer(backend: SocketAddr, upstream: &str) {
    for (failing, reason) in FAILING {
        let limits =
            if matches!(failing, Failing::Pauses) { "body_timeout = \"200ms\"" } else { "" };
        let judge = Judge::of(backend, limits, "max_body = \"10\"", upstream).await;
        let mut client = match failing {
            Failing::Resets => judge.abrupt_client().await,
            _ => judge.proxy.connect().await,
        };
        client.send(HALF).await;
        client.until("hello\r\n").await;
        match failing {
            Failing::Says(words) => client.send(words).await,
            Failing::Pauses => {}
            Failing::Closes | Failing::Resets => drop(client),
        }
        assert_eq!(judge.reason().await, reason, "{failing:?}");
        assert_eq!(judge.verdict(), (0, 0, false), "{failing:?}");
        eventually("free", async || judge.proxy.in_flight_at(backend) == 0).await;
    }
}

#[tokio::test]
async fn an_upload_that_fails_behind_an_early_answer_is_the_clients_fault() {
    let backend = Backend::at_head(|_| Reply::raw(EARLY).then(Step::Swallow)).await;
    fails_behind_an_answer(backend.address, "").await;
    eventually("no connection is kept", async || backend.open_connections() == 0).await;
}

#[tokio::test]
async fn an_upload_that_fails_behind_an_early_answer_over_http_2_is_the_clients_fault() {
    let backend = H2Backend::start(|mut exchange| async move {
        let mut answer = exchange.head(200, &[]);
        answer.send_data("hello".into(), false).unwrap();
        let body = exchange.request.body_mut();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
    })
    .await;
    fails_behind_an_answer(backend.address, "protocol = \"h2\"").await;
    eventually("no stream is left", async || backend.streams() == 0).await;
}

#[tokio::test]
async fn a_backend_may_be_silent_for_as_long_as_its_client_is() {
    let backend = Backend::at_head(|_| Reply::raw(EARLY).then(Step::Swallow)).await;
    let rows =
        [("", "body_timeout", (0, 0, false)), ("0\r\n\r\n", "backend_stalled", (1, 1, true))];
    for (rest, reason, verdict) in rows {
        let limits = "body_timeout = \"600ms\"";
        let judge = Judge::of(backend.address, limits, "", "body_idle_timeout = \"200ms\"").await;
        let mut client = judge.proxy.connect().await;
        client.send(HALF).await;
        client.until("hello\r\n").await;
        client.send(rest).await;
        assert_eq!(judge.reason().await, reason);
        assert_eq!(judge.verdict(), verdict, "{reason}");
    }
}

/// RFC 9112 section 8.
#[tokio::test]
async fn an_answer_to_an_upload_that_fails_does_not_look_whole() {
    let backend = Backend::at_head(|_| Reply::raw(EARLY).then(Step::Swallow)).await;
    let judge = Judge::of(backend.address, "body_timeout = \"200ms\"", "", "").await;
    let mut client = judge.proxy.connect().await;
    client.send(HALF).await;
    assert!(client.rest().await.ends_with(b"5\r\nhello\r\n"));
    // Nothing but a reset can tell an old client.
    let mut client = judge.proxy.connect().await;
    client.send("POST / HTTP/1.0\r\nContent-Length: 10\r\n\r\nabc").await;
    let error = client.response().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_route_whose_time_goes_into_a_slow_upload_does_not_blame_its_backend() {
    let backend = Backend::at_head(|_| Reply::default().then(Step::Swallow)).await;
    for (request, verdict) in [(HALF, (0, 0, false)), (WHOLE, (1, 1, true))] {
        let judge = Judge::of(backend.address, "", "timeout = \"200ms\"", "").await;
        let mut client = judge.proxy.connect().await;
        client.send(request).await;
        assert_eq!(client.response().await.unwrap().status(), 504);
        assert_eq!(judge.reason().await, "timeout");
        assert_eq!(judge.verdict(), verdict, "{request}");
    }
}

/// The first has all of its time to itself; the second waits in line meanwhile, for three quarters of
/// its own.
#[tokio::test]
async fn a_route_whose_time_goes_into_the_queue_does_not_blame_its_backend() {
    let backend = Backend::start(|_| Reply::default().then(Step::Hang)).await;
    let sections = "[pools.app.health]\ntype = \"tcp\"\n";
    let app = app_at(&[backend.address], "max_requests_per_backend = 1", sections);
    let first = "[[routes]]\npath = \"/first\"\ntimeout = \"1500ms\"\npool = \"app\"\n";
    let app = app.replacen("[[routes]]", "[[routes]]\ntimeout = \"2s\"", 1);
    let proxy = Proxy::start(&format!("{first}{app}")).await;
    let (mut one, mut two) = (proxy.connect().await, proxy.connect().await);
    one.send("GET /first HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("it has the slot", async || proxy.in_flight(&backend) == 1).await;
    two.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    for mut client in [one, two] {
        assert_eq!(client.response().await.unwrap().status(), 504);
        assert_eq!(proxy.judged(backend.address), (1, 1));
    }
    assert_eq!(backend.requests().len(), 2);
}

/// Nobody is blamed for the little that was left, but all of it was the pool's.
#[tokio::test]
async fn a_last_attempt_with_little_time_is_the_pools_failure_and_not_its_backends() {
    let hang = || Backend::start(|_| Reply::default().then(Step::Hang));
    let (one, two) = (hang().await, hang().await);
    let sections = "[pools.app.health]\ntype = \"tcp\"\n\
                    [pools.app.upstream]\nresponse_timeout = \"600ms\"\n";
    let breaker = "circuit_breaker = { failures = 1 }";
    let app = app_at(&[one.address, two.address], breaker, sections);
    let app = app.replacen("[[routes]]", "[[routes]]\ntimeout = \"1s\"", 1);
    let proxy = Proxy::start(&app).await;
    proxy.usable(2).await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 504);
    let (one, two) = (proxy.judged(one.address), proxy.judged(two.address));
    assert_eq!((one.0 + two.0, one.1 + two.1), (1, 1));
    let open = ["state=\"open\""];
    eventually("open", async || proxy.metric("tidegate_pool_circuit_breaker_state", &open) == 1.0)
        .await;
}

#[tokio::test]
async fn a_backend_that_was_never_sent_an_upload_is_to_blame_for_its_time() {
    let full = FullBacklog::new().await;
    let upstream = "connect_timeout = \"1h\"";
    let judge = Judge::of(full.address, "", "timeout = \"200ms\"", upstream).await;
    let mut client = judge.proxy.connect().await;
    client.send(WHOLE).await;
    assert_eq!(client.response().await.unwrap().status(), 504);
    assert_eq!(judge.reason().await, "timeout");
    assert_eq!(judge.verdict(), (1, 1, true));
}

#[tokio::test]
async fn a_backend_that_takes_no_more_of_an_upload_is_to_blame_for_its_time() {
    let backend = Backend::at_head(|_| Reply::default().then(Step::Hang)).await;
    let judge = Judge::of(backend.address, "", "timeout = \"1s\"", "").await;
    let mut client = TcpStream::connect(judge.proxy.http()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    // More than the buffers on its way hold, so that it is never taken, and ends with the connection.
    let uploading = tokio::spawn(async move { client.write_all(&vec![0; 64 * 1024 * 1024]).await });
    assert_eq!(judge.reason().await, "timeout");
    assert_eq!(judge.verdict(), (1, 1, true));
    uploading.abort();
}
