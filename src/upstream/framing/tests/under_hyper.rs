//! The scanner in front of the real parser: what it refuses must never become an answer, and what it
//! passes must be what hyper makes of it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use fastrand::Rng;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::super::{Asked, Scanner};
use super::cases::{CASES, Case, Expect};
use super::{LIMITS, feed, pieces};

/// A backend that, once it has heard something, says its pieces, one a read, and then ends; behind a
/// scanner.
struct Guarded {
    scanner: Scanner,
    asked: Asked,
    heard: bool,
    waker: Option<Waker>,
    pieces: VecDeque<Vec<u8>>,
    refused: bool,
}

impl Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.heard {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if self.refused {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let Some(piece) = self.pieces.pop_front() else {
            return Poll::Ready(Ok(()));
        };
        let (accepted, violation) = feed(&mut self.scanner, &piece);
        out.put_slice(&piece[..accepted]);
        self.refused = violation.is_some();
        if self.refused && accepted == 0 {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let asked = self.asked;
        self.scanner.ask(asked);
        self.heard = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a client makes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Body(Vec<u8>),
    BrokenBody,
    NoAnswer,
}

pub(super) fn ask(asked: Asked, pieces: Vec<Vec<u8>>) -> Seen {
    let scanner = Scanner::new(LIMITS);
    let pieces = pieces.into();
    let io = Guarded { scanner, asked, heard: false, waker: None, pieces, refused: false };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(io).await.unwrap();
        tokio::task::spawn_local(connection);
        let mut request = Request::new(Empty::new());
        if asked == Asked::Head {
            *request.method_mut() = Method::HEAD;
        }
        let Ok(response) = sender.send_request(request).await else {
            return Seen::NoAnswer;
        };
        match response.into_body().collect().await {
            Ok(body) => Seen::Body(body.to_bytes().to_vec()),
            Err(_) => Seen::BrokenBody,
        }
    })
}

fn is_wanted(case: &Case, seen: &Seen) -> bool {
    match case.expect {
        Expect::Whole(body) | Expect::UntilClose(body) | Expect::Surplus(body) => {
            *seen == Seen::Body(body.to_vec())
        }
        Expect::Refuse(_) => *seen == Seen::NoAnswer,
        Expect::RefuseBody(_) => *seen == Seen::BrokenBody,
        Expect::Open => matches!(seen, Seen::NoAnswer | Seen::BrokenBody),
    }
}

#[test]
fn hyper_sees_what_was_passed_and_nothing_else() {
    let mut rng = Rng::with_seed(3);
    for case in CASES {
        let splits = [
            vec![case.bytes.to_vec()],
            case.bytes.chunks(1).map(<[u8]>::to_vec).collect(),
            pieces(case.bytes, &mut rng).into_iter().map(<[u8]>::to_vec).collect(),
            pieces(case.bytes, &mut rng).into_iter().map(<[u8]>::to_vec).collect(),
        ];
        for split in splits {
            let seen = ask(case.asked, split);
            assert!(is_wanted(case, &seen), "{} ({}): {seen:?}", case.name, case.clause);
        }
    }
}
