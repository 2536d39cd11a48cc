//! HTTP/2 towards backends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Method, Version};
use tokio::net::TcpListener;

use crate::support::backend::{Backend, Reply};
use crate::support::h2_backend::{Frames, H2Backend};
use crate::support::h2_client::{H2Client, answer, get, read, read_some, request};
use crate::support::proxy::{HTTPS, Proxy, pool_at};
use crate::support::{eventually, in_time, tls};

/// Towards backends that speak HTTP/2 in plain text.
const H2: &str = "[pools.app.upstream]\nprotocol = \"h2\"\n";
/// Towards backends that speak whatever ALPN settles on.
const AUTO: &str = "[pools.app.upstream]\nprotocol = \"auto\"\n\
                    tls = { ca = \"ca.pem\", server_name = \"backend.test\" }\n";

async fn proxy_before(backend: &H2Backend) -> Proxy {
    proxy_at(&[backend.address], H2).await
}

async fn proxy_at(backends: &[std::net::SocketAddr], upstream: &str) -> Proxy {
    Proxy::start(&format!("{HTTPS}{}{upstream}", pool_at(backends))).await
}

async fn client_of(proxy: &Proxy) -> H2Client {
    H2Client::connect(proxy.address("https")).await
}

#[tokio::test]
async fn a_client_of_http_1_reaches_a_backend_of_http_2() {
    let backend = H2Backend::saying("two").await;
    let proxy = proxy_before(&backend).await;
    let fields = [("Cookie", "a=b"), ("X-Public", "open")];
    assert_eq!(proxy.connect().await.ask("GET", "/a?b", &fields, "").await.text(), "two");
    let request = &backend.requests()[0];
    assert_eq!(request.uri().to_string(), "http://test/a?b");
    assert_eq!(request.headers()["cookie"], "a=b");
    assert_eq!(request.headers()["x-public"], "open");
    assert_eq!(request.headers().get("host"), None);
    assert_eq!(request.headers().get("connection"), None);
}

#[tokio::test]
async fn a_client_of_http_2_reaches_a_backend_of_http_2() {
    let backend = H2Backend::saying("two").await;
    let proxy = proxy_before(&backend).await;
    assert_eq!(client_of(&proxy).await.get("/").await.text(), "two");
    assert_eq!(backend.requests()[0].uri().to_string(), "http://localhost/");
}

#[tokio::test]
async fn a_chunked_upload_over_http_1_becomes_a_stream() {
    let backend = H2Backend::start(|mut exchange| async move {
        let (body, _) = exchange.read().await;
        exchange.ok(body);
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = proxy.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.response().await.unwrap().text(), "abc");
    assert_eq!(backend.requests()[0].headers().get("transfer-encoding"), None);
}

#[tokio::test]
async fn http_2_over_tls() {
    let config = tls::server(&["backend.test"], &[b"h2"]);
    let backend = saying_over_tls(config).await;
    let upstream = AUTO.replace("auto", "h2");
    let proxy = proxy_at(&[backend.address], &upstream).await;
    assert_eq!(proxy.connect().await.get("/").await.text(), "HTTP/2.0");
}

#[tokio::test]
async fn http_2_over_tls_by_prior_knowledge() {
    // A server that knows nothing of ALPN.
    let config = tls::server(&["backend.test"], &[]);
    let backend = saying_over_tls(config).await;
    let upstream = AUTO.replace("auto", "h2");
    let proxy = proxy_at(&[backend.address], &upstream).await;
    assert_eq!(proxy.connect().await.get("/").await.text(), "HTTP/2.0");
}

#[tokio::test]
async fn auto_settles_on_http_2_where_the_backend_offers_it() {
    let config = tls::server(&["backend.test"], &[b"h2", b"http/1.1"]);
    let backend = saying_over_tls(config).await;
    let proxy = proxy_at(&[backend.address], AUTO).await;
    let mut client = proxy.connect().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "HTTP/2.0");
    }
    assert_eq!(backend.connections(), 1);
}

