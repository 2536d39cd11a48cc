//! What is told of every limit that is hit: the status, the reason in the access log, the metric.

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::proxy::{Proxy, pool_of};

const LIMITS: &str = r#"
[listeners.http.limits]
header_timeout = "200ms"
body_timeout = "200ms"
write_timeout = "200ms"
max_header_bytes = "8KiB"
max_headers = 10
max_connections = 4
max_connections_per_address = 3
"#;

/// A proxy with all limits low, that writes its access log to a file.
async fn limited(backend: &Backend) -> (Proxy, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let routes = pool_of(&[backend]).replace("pool = \"app\"", "pool = \"app\"\nmax_body = \"10\"");
    let log = format!("[log]\naccess = \"json\"\naccess_path = \"{}\"\n", path.display());
    let proxy = Proxy::start_with("max_requests = 1", &format!("{log}{LIMITS}{routes}")).await;
    (proxy, dir)
}

/// Waits for one line of the access log and one count of the status that go with it.
async fn told(proxy: &Proxy, dir: &tempfile::TempDir, status: u16, reason: &str) {
    eventually(&format!("{status} for {reason} is logged"), async || {
        let log = std::fs::read_to_string(dir.path().join("access.log")).unwrap();
        log.lines().any(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            entry["status"] == status && entry["reason"] == reason
        })
    })
    .await;
    let code = format!("code=\"{status}\"");
    assert_eq!(proxy.metric("tidegate_listener_requests_total", &[&code]), 1.0, "{reason}");
}

#[tokio::test]
async fn requests_over_a_limit() {
    let long = "x".repeat(9000);
    let host = "HTTP/1.1\r\nHost: test\r\n";
    let rows = [
        (format!("GET / {host}X-Slow: "), 408, "slow_head"),
        (format!("POST / {host}Content-Length: 5\r\n\r\nab"), 408, "body_timeout"),
        (format!("GET /{long} {host}\r\n"), 414, "request_line_too_long"),
        (format!("GET / {host}X: {long}\r\n\r\n"), 431, "head_too_large"),
        (format!("GET / {host}{}\r\n", "X: y\r\n".repeat(10)), 431, "too_many_fields"),
        (format!("POST / {host}Content-Length: 11\r\n\r\n"), 413, "body_too_large"),
    ];
    for (request, status, reason) in rows {
        let backend = Backend::named("one").await;
        let (proxy, dir) = limited(&backend).await;
        let mut client = proxy.connect().await;
        client.send(request).await;
        assert_eq!(client.response().await.unwrap().status(), status, "{reason}");
        told(&proxy, &dir, status, reason).await;
    }
}

#[tokio::test]
async fn a_request_too_many() {
    let backend = Backend::start(|_| Reply::ok("done").after(Step::Hold)).await;
    let (proxy, dir) = limited(&backend).await;
    let mut first = proxy.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the first is there", async || backend.requests().len() == 1).await;
    let refused = proxy.connect().await.get("/").await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    told(&proxy, &dir, 503, "overload").await;
    backend.release();
}

#[tokio::test]
async fn a_client_that_takes_nothing() {
    let backend = Backend::start(|_| Reply::ok(vec![b'x'; 32 * 1024 * 1024])).await;
    let (proxy, dir) = limited(&backend).await;
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    told(&proxy, &dir, 200, "write_timeout").await;
    assert_eq!(unserved(&proxy, "write_timeout"), 1.0);
}

#[tokio::test]
async fn connections_over_a_limit() {
    let backend = Backend::start(|_| Reply::ok("done").after(Step::Hold)).await;
    for (limit, open) in [("max_connections_per_address", 3), ("max_connections", 4)] {
        let limits = LIMITS.replace("200ms", "10s");
        let proxy = Proxy::start(&format!("{limits}{}", pool_of(&[&backend]))).await;
        let (mut clients, before) = (Vec::new(), backend.requests().len());
        for number in 0..open {
            // Where the address is not what counts, each comes from another one.
            let address =
                if open == 3 { "127.0.0.1".to_owned() } else { format!("127.0.1.{number}") };
            let mut client = proxy.connect_from(&address).await;
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
            clients.push(client);
        }
        eventually("all are there", async || backend.requests().len() == before + open).await;
        let mut refused = proxy.connect_from("127.0.0.1").await;
        assert_eq!(refused.rest().await, b"", "{limit}");
        for reason in ["max_connections", "max_connections_per_address", "silent"] {
            let told = f64::from(reason == limit);
            assert_eq!(unserved(&proxy, reason), told, "{limit}: {reason}");
        }
    }
}

fn unserved(proxy: &Proxy, reason: &str) -> f64 {
    let labels = ["listener=\"http\"", &format!("reason=\"{reason}\"")];
    proxy.metric("tidegate_listener_refused_connections_total", &labels)
}

#[tokio::test]
async fn a_connection_that_never_speaks() {
    let backend = Backend::named("one").await;
    for h2c in [false, true] {
        let config = format!(
            "h2c = {h2c}\n[listeners.http.limits]\nheader_timeout = \"100ms\"\n{}",
            pool_of(&[&backend])
        );
        let proxy = Proxy::start(&config).await;
        let mut client = proxy.connect().await;
        assert_eq!(client.rest().await, b"", "closed without a word");
        eventually("counted", async || unserved(&proxy, "silent") == 1.0).await;
    }
}

#[tokio::test]
async fn connections_at_the_processs_limit_wait() {
    let backend = Backend::start(|_| Reply::ok("done").after(Step::Hold)).await;
    let proxy = Proxy::start_with("max_connections = 1", &pool_of(&[&backend])).await;
    let mut first = proxy.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("the first is there", async || backend.requests().len() == 1).await;
    let pauses = || proxy.metric("tidegate_worker_accept_pauses_total", &[]);
    assert_eq!(pauses(), 0.0);
    let mut second = proxy.connect().await;
    second.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    eventually("accepting pauses", async || pauses() > 0.0).await;
    assert_eq!(backend.requests().len(), 1, "the second waits");
    drop(first);
    backend.release();
    eventually("the second is there", async || backend.requests().len() == 2).await;
    backend.release();
    assert_eq!(second.response().await.unwrap().status(), 200);
}
