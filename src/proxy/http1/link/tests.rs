//! A connection whose client takes nothing for a while.

use std::future::poll_fn;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use tokio::time::timeout;

use super::*;
use crate::framing::Limits;
use crate::proxy::io::{Secured, Session, settled, settled_in_little};

const EXPECTS: &[u8] =
    b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

/// A connection of this session, of which these bytes were read already.
fn link_of(session: Session, held: &[u8], state: &Rc<IoState>) -> Link {
    let stream = ClientStream::Tls(Box::new(Secured::new(session)));
    let scanner = Scanner::new(Limits { max_header_bytes: 4096, max_headers: 10 });
    Link::new(stream, held.to_vec(), scanner, Rc::clone(state))
}

#[tokio::test]
async fn a_word_that_had_to_wait_in_tls_goes_out_before_the_body_comes() {
    let (client, mut session) = settled(&TLS12).await;
    let (mut client, _) = client.into_inner();
    let mut before = 0;
    poll_fn(|cx| {
        while let Poll::Ready(written) = Pin::new(session.raw_mut()).poll_write(cx, &[0; 4096]) {
            before += written.unwrap();
        }
        Poll::Ready(())
    })
    .await;

    let mut link = link_of(session, EXPECTS, &IoState::among(&Rc::default()));
    let head = poll_fn(|cx| link.poll_head(cx, &mut [])).await;
    assert_eq!(head, Heard::Head);
    link.take_head();

    let mut words = vec![0; before + 1];
    let heard = async {
        tokio::select! {
            biased;
            _ = poll_fn(|cx| link.poll_body(cx)) => unreachable!("nothing was sent"),
            heard = client.read_exact(&mut words) => heard,
        }
    };
    timeout(Duration::from_secs(10), heard).await.expect("the word goes out").unwrap();
    // A record with data (RFC 5246 section 6.2.1).
    assert_eq!(words[before], 23);
}

#[tokio::test]
async fn the_ticket_waits_for_no_request() {
    let (_client, session) = settled(&TLS13).await;
    let state = IoState::among(&Rc::default());
    state.hurry_until.set(Some(Instant::now() + Duration::from_secs(3600)));
    let mut link = link_of(session, b"", &state);
    assert!(link.puts_off());
    let mut scratch = [0; READ_BYTES];
    let mut idly = Context::from_waker(Waker::noop());
    assert!(link.poll_head(&mut idly, &mut scratch).is_pending());
    assert!(!link.puts_off(), "the client may need it to send its request");
}

/// Writes this much of an answer.
async fn write(link: &mut Link, length: usize) {
    let mut data = Bytes::from(vec![0; length]);
    poll_fn(|cx| link.poll_write(cx, &mut data, &mut &[][..])).await.unwrap();
    assert!(data.is_empty(), "TLS takes it in");
}

#[tokio::test]
async fn what_is_sealed_is_not_taken_yet() {
    let (_client, session) = settled_in_little().await;
    let state = IoState::among(&Rc::default());
    let mut link = link_of(session, b"", &state);
    write(&mut link, 16 * 1024).await;
    let mut idly = Context::from_waker(Waker::noop());
    assert!(link.poll_flush(&mut idly).is_pending());
    let since = state.blocked_since.get();
    assert!(since.is_some());
    // More drips in from the backend.
    write(&mut link, 1).await;
    assert!(link.poll_flush(&mut idly).is_pending());
    assert_eq!(state.blocked_since.get(), since);
}

#[tokio::test]
async fn who_takes_a_part_of_what_is_sealed_takes_something() {
    let (mut client, session) = settled_in_little().await;
    let state = IoState::among(&Rc::default());
    let mut link = link_of(session, b"", &state);
    write(&mut link, SEALED_BYTES - 1024).await;
    let mut flush = |cx: &mut Context<'_>| {
        assert!(link.poll_flush(cx).is_pending(), "much of it still waits");
        state.blocked_since.get().unwrap()
    };
    let since = flush(&mut Context::from_waker(Waker::noop()));
    client.read_buf(&mut Vec::with_capacity(SEALED_BYTES)).await.unwrap();
    let moved = poll_fn(|cx| if flush(cx) > since { Poll::Ready(()) } else { Poll::Pending });
    timeout(Duration::from_secs(10), moved).await.expect("something was taken");
}
