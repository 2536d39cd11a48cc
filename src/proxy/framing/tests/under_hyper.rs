//! A second opinion, that of another parser: what the scanner refuses must never become a request, and
//! what it passes must be what hyper makes of it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use fastrand::Rng;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::super::{Part, Phase, Scanner};
use super::cases::{CASES, Case, Expect};
use super::{LIMITS, pieces};

/// A client that says its pieces, one a read, and then ends; behind a scanner.
struct Guarded {
    scanner: Scanner,
    pieces: VecDeque<Vec<u8>>,
    refused: Option<Phase>,
}

impl Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let broken = || Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        match self.refused {
            None => {}
            Some(Phase::Body) => return broken(),
            Some(_) => return Poll::Ready(Ok(())),
        }
        let Some(piece) = self.pieces.pop_front() else {
            return Poll::Ready(Ok(()));
        };
        let mut accepted = 0;
        while accepted < piece.len() && self.refused.is_none() {
            let phase = self.scanner.phase();
            let (passed, part) = self.scanner.next(&piece[accepted..]);
            accepted += passed;
            match part {
                Ok(Part::Undecided) => break,
                Ok(_) => {}
                Err(_) => self.refused = Some(phase),
            }
        }
        out.put_slice(&piece[..accepted]);
        if accepted == 0 && self.refused == Some(Phase::Body) {
            return broken();
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Guarded {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a server saw: requests whose bodies came whole, and broken ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) whole: u64,
    pub(super) broken: u64,
}

pub(super) fn serve(pieces: Vec<Vec<u8>>) -> Seen {
    let whole = Rc::new(Cell::new(0));
    let broken = Rc::new(Cell::new(0));
    let io = Guarded { scanner: Scanner::new(LIMITS), pieces: pieces.into(), refused: None };
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let (whole, broken) = (Rc::clone(&whole), Rc::clone(&broken));
        async move {
            let mut response = Response::new(Empty::<Bytes>::new());
            if request.into_body().collect().await.is_ok() {
                whole.set(whole.get() + 1);
            } else {
                broken.set(broken.get() + 1);
                *response.status_mut() = StatusCode::IM_A_TEAPOT;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _ = runtime.block_on(async {
        hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(io, service)
            .await
    });
    Seen { whole: whole.get(), broken: broken.get() }
}

fn wanted(case: &Case) -> Seen {
    let (whole, broken) = match case.expect {
        Expect::Pass(heads) => (heads, 0),
        Expect::Until(_, Phase::Upgrade) => (1, 0),
        Expect::Until(heads, _) => (heads - 1, 1),
        Expect::Refuse(_) => (0, 0),
        Expect::RefuseAfter(heads, _) if case.name.starts_with("chunks") => (heads - 1, 1),
        Expect::RefuseAfter(heads, _) => (heads, 0),
    };
    Seen { whole, broken }
}

#[test]
fn hyper_sees_what_was_passed_and_nothing_else() {
    let mut rng = Rng::with_seed(3);
    for case in CASES {
        let name = format!("{} ({})", case.name, case.clause);
        assert_eq!(serve(vec![case.bytes.to_vec()]), wanted(case), "{name}, whole");
        let single = case.bytes.chunks(1).map(<[u8]>::to_vec).collect();
        assert_eq!(serve(single), wanted(case), "{name}, byte by byte");
        for round in 0..5 {
            let split = pieces(case.bytes, &mut rng).into_iter().map(<[u8]>::to_vec).collect();
            assert_eq!(serve(split), wanted(case), "{name}, split {round}");
        }
    }
}
