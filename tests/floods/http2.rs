//! Floods over HTTP/2, each kind by many connections at once, which come again as soon as they are
//! closed. That each kind is told and counted for what it is, `tests/proxy/http2_abuse.rs` shows.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::flood::{Flood, Target, while_heard};
use crate::support::every;
use crate::support::h2_wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, H2Wire, HEADERS, PING, PREFACE, PRIORITY,
    RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, block, frame, request,
};

/// Attackers at once,
const CONNECTIONS: usize = 20;
/// and those whose every stream reaches the backend, which is in this process.
const ASKING: usize = 16;
/// Streams of one connection, below its limit.
const STREAMS: u32 = 120;
/// Between two rounds: as fast as it is taken would measure this machine.
const PAUSE: Duration = Duration::from_millis(20);
/// SETTINGS_INITIAL_WINDOW_SIZE of zero.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// What an attacker sends.
#[derive(Clone)]
struct Attack {
    settings: &'static [u8],
    /// Once,
    first: Vec<u8>,
    /// and then this, each time with the next number; if it is nothing, no more.
    round: fn(u32) -> Vec<u8>,
}

impl Attack {
    fn rounds(round: fn(u32) -> Vec<u8>) -> Attack {
        Attack { settings: &[], first: Vec::new(), round }
    }

    fn after(first: Vec<u8>, round: fn(u32) -> Vec<u8>) -> Attack {
        Attack { first, ..Attack::rounds(round) }
    }

    /// Attacks, over and over.
    async fn go_on(self, target: Target) {
        while target.goes_on() {
            let mut wire = H2Wire::plain(target.http).await;
            let settings = frame(SETTINGS, 0, 0, self.settings);
            if wire.try_send([PREFACE, &settings].concat()).await.is_err() {
                continue;
            }
            // The window of the connection is what an upload begins with.
            let window = async {
                while wire.next().await.is_some_and(|frame| frame.kind != WINDOW_UPDATE) {}
            };
            let _ = tokio::time::timeout(PAUSE * 10, window).await;
            let (mut from, mut to) = tokio::io::split(wire.into_stream());
            let saying = async {
                let (mut bytes, mut beat) = (self.first.clone(), every(PAUSE));
                beat.tick().await;
                for number in 0.. {
                    if to.write_all(&bytes).await.is_err() {
                        return;
                    }
                    target.count();
                    beat.tick().await;
                    bytes = (self.round)(number);
                    if bytes.is_empty() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            while_heard(&mut from, saying).await;
        }
    }
}

async fn flood(name: &'static str, attack: Attack) {
    flood_by(CONNECTIONS, name, attack).await;
}

async fn flood_by(connections: usize, name: &'static str, attack: Attack) {
    Flood::new(name)
        .over_http2()
        .memory_each(16 + 1024 + STREAMS as u64 * 18)
        .run(connections, move |target, _| attack.clone().go_on(target))
        .await;
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields = request(b"GET", path.as_bytes());
    frame(HEADERS, WHOLE, stream, block(&plain(fields)))
}

fn post(stream: u32, path: &str) -> Vec<u8> {
    let fields = request(b"POST", path.as_bytes());
    frame(HEADERS, END_HEADERS, stream, block(&plain(fields)))
}

/// With the scheme of a connection without TLS.
fn plain<'a>(mut fields: Vec<(&'a [u8], &'a [u8])>) -> Vec<(&'a [u8], &'a [u8])> {
    fields[1].1 = b"http";
    fields
}

/// The streams of a round of ten.
fn ten(round: u32) -> impl Iterator<Item = u32> {
    (round * 10..round * 10 + 10).map(|number| 2 * number + 1)
}

fn each(streams: impl Iterator<Item = u32>, bytes: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    streams.flat_map(bytes).collect()
}

/// RFC 9113 section 5.4.2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset() {
    let attack = Attack::rounds(|round| {
        each(ten(round), |stream| {
            [get(stream, "/slow"), frame(RST_STREAM, 0, stream, [0, 0, 0, 8])].concat()
        })
    });
    flood("rapid_reset", attack).await;
}

/// RFC 9113 section 6.9.1: a window too large is the client's mistake, and the reset is ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_you_reset() {
    let attack = Attack::rounds(|round| {
        each(ten(round), |stream| {
            let overflow = frame(WINDOW_UPDATE, 0, stream, i32::MAX.to_be_bytes());
            [get(stream, "/slow"), overflow].concat()
        })
    });
    flood("made_you_reset", attack).await;
}

/// RFC 9113 section 6.10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn continuation() {
    let first = frame(HEADERS, END_STREAM, 1, block(&plain(request(b"GET", b"/"))));
    let attack = Attack::after(first, |_| frame(CONTINUATION, 0, 1, block(&[(b"x", b"y")])));
    flood("continuation", attack).await;
}

/// RFC 9113 section 6.5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings() {
    let attack = Attack::rounds(|_| frame(SETTINGS, 0, 0, []).repeat(50));
    flood("settings", attack).await;
}

/// RFC 9113 section 6.7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ping() {
    let attack = Attack::rounds(|_| frame(PING, 0, 0, [0; 8]).repeat(50));
    flood("ping", attack).await;
}

/// RFC 9113 section 5.3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priority() {
    let attack = Attack::rounds(|round| {
        each(ten(round), |stream| frame(PRIORITY, 0, stream, [0; 5])).repeat(10)
    });
    flood("priority", attack).await;
}

/// RFC 9113 section 6.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_data() {
    let attack = Attack::after(post(1, "/"), |_| frame(DATA, 0, 1, []).repeat(20));
    flood("empty_data", attack).await;
}

/// RFC 9113 section 6.2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_headers() {
    let attack =
        Attack::rounds(|round| each(ten(round), |stream| frame(HEADERS, END_HEADERS, stream, [])));
    flood("empty_headers", attack).await;
}

/// RFC 9113 section 6.9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn window_update() {
    let attack =
        Attack::after(get(1, "/hang"), |_| frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]).repeat(100));
    flood("window_update", attack).await;
}

fn all() -> impl Iterator<Item = u32> {
    (0..STREAMS).map(|number| 2 * number + 1)
}

/// RFC 9113 section 6.9.2: answers that are never taken, from the first byte on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zero_windows() {
    let first = each(all(), |stream| get(stream, "/large"));
    let attack = Attack { settings: &NO_WINDOW, ..Attack::after(first, |_| Vec::new()) };
    flood("zero_windows", attack).await;
}

/// RFC 7541 section 7.3: one field of the table, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hpack_bomb() {
    let attack = Attack::rounds(|round| {
        let mut bomb = block(&plain(request(b"GET", b"/")));
        bomb.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
        bomb.extend([b'a'; 4000]);
        bomb.extend([0xbe; 1000]);
        frame(HEADERS, WHOLE, 2 * round + 1, bomb)
    });
    flood("hpack_bomb", attack).await;
}

/// RFC 9113 section 5.1.2: more streams than are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_churn() {
    let attack = Attack::rounds(|round| each(ten(round), |stream| get(stream, "/slow")));
    flood_by(ASKING, "stream_churn", attack).await;
}

/// RFC 9113 section 5.2: uploads that begin, all that a connection's window takes, and never end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_uploads() {
    let piece = [0; 8000];
    let first = each(all(), |stream| [post(stream, "/"), frame(DATA, 0, stream, piece)].concat());
    flood("stalled_uploads", Attack::after(first, |_| Vec::new())).await;
}