async fn saying_over_tls(config: Arc<rustls::ServerConfig>) -> H2Backend {
    H2Backend::start_with(h2::server::Builder::new(), Some(config), |mut exchange| async move {
        assert_eq!(exchange.request.version(), Version::HTTP_2);
        exchange.ok("HTTP/2.0");
    })
    .await
}

#[tokio::test]
async fn auto_settles_on_http_1_where_the_backend_offers_no_more() {
    let address = http1_over_tls(tls::server(&["backend.test"], &[b"http/1.1"])).await;
    let proxy = proxy_at(&[address], AUTO).await;
    let mut client = proxy.connect().await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "old");
    }
}

/// A backend that answers each connection's requests in HTTP/1.1.
pub async fn http1_over_tls(config: Arc<rustls::ServerConfig>) -> std::net::SocketAddr {
    use crate::support::wire::read_message;
    use tokio::io::AsyncWriteExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                let mut read = Vec::new();
                while read_message(&mut stream, &mut read, true).await.is_ok() {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold";
                    stream.write_all(answer).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let backend = H2Backend::start(|mut exchange| async move {
        exchange.hold().await;
        exchange.ok("late");
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy).await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(client.start(get("/"), true).await.0);
    }
    eventually("fifty at once", async || backend.streams() == 50).await;
    for _ in 0..50 {
        backend.release();
    }
    for response in waiting {
        assert_eq!(answer(response).await.unwrap().text(), "late");
    }
    assert_eq!(backend.connections(), 1);
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
}

#[tokio::test]
async fn a_backend_s_limit_of_streams_is_kept() {
    for limit in [1, 2] {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(limit);
        let backend = H2Backend::start_with(builder, None, |mut exchange| async move {
            tokio::task::yield_now().await;
            exchange.ok("one of many");
        })
        .await;
        let proxy = proxy_before(&backend).await;
        let mut client = client_of(&proxy).await;
        let mut waiting = Vec::new();
        for _ in 0..40 {
            waiting.push(client.start(request(Method::POST, "/"), true).await.0);
        }
        for response in waiting {
            assert_eq!(answer(response).await.unwrap().text(), "one of many");
        }
        let refused = proxy.metric("tidegate_backend_retries_total", &["refused_stream"]);
        assert_eq!((limit, refused), (limit, 0.0));
    }
}

#[tokio::test]
async fn requests_above_a_backend_s_limit_of_streams_do_not_wait_for_each_other() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let backend = H2Backend::start_with(builder, None, |mut exchange| async move {
        if exchange.request.uri().path() != "/quick" {
            exchange.hold().await;
        }
        exchange.ok("done");
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy).await;
    client.get("/quick").await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(client.start(get("/slow"), true).await.0);
    }
    eventually("five at once", async || backend.streams() == 5).await;
    assert_eq!(backend.connections(), 3);
    for _ in 0..5 {
        backend.release();
    }
    for response in waiting {
        assert_eq!(answer(response).await.unwrap().text(), "done");
    }
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_whatever_the_method() {
    for method in [Method::GET, Method::POST] {
        let backend = H2Backend::start(|mut exchange| async move {
            if exchange.number == 0 {
                return exchange.respond.send_reset(Reason::REFUSED_STREAM);
            }
            let (body, _) = exchange.read().await;
            exchange.ok(body);
        })
        .await;
        let proxy = proxy_before(&backend).await;
        let sent = client_of(&proxy).await.send(request(method.clone(), "/"), b"abc").await;
        assert_eq!(sent.unwrap().text(), "abc", "{method}");
        assert_eq!(proxy.metric("tidegate_backend_retries_total", &["refused_stream"]), 1.0);
    }
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_though_its_body_was_read() {
    let backend = H2Backend::start(|mut exchange| async move {
        if exchange.number == 0 {
            exchange.read().await;
            return exchange.respond.send_reset(Reason::REFUSED_STREAM);
        }
        let (body, _) = exchange.read().await;
        exchange.ok(body);
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let sent = client_of(&proxy).await.send(request(Method::POST, "/"), b"abc").await;
    assert_eq!(sent.unwrap().text(), "abc");
}

/// A backend that sends its first connection away before it has taken a request, with this reason.
async fn going_away(reason: Reason) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        let mut sent_away = false;
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut frames) = Frames::greet(tcp).await else { continue };
            let Ok(stream) = frames.request().await else { continue };
            if !sent_away {
                sent_away = true;
                frames.go_away(0, reason.into()).await.unwrap();
                continue;
            }
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut next = Some(stream);
                while let Some(stream) = next {
                    count.fetch_add(1, Ordering::SeqCst);
                    frames.ok(stream).await.unwrap();
                    next = frames.request().await.ok();
                }
            });
        }
    });
    (address, served)
}

