//! Attacks on HTTP/2 connections: each ends within a bounded number of frames, is counted by its
//! kind, and does not keep a well-behaved client from being served.

use tidegate::state::H2Abuse;

use crate::support::backend::{Backend, Reply, Step};
use crate::support::eventually;
use crate::support::h2_client::H2Client;
use crate::support::h2_wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2Wire, HEADERS, Outcome, PING, PRIORITY,
    RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, ask, block, frame, get, request,
};
use crate::support::proxy::{HTTPS, Proxy, pool_of};

const ENHANCE_YOUR_CALM: u32 = 11;
const CANCEL: u32 = 8;
/// No attack lasts longer than so many rounds.
const MOST_ROUNDS: u32 = 5000;

/// Answers, but for `/hang`, where it never does.
async fn backend() -> Backend {
    Backend::start(|request| match request.request_line().1 {
        "/hang" => Reply(vec![Step::Hang]),
        "/large" => Reply::ok(vec![7; 8 * 1024 * 1024]),
        _ => Reply::ok("well"),
    })
    .await
}

async fn proxy_before(backend: &Backend, limits: &str) -> Proxy {
    let limits = format!("[listeners.https.limits]\n{limits}\n");
    Proxy::start(&format!("{HTTPS}{limits}{}", pool_of(&[backend]))).await
}

fn counted(proxy: &Proxy, kind: H2Abuse) -> f64 {
    let kind = format!("kind=\"{}\"", kind.label());
    proxy.metric("tidegate_listener_h2_abuse_total", &["listener=\"https\"", &kind])
}

/// How the rounds of an attack follow each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// At once.
    Full,
    /// Each after the reset of the stream of the one before. At full speed so many streams are
    /// opened before the first is reset that it shows as churn.
    ByReset,
}

/// Sends rounds of an attack until the connection is closed.
async fn attack(client: &mut H2Wire, pace: Pace, mut round: impl FnMut(u32) -> Vec<u8>) {
    for number in 0..MOST_ROUNDS {
        if client.try_send(round(number)).await.is_err() {
            return;
        }
        let reset = async |client: &mut H2Wire| client.outcome(stream(number)).await;
        if pace == Pace::ByReset && !matches!(reset(client).await, Outcome::Reset(_)) {
            return;
        }
    }
}

/// What every attack comes to: it begins with these bytes and goes on in rounds.
async fn ends(kind: H2Abuse, begin: Vec<u8>, round: impl FnMut(u32) -> Vec<u8>) {
    ends_at(Pace::Full, kind, begin, round).await;
}

async fn ends_at(pace: Pace, kind: H2Abuse, begin: Vec<u8>, round: impl FnMut(u32) -> Vec<u8>) {
    let backend = backend().await;
    let proxy = proxy_before(&backend, "").await;
    let mut good = H2Client::connect(proxy.address("https")).await;
    let mut bad = H2Wire::connect(proxy.address("https")).await;
    bad.send(begin).await;
    let served = async {
        for _ in 0..50 {
            assert_eq!(good.get("/").await.text(), "well");
        }
    };
    let attacking = async {
        attack(&mut bad, pace, round).await;
        // A reset may overtake the GOAWAY.
        if let Some(code) = bad.end().await {
            assert_eq!(code, ENHANCE_YOUR_CALM);
        }
    };
    tokio::join!(served, attacking);
    eventually("counted", async || counted(&proxy, kind) == 1.0).await;
    for other in H2Abuse::ALL {
        assert_eq!(counted(&proxy, other), f64::from(other == kind), "{}", other.label());
    }
    eventually("nothing is left in flight", async || proxy.in_flight(&backend) == 0).await;
    assert_eq!(good.get("/").await.text(), "well");
}

fn stream(round: u32) -> u32 {
    2 * round + 1
}

fn post(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block(&request(b"POST", path.as_bytes())))
}

