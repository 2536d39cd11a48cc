//! A connection lasts, whatever single streams of it come to: what breaks it breaks everybody's answers.

use std::net::SocketAddr;

use http::Method;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{H2, client_of, proxy_at, proxy_before};
use crate::support::h2_backend::{Frames, H2Backend};
use crate::support::h2_client::{H2Client, answer, get, read, request};
use crate::support::h2_wire::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, RST_STREAM, SETTINGS, block, frame,
};
use crate::support::proxy::{BASE, HTTPS, Proxy, pool_at};
use crate::support::{eventually, in_time};

/// Entry 8 of the static table: `:status 200` (RFC 7541 appendix A).
const OK: [u8; 1] = [0x88];

/// A backend whose connections are led by a script, one after another as they come.
async fn frames_by<F>(script: impl Fn(Frames, usize) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((tcp, _)) = listener.accept().await {
            // Probes connect and say nothing.
            let Ok(frames) = Frames::greet(tcp).await else { continue };
            tokio::spawn(script(frames, number));
            number += 1;
        }
    });
    address
}

/// A backend that answers each request by these frames of its stream.
async fn answering(frames_of: fn(u32) -> Vec<u8>) -> SocketAddr {
    frames_by(move |mut frames, _| async move {
        loop {
            let stream = frames.request().await?;
            frames.send(&frames_of(stream)).await?;
        }
    })
    .await
}

/// With one worker, so that all clients share its one connection to the backend.
async fn narrow_proxy(backend: SocketAddr) -> Proxy {
    let base = BASE.replace("workers = 2", "workers = 1");
    let patience = "response_timeout = \"60s\"\n";
    Proxy::start_whole(&format!("{base}{HTTPS}{}{H2}{patience}", pool_at(&[backend]))).await
}

/// The frames of a stream that this kind begins: their streams, as they come.
async fn streams_of(frames: &mut Frames, kind: u8, count: usize) -> std::io::Result<Vec<u32>> {
    let mut streams = Vec::new();
    while streams.len() < count {
        let next = frames.next().await?;
        match (next.kind, next.flags & ACK) {
            (SETTINGS, 0) => frames.say(SETTINGS, ACK, 0, &[]).await?,
            (found, _) if found == kind => streams.push(next.stream),
            _ => {}
        }
    }
    Ok(streams)
}

#[tokio::test]
async fn requests_that_are_given_up_in_crowds_break_no_other_off() {
    const CROWD: usize = 120;
    // h2 puts up with 1024 answers to streams that it has forgotten, in the life of a connection.
    const ROUNDS: usize = 18;
    let address = frames_by(|mut frames, _| async move {
        let patient = frames.request().await?;
        for _ in 0..ROUNDS {
            let crowd = streams_of(&mut frames, HEADERS, CROWD).await?;
            streams_of(&mut frames, RST_STREAM, CROWD).await?;
            // Too late: they cross the resets.
            for stream in crowd {
                frames.ok(stream).await?;
            }
        }
        frames.ok(patient).await?;
        frames.request().await.map(drop)
    })
    .await;
    let proxy = narrow_proxy(address).await;
    let patient = client_of(&proxy).await.start(get("/"), true).await.0;
    eventually("one is sent", async || proxy.in_flight_at(address) == 1).await;
    for _ in 0..ROUNDS {
        let mut client = client_of(&proxy).await;
        let mut waiting = Vec::new();
        for _ in 0..CROWD {
            waiting.push(client.start(get("/"), true).await.0);
        }
        let in_flight = || proxy.in_flight_at(address);
        eventually("all are sent", async || in_flight() == CROWD as u32 + 1).await;
        drop(waiting);
        eventually("all are given up", async || in_flight() <= 1).await;
    }
    assert_eq!(answer(patient).await.unwrap().status.as_u16(), 200);
}

#[tokio::test]
async fn small_pieces_that_nobody_takes_break_no_other_off() {
    const STREAMS: usize = 4;
    const PIECES: usize = 128 * 1024 / 10;
    let piece = |number: usize| format!("{number:010}");
    let address = frames_by(move |mut frames, _| async move {
        let patient = frames.request().await?;
        for _ in 0..STREAMS {
            let stream = frames.request().await?;
            let mut bytes = frame(HEADERS, END_HEADERS, stream, OK);
            for number in 0..PIECES {
                bytes.extend(frame(DATA, 0, stream, piece(number)));
            }
            bytes.extend(frame(DATA, END_STREAM, stream, []));
            frames.send(&bytes).await?;
        }
        frames.ok(patient).await?;
        frames.request().await.map(drop)
    })
    .await;
    let proxy = proxy_at(&[address], H2).await;
    let mut builder = h2::client::Builder::new();
    // It bears what the backend's connection is to bear.
    builder.initial_window_size(1024).data_frame_budget(usize::MAX);
    let client = H2Client::connect_with(proxy.address("https"), &mut builder);
    let mut client = client.await;
    let patient = client.start(get("/"), true).await.0;
    let mut standing = Vec::new();
    for _ in 0..STREAMS {
        let response = client.start(get("/pieces"), true).await.0;
        standing.push(in_time("a head", response).await.unwrap().into_body());
    }
    assert_eq!(answer(patient).await.unwrap().status.as_u16(), 200);
    let whole: String = (0..PIECES).map(piece).collect();
    for mut body in standing {
        assert!(read(&mut body).await.unwrap().0 == whole.as_bytes());
    }
}

