//! A connection whose client takes nothing for a while.

use std::future::poll_fn;
use std::time::Duration;

use rustls::version::TLS12;
use tokio::time::timeout;

use super::*;
use crate::framing::Limits;
use crate::proxy::io::{Secured, settled};

const EXPECTS: &[u8] =
    b"POST / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

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

    let stream = ClientStream::Tls(Box::new(Secured::new(session)));
    let scanner = Scanner::new(Limits { max_header_bytes: 4096, max_headers: 10 });
    let mut link = Link::new(stream, EXPECTS.to_vec(), scanner, IoState::among(&Rc::default()));
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