#[tokio::test]
async fn rapid_reset() {
    ends(H2Abuse::RapidReset, vec![], |round| {
        let reset = frame(RST_STREAM, 0, stream(round), [0, 0, 0, 8]);
        [ask(stream(round), "/hang"), reset].concat()
    })
    .await;
}

#[tokio::test]
async fn made_you_reset() {
    ends_at(Pace::ByReset, H2Abuse::MadeYouReset, vec![], |round| {
        let overflow = frame(WINDOW_UPDATE, 0, stream(round), i32::MAX.to_be_bytes());
        [ask(stream(round), "/hang"), overflow].concat()
    })
    .await;
}

#[tokio::test]
async fn made_you_reset_by_malformed_heads() {
    ends_at(Pace::ByReset, H2Abuse::MadeYouReset, vec![], |round| {
        let fields = [&get("/")[..], &[(b"connection", b"close")]].concat();
        frame(HEADERS, WHOLE, stream(round), block(&fields))
    })
    .await;
}

#[tokio::test]
async fn continuation() {
    let begin = frame(HEADERS, END_STREAM, 1, block(&get("/")));
    ends(H2Abuse::Continuation, begin, |_| frame(CONTINUATION, 0, 1, block(&[(b"x", b"y")]))).await;
}

#[tokio::test]
async fn empty_continuation() {
    let begin = frame(HEADERS, END_STREAM, 1, block(&get("/")));
    ends(H2Abuse::Continuation, begin, |_| frame(CONTINUATION, 0, 1, [])).await;
}

#[tokio::test]
async fn settings() {
    ends(H2Abuse::Settings, vec![], |_| frame(SETTINGS, 0, 0, [])).await;
}

#[tokio::test]
async fn settings_of_many_entries() {
    let entries = [0, 4, 0, 0, 255, 255].repeat(2000);
    ends(H2Abuse::Settings, vec![], |_| frame(SETTINGS, 0, 0, &entries)).await;
}

#[tokio::test]
async fn ping() {
    ends(H2Abuse::Ping, vec![], |_| frame(PING, 0, 0, [0; 8])).await;
}

#[tokio::test]
async fn priority() {
    ends(H2Abuse::Priority, vec![], |round| frame(PRIORITY, 0, stream(round), [0; 5])).await;
}

#[tokio::test]
async fn empty_data() {
    ends(H2Abuse::EmptyData, post(1, "/hang"), |_| frame(DATA, 0, 1, [])).await;
}

#[tokio::test]
async fn empty_headers() {
    ends(H2Abuse::EmptyHeaders, vec![], |round| frame(HEADERS, END_HEADERS, stream(round), []))
        .await;
}

#[tokio::test]
async fn window_update() {
    ends(H2Abuse::WindowUpdate, ask(1, "/hang"), |_| frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]))
        .await;
}

#[tokio::test]
async fn stream_churn() {
    ends(H2Abuse::StreamChurn, vec![], |round| ask(stream(round), "/hang")).await;
}

#[tokio::test]
async fn unknown_frames() {
    ends(H2Abuse::UnknownFrames, vec![], |_| frame(0x42, 0, 0, [0; 100])).await;
}

#[tokio::test]
async fn header_list() {
    // One field of 4000 bytes goes into the table; then each byte stands for it.
    let mut bomb = block(&get("/"));
    bomb.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend([b'a'; 4000]);
    bomb.extend([0xbe; 1000]);
    ends(H2Abuse::HeaderList, vec![], move |round| frame(HEADERS, WHOLE, stream(round), &bomb))
        .await;
}

