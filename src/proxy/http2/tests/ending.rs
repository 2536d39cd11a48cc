//! The ends of streams and of the connection.

use super::peer::{GET, Peer, WHOLE, frame, head};
use crate::framing::frames::{ACK, DATA, GOAWAY, HEADERS, PING};
use crate::proxy::http2::core::code;
use crate::state::H2Abuse;

#[test]
fn heads_on_streams_that_are_over_and_on_those_that_never_were() {
    for (stream, code) in [(1, code::STREAM_CLOSED), (3, code::PROTOCOL_ERROR)] {
        let mut peer = Peer::new();
        peer.ask(1);
        head(&peer.streams.pop().unwrap(), true);
        peer.ask(7);
        let broken = peer.receive(&frame(HEADERS, WHOLE, stream, GET)).unwrap_err();
        assert_eq!((broken.kind, broken.code), (H2Abuse::Protocol, code), "stream {stream}");
    }
}

#[test]
fn what_becomes_of_a_stream_that_is_let_go() {
    // Before its answer, within it, and behind it while its body still comes.
    let mut peer = Peer::new();
    [1, 3, 5].iter().for_each(|stream| peer.post(*stream));
    head(&peer.streams[1], false);
    head(&peer.streams[2], true);
    peer.written();
    peer.streams.clear();
    assert_eq!(peer.resets(), [(1, code::INTERNAL_ERROR), (3, code::INTERNAL_ERROR)]);
    peer.bodies.clear();
    assert_eq!(peer.resets(), [(5, code::NO_ERROR)]);
    assert!(peer.core.borrow().is_at_rest());
    // What was on its way is passed over.
    peer.receive(&frame(DATA, 0, 5, &[0; 10])).unwrap();
    assert_eq!(peer.resets(), []);
}

#[test]
fn a_connection_ends_in_two_steps() {
    let mut peer = Peer::new();
    peer.ask(1);
    peer.core.borrow_mut().drain();
    let last = |payload: &[u8]| u32::from_be_bytes(*payload.first_chunk().unwrap());
    let told = peer.written();
    assert_eq!((told[0].0, last(&told[0].3)), (GOAWAY, u32::MAX >> 1));
    // What crossed it is served.
    peer.ask(3);
    peer.receive(&frame(PING, ACK, 0, &told[1].3)).unwrap();
    let told = peer.written();
    assert_eq!((told[0].0, last(&told[0].3)), (GOAWAY, 3));
    peer.ask(5);
    assert_eq!(peer.resets(), [(5, code::REFUSED_STREAM)]);
    peer.streams.iter().for_each(|sender| head(sender, true));
    assert!(!peer.core.borrow().is_finished());
    peer.streams.clear();
    assert!(peer.core.borrow().is_finished());
    // What was refused is not among those that were served.
    peer.written();
    peer.core.borrow_mut().go_away_for(code::PROTOCOL_ERROR);
    assert_eq!(last(&peer.written()[0].3), 3);
}
