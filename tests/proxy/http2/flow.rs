//! Bodies, and what one of them does to the rest of its connection.

use bytes::Bytes;
use h2::Reason;
use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt;

use super::{client_of, proxy_before, send, settles};
use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::{H2Client, answer, get, read, read_some, request};
use crate::support::proxy::{HTTPS, Proxy, app, pool_at};
use crate::support::wire::read_head;
use crate::support::{eventually, in_time};

#[tokio::test]
async fn a_stalled_reader_stalls_no_other_stream_and_holds_little() {
    const LARGE: usize = 32 * 1024 * 1024;
    let backend = Backend::start(|request| match request.request_line().1 {
        "/large" => Reply::ok(vec![7; LARGE]),
        _ => Reply::ok("small"),
    })
    .await;
    let proxy = proxy_before(&[&backend]).await;
    // The client leaves room on the connection beside what one stream may take of it.
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(256 * 1024).initial_connection_window_size(1024 * 1024);
    let mut client = H2Client::connect_with(proxy.address("https"), &mut builder).await;
    let response = client.start(get("/large"), true).await.0;
    let mut stalled = in_time("a head", response).await.unwrap().into_body();
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "small");
    }
    // What is on its way is bounded by buffers (ours, and those of two sockets), not by the body.
    let taken = proxy.metric("tidegate_backend_bytes_total", &[]);
    assert!(taken < LARGE as f64 / 2.0, "{taken} bytes taken from the backend");
    assert_eq!(read(&mut stalled).await.unwrap().0.len(), LARGE);
}

#[tokio::test]
async fn an_upload_that_the_backend_does_not_read_is_not_taken_from_the_client() {
    // It reads the head, and then nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _backend = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let pool = pool_at(&[address]);
    let proxy = Proxy::start(&format!("{HTTPS}{pool}")).await;
    let mut client = client_of(&proxy).await;
    let (_response, mut stream) = client.start(request(Method::POST, "/"), false).await;
    let mut sent = 0;
    let sending = async {
        loop {
            send(&mut stream, vec![0; 64 * 1024].into(), false).await;
            sent += 64 * 1024;
        }
    };
    // Sockets take some megabytes; then it stands still.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), sending).await;
    assert!(sent < 32 * 1024 * 1024, "{sent} bytes taken from the client");
}

#[tokio::test]
async fn uploads_that_stand_in_the_queue_stop_no_other() {
    let patient = Backend::start(|_| Reply::ok("late").after(Step::Hold)).await;
    let free = Backend::named("free").await;
    let keys = "max_requests_per_backend = 1\nqueue = { timeout = \"60s\" }";
    let proxy = Proxy::start(&format!(
        "{HTTPS}[[routes]]\npath = \"/free\"\npool = \"free\"\n\
         [pools.free]\nbackends = [\"{}\"]\n{}",
        free.address,
        app(&[&patient], keys, "")
    ))
    .await;
    let mut client = client_of(&proxy).await;
    let _in_flight = client.start(get("/"), true).await;
    eventually("it has the place", async || proxy.in_flight(&patient) == 1).await;
    let mut standing = Vec::new();
    for _ in 0..40 {
        let (response, mut stream) = client.start(request(Method::POST, "/"), false).await;
        // As much as may be sent goes out, and nobody takes it.
        stream.send_data(vec![0; 256 * 1024].into(), false).unwrap();
        standing.push((response, stream));
    }
    let waiting = || proxy.metric("tidegate_pool_queue_length", &["pool=\"app\""]);
    eventually("all of them wait", async || waiting() == 40.0).await;
    let answer =
        in_time("an upload", client.send(request(Method::POST, "/free"), &[7; 8192])).await;
    assert_eq!(answer.unwrap().text(), "free");
    assert_eq!(waiting(), 40.0);
}

#[tokio::test]
async fn an_early_answer_ends_an_upload_that_never_ends() {
    // It answers as soon as the head is there, and keeps the connection.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _backend = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if read_head(&mut stream, &mut Vec::new()).await.is_ok() {
                    let early = b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nbig";
                    stream.write_all(early).await.unwrap();
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    let proxy = Proxy::start(&format!("{HTTPS}{}", pool_at(&[address]))).await;
    let mut client = client_of(&proxy).await;
    let (response, mut stream) = client.start(request(Method::POST, "/"), false).await;
    stream.send_data("abc".into(), false).unwrap();
    let answer = answer(response).await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.text()), (413, "big"));
    eventually("no slot is held", async || proxy.in_flight_at(address) == 0).await;
    eventually("one record", async || proxy.recorded("https") == 1.0).await;
    // RFC 9113 section 8.1: the rest of the request is declined with NO_ERROR.
    let reset = in_time("a reset", std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
    assert_eq!(reset.unwrap(), Reason::NO_ERROR);
}

#[tokio::test]
async fn an_upload_that_was_refused_may_still_be_sent_to_its_end() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    let (response, mut stream) = client.start(request(Method::POST, "/a/../b"), false).await;
    assert_eq!(answer(response).await.unwrap().status, StatusCode::BAD_REQUEST);
    // Far more than the windows hold.
    for _ in 0..30 {
        send(&mut stream, vec![0; 100_000].into(), false).await;
    }
    stream.send_data(Bytes::new(), true).unwrap();
    // And the connection is as good as before.
    assert_eq!(client.get("/").await.text(), "one");
}

#[tokio::test]
async fn a_body_that_the_backend_breaks_off_is_no_clean_end() {
    for (name, head) in [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
    ] {
        for end in [Step::Close, Step::Reset] {
            let backend =
                Backend::start(move |_| Reply::raw(head).then(Step::Hold).then(end.clone())).await;
            let proxy = proxy_before(&[&backend]).await;
            let response = client_of(&proxy).await.start(get("/"), true).await.0;
            let mut body = in_time("a head", response).await.unwrap().into_body();
            read_some(&mut body, 3).await;
            backend.release();
            let error = read(&mut body).await.expect_err(name);
            assert!(error.is_reset(), "{name}: {error}");
            settles(name, &proxy, &backend, 1.0).await;
        }
    }
}
