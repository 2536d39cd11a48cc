//! Streams of one connection: how many, and which are sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use http::Method;
use tokio::net::TcpListener;

use super::{H2, client_of, proxy_at, proxy_before};
use crate::support::h2_backend::{Frames, H2Backend};
use crate::support::h2_client::{H2Client, answer, get, request};
use crate::support::proxy::{HTTPS, pool_at};
use crate::support::{eventually, every, in_time};

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
    let (mut waiting, mut beat) = (Vec::new(), every(std::time::Duration::from_millis(5)));
    while dying.streams() == 0 {
        beat.tick().await;
        waiting.push(client.start(get("/"), true).await.0);
    }
    dying.kill();
    for response in waiting {
        assert_eq!(answer(response).await.unwrap().text(), "other");
    }
}

#[tokio::test]
async fn answers_of_which_nothing_is_taken_stop_no_others() {
    let backend = H2Backend::start(|mut exchange| async move {
        match exchange.request.uri().path() {
            "/large" => exchange.ok(vec![7; 1024 * 1024]),
            _ => exchange.ok("s"),
        }
    })
    .await;
    let proxy = proxy_before(&backend).await;
    // On one worker, so over one connection. It takes a byte of each answer.
    let mut builder = h2::client::Builder::new();
    let client = H2Client::connect_with(proxy.address("https"), builder.initial_window_size(1));
    let mut client = client.await;
    let mut standing = Vec::new();
    for _ in 0..20 {
        let response = client.start(get("/large"), true).await.0;
        standing.push(in_time("a head", response).await.unwrap());
    }
    for _ in 0..20 {
        assert_eq!(in_time("an answer", client.get("/")).await.text(), "s");
    }
    assert_eq!(backend.connections(), 1);
}