#[tokio::test]
async fn streams_above_the_last_of_a_goaway_are_sent_again_whatever_the_method() {
    for reason in [Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM] {
        let (address, served) = going_away(reason).await;
        let proxy = proxy_at(&[address], H2).await;
        let answer = client_of(&proxy).await.send(request(Method::POST, "/"), b"abc").await;
        assert_eq!(answer.unwrap().status.as_u16(), 200, "{reason:?}");
        assert_eq!(served.load(Ordering::SeqCst), 1, "{reason:?}");
    }
}

#[tokio::test]
async fn a_backend_that_goes_away_gets_no_further_request_on_that_connection() {
    let backend = H2Backend::saying("two").await;
    let proxy = proxy_before(&backend).await;
    let mut client = proxy.connect().await;
    client.get("/").await;
    let reload = format!("{HTTPS}{}{H2}keepalive_timeout = \"90s\"\n", pool_at(&[backend.address]));
    proxy.reload(&reload).await.unwrap();
    // Other settings, another connection.
    client.get("/").await;
    assert_eq!(backend.connections(), 2);
}

#[tokio::test]
async fn a_post_that_a_dying_backend_had_taken_is_not_sent_again() {
    let backend = H2Backend::start(|mut exchange| async move {
        exchange.read().await;
        exchange.hold().await;
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy).await;
    let (response, mut stream) = client.start(request(Method::POST, "/"), false).await;
    stream.send_data("abc".into(), true).unwrap();
    eventually("taken", async || backend.streams() == 1).await;
    backend.kill();
    assert_eq!(answer(response).await.unwrap().status.as_u16(), 502);
    assert_eq!(backend.requests().len(), 1);
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
}

#[tokio::test]
async fn a_get_that_a_dying_backend_had_taken_goes_to_another() {
    let dying = H2Backend::start(|exchange| async move { exchange.hold().await }).await;
    let other = H2Backend::saying("other").await;
    let proxy = proxy_at(&[dying.address, other.address], H2).await;
    let mut client = client_of(&proxy).await;
    let mut waiting = Vec::new();
    while dying.streams() == 0 {
        waiting.push(client.start(get("/"), true).await.0);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    dying.kill();
    for response in waiting {
        assert_eq!(answer(response).await.unwrap().text(), "other");
    }
}

#[tokio::test]
async fn a_backend_that_dies_within_a_body_is_seen_as_a_reset() {
    let backend = H2Backend::start(|mut exchange| async move {
        let mut body = exchange.head(200, &[]);
        body.send_data("abc".into(), false).unwrap();
        exchange.hold().await;
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let response = client_of(&proxy).await.start(get("/"), true).await.0;
    let mut body = in_time("a head", response).await.unwrap().into_body();
    read_some(&mut body, 3).await;
    backend.kill();
    let error = read(&mut body).await.unwrap_err();
    assert!(error.is_reset(), "{error}");
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
    eventually("one record", async || proxy.recorded("https") == 1.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_at_the_backend_only() {
    let backend = H2Backend::start(|mut exchange| async move {
        if exchange.request.uri().path() == "/left" {
            let mut body = exchange.head(200, &[]);
            body.send_data("abc".into(), false).unwrap();
            let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
            assert_eq!(reset.unwrap(), Reason::CANCEL);
        } else {
            exchange.hold().await;
            exchange.ok("stayed");
        }
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy).await;
    let stayed = client.start(get("/stayed"), true).await.0;
    let (left, mut stream) = client.start(get("/left"), true).await;
    let mut body = in_time("a head", left).await.unwrap().into_body();
    read_some(&mut body, 3).await;
    assert_eq!(backend.streams(), 2);
    stream.send_reset(Reason::CANCEL);
    eventually("only one left", async || backend.streams() == 1).await;
    backend.release();
    assert_eq!(answer(stayed).await.unwrap().text(), "stayed");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_within_its_upload_resets_the_stream_at_the_backend() {
    let backend = H2Backend::start(|mut exchange| async move {
        let body = exchange.request.body_mut();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let (response, mut stream) =
        client_of(&proxy).await.start(request(Method::POST, "/"), false).await;
    stream.send_data("abc".into(), false).unwrap();
    eventually("taken", async || backend.streams() == 1).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    eventually("reset", async || backend.streams() == 0).await;
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
}

#[tokio::test]
async fn an_early_answer_ends_an_upload_that_never_ends() {
    let backend = H2Backend::start(|mut exchange| async move {
        exchange.head(413, &[]).send_data("big".into(), true).unwrap();
        // Without the courtesy of a reset: it waits for the proxy's.
        let body = exchange.request.body_mut();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let (response, mut stream) =
        client_of(&proxy).await.start(request(Method::POST, "/"), false).await;
    stream.send_data("abc".into(), false).unwrap();
    let answer = answer(response).await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.text()), (413, "big"));
    let reset = in_time("a reset", std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
    assert_eq!(reset.unwrap(), Reason::NO_ERROR);
    eventually("reset at the backend", async || backend.streams() == 0).await;
    eventually("free", async || proxy.in_flight_at(backend.address) == 0).await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let backend = H2Backend::start(|mut exchange| async move {
        let (body, trailers) = exchange.read().await;
        let mut stream = exchange.head(200, &[]);
        stream.send_data(body.into(), false).unwrap();
        stream.send_trailers(trailers.unwrap()).unwrap();
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let (response, mut stream) =
        client_of(&proxy).await.start(request(Method::POST, "/"), false).await;
    stream.send_data("abc".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "6".parse().unwrap());
    stream.send_trailers(trailers.clone()).unwrap();
    assert_eq!(answer(response).await.unwrap().trailers, Some(trailers));
}

#[tokio::test]
async fn a_stalled_reader_stalls_no_other_stream_of_the_same_backend_connection() {
    const LARGE: usize = 16 * 1024 * 1024;
    let backend = H2Backend::start(|mut exchange| async move {
        if exchange.request.uri().path() != "/large" {
            return exchange.ok("small");
        }
        let mut body = exchange.head(200, &[]);
        let mut left = Bytes::from(vec![7; LARGE]);
        while !left.is_empty() {
            body.reserve_capacity(left.len());
            let Some(Ok(room)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else {
                return;
            };
            let piece = left.split_to(room.min(left.len()));
            body.send_data(piece, left.is_empty()).unwrap();
        }
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(256 * 1024).initial_connection_window_size(1024 * 1024);
    let mut client = H2Client::connect_with(proxy.address("https"), &mut builder).await;
    let response = client.start(get("/large"), true).await.0;
    let mut stalled = in_time("a head", response).await.unwrap().into_body();
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "small");
    }
    assert_eq!(backend.connections(), 1);
    let taken = proxy.metric("tidegate_backend_bytes_total", &[]);
    assert!(taken < 4_000_000.0, "{taken} bytes taken from the backend");
    assert_eq!(read(&mut stalled).await.unwrap().0.len(), LARGE);
}

#[tokio::test]
async fn a_backend_of_http_1_in_an_http_2_pool_is_a_502() {
    let backend = Backend::start(|_| Reply::ok("one")).await;
    let proxy = proxy_at(&[backend.address], H2).await;
    assert_eq!(proxy.connect().await.get("/").await.status(), 502);
}
