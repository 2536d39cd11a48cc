//! Uploads that a backend takes no more of, when nobody waits for them any longer.

use bytes::Bytes;
use h2::Reason;
use http::Method;

use super::{client_of, proxy_before};
use crate::support::h2_backend::{Exchange, H2Backend};
use crate::support::h2_client::{answer, get, read_some, request};
use crate::support::{eventually, in_time};

/// More than a connection's first window holds, and its 16 KiB pieces do not fill it evenly.
const LARGE: usize = 300_000;
/// The first window of a connection (RFC 9113 section 6.9.2).
const WINDOW: usize = 65_535;

/// Takes what the windows hold, and gives nothing of it back.
async fn fill_windows(exchange: &mut Exchange) {
    let mut taken = 0;
    while taken < WINDOW {
        taken += exchange.request.body_mut().data().await.unwrap().unwrap().len();
    }
}

async fn reset_of(exchange: &mut Exchange) -> Option<Reason> {
    exchange.request.body_mut().data().await.unwrap().unwrap_err().reason()
}

#[tokio::test]
async fn an_upload_that_waits_for_room_is_reset_when_its_client_leaves() {
    let backend = H2Backend::start(|mut exchange| async move {
        if exchange.request.uri().path() == "/small" {
            let (body, _) = exchange.read().await;
            return exchange.ok(body);
        }
        fill_windows(&mut exchange).await;
        let mut talk = exchange.head(200, &[]);
        talk.send_data("ok".into(), false).unwrap();
        assert_eq!(reset_of(&mut exchange).await, Some(Reason::CANCEL));
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy).await;
    let (response, mut stream) = client.start(request(Method::POST, "/talk"), false).await;
    stream.send_data(Bytes::from(vec![7; LARGE]), false).unwrap();
    let mut body = in_time("a head", response).await.unwrap().into_body();
    read_some(&mut body, 2).await;
    stream.send_reset(Reason::CANCEL);
    eventually("reset", async || backend.streams() == 0).await;
    // What it had taken of the connection's window is free again.
    let small = client.send(request(Method::POST, "/small"), b"abc").await;
    assert_eq!(small.unwrap().text(), "abc");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn an_upload_that_waits_for_room_is_reset_behind_a_whole_answer() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1);
    let backend = H2Backend::start_with(builder, None, |mut exchange| async move {
        if exchange.request.uri().path() == "/small" {
            return exchange.ok("small");
        }
        fill_windows(&mut exchange).await;
        exchange.head(413, &[]).send_data("big".into(), true).unwrap();
        assert_eq!(reset_of(&mut exchange).await, Some(Reason::CANCEL));
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy).await;
    for _ in 0..3 {
        let (response, mut stream) = client.start(request(Method::POST, "/large"), false).await;
        stream.send_data(Bytes::from(vec![7; LARGE]), false).unwrap();
        let large = answer(response).await.unwrap();
        assert_eq!((large.status.as_u16(), &*large.text()), (413, "big"));
        eventually("reset", async || backend.streams() == 0).await;
        // Its place among the streams is free again.
        assert_eq!(client.get("/small").await.text(), "small");
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_place_is_kept_while_an_upload_goes_on() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1);
    let backend = H2Backend::start_with(builder, None, |mut exchange| async move {
        if exchange.request.uri().path() == "/small" {
            return exchange.ok("small");
        }
        let mut talk = exchange.head(200, &[]);
        talk.send_data("ok".into(), false).unwrap();
        let (body, _) = exchange.read().await;
        talk.send_data(body.into(), true).unwrap();
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy).await;
    let (response, mut stream) = client.start(request(Method::POST, "/talk"), false).await;
    let mut body = in_time("a head", response).await.unwrap().into_body();
    read_some(&mut body, 2).await;
    let (small, _) = client.start(get("/small"), true).await;
    assert_eq!(answer(small).await.unwrap().text(), "small");
    assert_eq!(backend.connections(), 2);
    stream.send_data("abc".into(), true).unwrap();
    assert_eq!(read_some(&mut body, 3).await, b"abc");
}