#[tokio::test]
async fn a_stream_without_a_window_is_given_up() {
    let backend = backend().await;
    let proxy = proxy_before(&backend, "write_timeout = \"300ms\"").await;
    let no_window = [0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    for path in ["/", "/large"] {
        let before = counted(&proxy, H2Abuse::ZeroWindow);
        let mut client = H2Wire::connect_with(proxy.address("https"), &no_window).await;
        client.send(ask(1, path)).await;
        assert_eq!(client.outcome(1).await, Outcome::Status(200), "{path}");
        assert_eq!(client.outcome(1).await, Outcome::Reset(CANCEL), "{path}");
        eventually("the slot is free", async || proxy.in_flight(&backend) == 0).await;
        assert_eq!(counted(&proxy, H2Abuse::ZeroWindow), before + 1.0, "{path}");
        // The connection goes on.
        let window = frame(WINDOW_UPDATE, 0, 3, [0, 0, 1, 0]);
        client.send([ask(3, "/"), window].concat()).await;
        assert_eq!(client.outcome(3).await, Outcome::Status(200), "{path}");
        let data = client.next().await.unwrap();
        assert_eq!((data.kind, data.payload), (DATA, b"well".to_vec()), "{path}");
    }
}

#[tokio::test]
async fn streams_without_windows_hold_little() {
    const STREAMS: u32 = 100;
    let backend = backend().await;
    let proxy = proxy_before(&backend, "").await;
    for window in [0, 1] {
        let before = proxy.metric("tidegate_backend_bytes_total", &[]);
        let settings = [0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, window];
        let mut client = H2Wire::connect_with(proxy.address("https"), &settings).await;
        let asks: Vec<u8> = (0..STREAMS).flat_map(|round| ask(stream(round), "/large")).collect();
        client.send(asks).await;
        for _ in 0..STREAMS {
            while client.next().await.unwrap().kind != HEADERS {}
        }
        // What was taken from the backend is held by us, or by its sockets.
        let taken = proxy.metric("tidegate_backend_bytes_total", &[]) - before;
        println!("{STREAMS} streams with a window of {window}: {taken} bytes taken");
        assert!(taken < f64::from(STREAMS) * 256.0 * 1024.0, "{taken} bytes taken");
    }
}

/// What the client is told last, by GOAWAY.
async fn goodbye(client: &mut H2Wire) -> Option<Vec<u8>> {
    let mut told = None;
    while let Some(frame) = client.next().await {
        told = (frame.kind == GOAWAY).then_some(frame.payload);
    }
    told
}

#[tokio::test]
async fn a_client_that_never_asks_is_told_that_nothing_was_lost() {
    let backend = backend().await;
    let proxy = proxy_before(&backend, "header_timeout = \"300ms\"").await;
    let mut client = H2Wire::connect(proxy.address("https")).await;
    assert_eq!(goodbye(&mut client).await, Some(vec![0; 8]));
}

/// Were the connection closed for good, it would be answered with a reset, which could overtake the
/// word that it was not looked at.
#[tokio::test]
async fn a_request_that_crosses_the_goodbye_meets_no_reset() {
    let backend = backend().await;
    let proxy = proxy_before(&backend, "header_timeout = \"300ms\"").await;
    for begun in [vec![], ask(1, "/")[..20].to_vec()] {
        let mut client = H2Wire::connect(proxy.address("https")).await;
        client.send(&begun).await;
        assert_eq!(goodbye(&mut client).await, Some(vec![0; 8]));
        for stream in [3, 5, 7] {
            client.try_send(ask(stream, "/")).await.unwrap();
        }
    }
    assert!(backend.requests().is_empty());
}

#[tokio::test]
async fn a_header_block_that_does_not_end_is_timed() {
    let backend = backend().await;
    let proxy = proxy_before(&backend, "header_timeout = \"300ms\"").await;
    for begun in [frame(HEADERS, END_STREAM, 3, block(&get("/"))), ask(3, "/")[..20].to_vec()] {
        let before = proxy.metric("tidegate_listener_malformed_requests_total", &["https"]);
        let mut client = H2Wire::connect(proxy.address("https")).await;
        client.send([ask(1, "/hang"), begun].concat()).await;
        // The second request was not looked at.
        assert_eq!(goodbye(&mut client).await, Some(vec![0, 0, 0, 1, 0, 0, 0, 0]));
        let malformed = || proxy.metric("tidegate_listener_malformed_requests_total", &["https"]);
        eventually("counted", async || malformed() == before + 1.0).await;
    }
}