#[tokio::test]
async fn empty_pieces_break_nothing_off() {
    let address = answering(|stream| {
        let head = frame(HEADERS, END_HEADERS, stream, OK);
        let empty = frame(DATA, 0, stream, []).repeat(150);
        let (first, last) = (frame(DATA, 0, stream, "ab"), frame(DATA, END_STREAM, stream, "cd"));
        [head, first, empty, last].concat()
    })
    .await;
    let proxy = proxy_at(&[address], H2).await;
    let mut client = client_of(&proxy).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "abcd");
    }
}

#[tokio::test]
async fn pieces_that_are_only_padding_break_no_later_request_off() {
    let address = answering(|stream| {
        let head = frame(HEADERS, END_HEADERS, stream, OK);
        let padding = frame(DATA, PADDED, stream, [2, 0, 0]).repeat(60);
        [head, padding, frame(DATA, END_STREAM, stream, "ab")].concat()
    })
    .await;
    let proxy = proxy_at(&[address], H2).await;
    let mut client = client_of(&proxy).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "ab");
    }
}

#[tokio::test]
async fn what_ends_a_connection_is_held_against_none_of_several() {
    const STREAMS: usize = 3;
    let address = frames_by(|mut frames, number| async move {
        let mut streams = Vec::new();
        while number == 0 && streams.len() < STREAMS {
            streams.push(frames.request().await?);
        }
        if number == 0 {
            // Data of no stream (RFC 9113 section 6.1).
            frames.send(&frame(DATA, 0, 0, "x")).await?;
        }
        loop {
            let stream = frames.request().await?;
            frames.ok(stream).await?;
        }
    })
    .await;
    let proxy = narrow_proxy(address).await;
    let mut client = client_of(&proxy).await;
    let mut waiting = Vec::new();
    for _ in 0..STREAMS {
        waiting.push(client.start(get("/"), true).await.0);
    }
    for response in waiting {
        assert_eq!(answer(response).await.unwrap().status.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_whole_answer_may_end_by_a_reset_that_finds_nothing_wrong() {
    let address = answering(|stream| {
        let fields = block(&[(&b":status"[..], &b"200"[..]), (b"content-length", b"4")]);
        let head = frame(HEADERS, END_HEADERS, stream, fields);
        [head, frame(DATA, 0, stream, "abcd"), frame(RST_STREAM, 0, stream, [0; 4])].concat()
    })
    .await;
    let proxy = proxy_at(&[address], H2).await;
    assert_eq!(client_of(&proxy).await.get("/").await.text(), "abcd");
}

#[tokio::test]
async fn a_limit_of_streams_that_is_lowered_holds_for_the_next_request() {
    let (told, lowered) = oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let address = frames_by(move |mut frames, number| {
        let told = if number == 0 { told.lock().unwrap().take() } else { None };
        async move {
            let stream = frames.request().await?;
            frames.ok(stream).await?;
            if let Some(told) = told {
                // SETTINGS_MAX_CONCURRENT_STREAMS of zero.
                frames.say(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0]).await?;
                loop {
                    let next = frames.next().await?;
                    if (next.kind, next.flags, next.stream) == (SETTINGS, ACK, 0) {
                        break;
                    }
                }
                let _ = told.send(());
            }
            frames.request().await.map(drop)
        }
    })
    .await;
    let proxy = proxy_at(&[address], H2).await;
    let mut client = client_of(&proxy).await;
    assert_eq!(client.get("/").await.status.as_u16(), 200);
    in_time("the settings are taken", lowered).await.unwrap();
    assert_eq!(client.get("/").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_head_may_be_as_long_as_over_http_1() {
    let backend = H2Backend::start(|mut exchange| async move {
        let length = exchange.request.uri().path()[1..].parse().unwrap();
        exchange.bare(200, &[("x", &"y".repeat(length))]);
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = proxy.connect().await;
    for length in [20_000, 60_000] {
        let answer = client.get(&format!("/{length}")).await;
        assert_eq!(answer.status(), 200, "{length}");
        assert_eq!(answer.field("x").map(str::len), Some(length));
    }
    assert_eq!(client.get("/80000").await.status(), 502);
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn a_backend_that_refuses_every_stream_is_asked_as_often_as_retries_allow() {
    let backend = H2Backend::start(|mut exchange| async move {
        if exchange.request.uri().path() == "/well" {
            return exchange.ok("well");
        }
        exchange.respond.send_reset(h2::Reason::REFUSED_STREAM);
    })
    .await;
    let proxy = proxy_before(&backend).await;
    let mut client = client_of(&proxy).await;
    assert_eq!(client.get("/well").await.text(), "well");
    let refused = client.send(request(Method::POST, "/"), b"abc").await.unwrap();
    assert_eq!(refused.status.as_u16(), 502);
    let retries = proxy.metric("tidegate_backend_retries_total", &["refused_stream"]);
    assert_eq!(backend.requests().len() as f64, 1.0 + 1.0 + retries);
}
