//! `GET /metrics`: made on a thread of its own and sent as it is made, compressed for whom takes that.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

use super::AdminState;
use crate::telemetry::metrics;

/// Pieces that are made ahead of what the reader has taken.
const AHEAD: usize = 4;

pub(super) async fn scrape(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let (sender, receiver) = channel(AHEAD);
    let reader = Reader(sender);
    let zipped = takes_gzip(&headers);
    // With thousands of backends it takes a while, and probes run on this runtime.
    spawn_blocking(move || {
        let sent = if zipped { send_zipped(&state, &reader) } else { send(&state, &reader) };
        // An error means that the reader has left, or takes nothing.
        let _ = sent.and_then(|()| reader.pass_on(None));
    });
    let body = Body::from_stream(Pieces { receiver, ended: false });
    let mut response = ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response();
    let fields = response.headers_mut();
    fields.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if zipped {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether gzip is among what is taken (RFC 9110 section 12.5.3). Which of several is liked best does
/// not matter, as there is one.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().to_ascii_lowercase();
        let weight = weight.strip_prefix("q=").map(str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("gzip") && weight != Some(Ok(0.0))
    })
}

fn send(state: &AdminState, mut to: impl Write) -> io::Result<()> {
    let mut outcome = Ok(());
    metrics::render(&state.shared, state.access_log.dropped(), &mut |piece| {
        if outcome.is_ok() {
            outcome = to.write_all(piece.as_bytes());
        }
    });
    outcome
}

fn send_zipped(state: &AdminState, reader: &Reader) -> io::Result<()> {
    // Names and labels repeat, so that the quickest way makes it a twentieth already.
    let mut encoder = GzEncoder::new(reader, Compression::fast());
    send(state, &mut encoder)?;
    encoder.finish().map(drop)
}

/// Who takes nothing for so long does not get the rest: the thread waits for him, and keeps what it
/// reads from alive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The thread's end: waits where the reader does not keep up.
struct Reader(Sender<Option<Bytes>>);

impl Reader {
    /// `None`: that was all.
    fn pass_on(&self, piece: Option<Bytes>) -> io::Result<()> {
        let sent = Handle::current().block_on(self.0.send_timeout(piece, PATIENCE));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for &Reader {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.pass_on(Some(Bytes::copy_from_slice(piece))).map(|()| piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The connection's end. Where the thread leaves before it was all, half of the metrics must not pass
/// for the whole: the response is broken off.
struct Pieces {
    receiver: Receiver<Option<Bytes>>,
    ended: bool,
}

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.receiver.poll_recv(cx));
        self.ended = !matches!(piece, Some(Some(_)));
        Poll::Ready(match piece {
            Some(piece) => piece.map(Ok),
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn what_ends_halfway_does_not_pass_for_the_whole() {
        for whole in [true, false] {
            let (sender, receiver) = channel(AHEAD);
            sender.send(Some(Bytes::from_static(b"up 1\n"))).await.unwrap();
            if whole {
                sender.send(None).await.unwrap();
            }
            drop(sender);
            let pieces = Pieces { receiver, ended: false };
            let ends: Vec<bool> = pieces.map(|piece| piece.is_ok()).collect().await;
            assert_eq!(ends, if whole { vec![true] } else { vec![true, false] });
        }
    }

    #[test]
    fn gzip_is_taken_where_it_is_named_and_not_refused() {
        for (list, taken) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip;Q=0.000, br", false),
            ("br, identity", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, list.parse().unwrap())]);
            assert_eq!(takes_gzip(&headers), taken, "{list}");
        }
    }
}
