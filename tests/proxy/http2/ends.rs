//! How streams and connections end, and what is left of them.

use h2::Reason;
use http::StatusCode;

use super::{client_of, limited, proxy_before, settles};
use crate::support::backend::{Backend, Reply, Step};
use crate::support::h2_client::{answer, get, read_some, request};
use crate::support::h2_wire::{
    DATA, END_STREAM, GOAWAY, H2Wire, NO_TABLE, Outcome, WINDOW_UPDATE, ask, frame,
};
use crate::support::{eventually, in_time};

#[tokio::test]
async fn a_reset_by_the_client_frees_the_slot_while_the_backend_is_silent() {
    let backend = Backend::start(|_| Reply(vec![Step::Hang])).await;
    let proxy = proxy_before(&[&backend]).await;
    let (response, mut stream) = client_of(&proxy).await.start(get("/"), true).await;
    eventually("in flight", async || proxy.in_flight(&backend) == 1).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
    eventually("recorded as 499", async || {
        proxy.metric("tidegate_listener_requests_total", &["https", "\"499\""]) == 1.0
    })
    .await;
}

#[tokio::test]
async fn a_reset_by_the_client_frees_the_slot_within_a_body() {
    let backend = Backend::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").then(Step::Hang)
    })
    .await;
    let proxy = proxy_before(&[&backend]).await;
    let (response, mut stream) = client_of(&proxy).await.start(get("/"), true).await;
    let mut body = in_time("a head", response).await.unwrap().into_body();
    read_some(&mut body, 3).await;
    stream.send_reset(Reason::CANCEL);
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
    eventually("recorded", async || proxy.recorded("https") == 1.0).await;
}

#[tokio::test]
async fn a_connection_that_vanishes_frees_every_slot() {
    let backend = Backend::start(|_| Reply(vec![Step::Hang])).await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(client.start(get("/"), true).await);
    }
    eventually("in flight", async || proxy.in_flight(&backend) == 5).await;
    client.connection.abort();
    eventually("free", async || proxy.in_flight(&backend) == 0).await;
    eventually("recorded", async || proxy.recorded("https") == 5.0).await;
}

#[tokio::test]
async fn a_connection_beyond_its_age_is_told_to_go_away() {
    let backend = Backend::named("one").await;
    let proxy = limited(&backend, "keepalive_max_age = \"1ms\"").await;
    let client = client_of(&proxy).await;
    // The first request may be quicker than the age.
    eventually("told to go away", async || match client.send.clone().ready().await {
        Ok(mut send) => {
            let response = send.send_request(get("/"), true).unwrap().0;
            match in_time("an answer", response).await {
                Ok(response) => {
                    assert_eq!(response.status(), StatusCode::OK);
                    false
                }
                // Told while it was about to ask.
                Err(error) => error.is_go_away() && error.reason() == Some(Reason::NO_ERROR),
            }
        }
        Err(_) => true,
    })
    .await;
    // Its last acknowledgement may meet a closed socket.
    let _ = in_time("the end", client.connection).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_lets_streams_finish_and_closes_the_connection() {
    let backend = Backend::start(|_| Reply::ok("late").after(Step::Hold)).await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = client_of(&proxy).await;
    let response = client.start(get("/"), true).await.0;
    eventually("in flight", async || proxy.in_flight(&backend) == 1).await;
    let stopping = tokio::spawn(proxy.stop());
    eventually("going away", async || client.send.clone().ready().await.is_err()).await;
    backend.release();
    assert_eq!(answer(response).await.unwrap().text(), "late");
    let _ = in_time("the end", client.connection).await.unwrap();
    in_time("the stop", stopping).await.unwrap();
}

#[tokio::test]
async fn every_kind_of_answer_frees_the_slot_and_is_recorded_once() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
    let rows = [
        (
            "GET",
            "length n",
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
            200,
            "abc",
        ),
        ("GET", "length 0", Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 200, ""),
        ("HEAD", "head", Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), 200, ""),
        ("GET", "204", Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"), 204, ""),
        (
            "GET",
            "304",
            Reply::raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
            304,
            "",
        ),
        ("GET", "chunked", Reply::raw(format!("{CHUNKED}\r\n")), 200, "abc"),
        ("GET", "trailers", Reply::raw(format!("{CHUNKED}X-Sum: 6\r\n\r\n")), 200, "abc"),
        (
            "GET",
            "no length",
            Reply::raw("HTTP/1.1 200 OK\r\n\r\nabc").then(Step::Close),
            200,
            "abc",
        ),
        ("POST", "upload", Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 200, ""),
    ];
    for (method, name, reply, status, body) in rows {
        let backend = Backend::start(move |_| reply.clone()).await;
        let proxy = proxy_before(&[&backend]).await;
        let mut client = client_of(&proxy).await;
        for round in [1.0, 2.0] {
            let request = request(method.parse().unwrap(), "/");
            let answer = match method {
                "POST" => client.send(request, b"abc").await.unwrap(),
                _ => client.ask(request).await.unwrap(),
            };
            assert_eq!((answer.status.as_u16(), &*answer.text()), (status, body), "{name}");
            settles(name, &proxy, &backend, round).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_is_asleep_does_not_hold_a_stop_up() {
    let backend = Backend::named("one").await;
    let proxy = proxy_before(&[&backend]).await;
    let mut client = H2Wire::connect(proxy.address("https")).await;
    client.send(ask(1, "/")).await;
    assert_eq!(client.outcome(1).await, Outcome::Status(200));
    let stopping = tokio::spawn(proxy.stop());
    // The PING between the two is not answered.
    let mut told = Vec::new();
    while let Some(frame) = client.next().await {
        if frame.kind == GOAWAY {
            told.push(frame.payload[..4].to_vec());
        }
    }
    assert_eq!(told, [[0x7f, 0xff, 0xff, 0xff], [0, 0, 0, 1]]);
    drop(client);
    in_time("the stop", stopping).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_gets_its_answer_to_the_end() {
    const BYTES: usize = 3_000_000;
    let backend = Backend::start(|_| Reply::ok(vec![b'x'; BYTES])).await;
    let proxy = proxy_before(&[&backend]).await;
    for round in 0..3 {
        let settings = [&NO_TABLE[..], &[0, 4, 0x7f, 0xff, 0xff, 0xff]].concat();
        let mut client = H2Wire::connect_with(proxy.address("https"), &settings).await;
        let grow = |by: u32| frame(WINDOW_UPDATE, 0, 0, by.to_be_bytes());
        client.send([grow(1 << 30), ask(1, "/"), frame(GOAWAY, 0, 0, [0; 8])].concat()).await;
        let (mut received, mut ended) = (0, false);
        while let Some(frame) = client.next().await {
            if frame.kind == DATA {
                received += frame.payload.len();
                ended |= frame.flags & END_STREAM != 0;
                // Whoever is told that the connection ends still tells what it takes.
                let _ = client.try_send(grow(1)).await;
            }
        }
        assert_eq!((received, ended), (BYTES, true), "round {round}");
    }
}
