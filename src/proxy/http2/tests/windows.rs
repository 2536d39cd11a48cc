//! Flow control in both directions (RFC 9113, section 5.2).

use super::peer::{CONNECT, Peer, Written, frame, head, read};
use crate::framing::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, WINDOW_UPDATE};
use crate::proxy::body::UploadFailure;
use crate::proxy::http2::core::{CONNECTION_WINDOW, FIRST_WINDOW, STREAM_WINDOW, code};
use crate::proxy::http2::sides::Sender;

#[test]
fn content_waits_for_the_windows() {
    let mut peer = Peer::new();
    peer.ask(1);
    head(&peer.streams[0], false);
    peer.streams[0].send_data(vec![7; 100_000].into(), true);
    let sent = |frames: &Written| -> usize {
        frames.iter().filter(|frame| frame.0 == DATA).map(|frame| frame.3.len()).sum()
    };
    assert_eq!(sent(&peer.written()), FIRST_WINDOW as usize);
    assert!(!peer.streams[0].is_drained());
    let grow = |by: u32, stream| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    peer.receive(&grow(50_000, 1)).unwrap();
    assert_eq!(sent(&peer.written()), 0);
    peer.receive(&grow(10_000, 0)).unwrap();
    assert_eq!(sent(&peer.written()), 10_000);
    peer.receive(&grow(50_000, 0)).unwrap();
    let last = peer.written();
    assert_eq!(sent(&last), 100_000 - FIRST_WINDOW as usize - 10_000);
    assert_eq!(last.last().unwrap().1, END_STREAM);
    assert!(peer.streams[0].is_drained());
}

#[test]
fn streams_in_line_take_turns() {
    let mut peer = Peer::new();
    peer.receive(&frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])).unwrap();
    peer.receive(&frame(WINDOW_UPDATE, 0, 0, &[0, 16, 0, 0])).unwrap();
    peer.written();
    for stream in [1, 3, 5] {
        peer.ask(stream);
    }
    peer.streams.iter().for_each(|sender| head(sender, false));
    peer.streams.iter().for_each(|sender| sender.send_data(vec![0; 40_000].into(), true));
    let order: Vec<u32> =
        peer.written().iter().filter(|frame| frame.0 == DATA).map(|frame| frame.2).collect();
    assert_eq!(order, [1, 1, 3, 5, 1, 3, 5, 3, 5]);
}

#[test]
fn what_a_client_takes_is_progress_of_those_in_line() {
    let mut peer = Peer::new();
    [1, 3, 5].iter().for_each(|stream| peer.ask(*stream));
    peer.streams.iter().for_each(|sender| head(sender, false));
    // The first two use the connection's window up; the third one's own is used up before.
    peer.receive(&frame(WINDOW_UPDATE, 0, 0, &[0, 2, 0, 0])).unwrap();
    peer.streams[2].send_data(vec![0; 70_000].into(), true);
    peer.written();
    peer.receive(&frame(WINDOW_UPDATE, 0, 1, &[0, 16, 0, 0])).unwrap();
    peer.receive(&frame(WINDOW_UPDATE, 0, 3, &[0, 16, 0, 0])).unwrap();
    peer.streams[..2].iter().for_each(|it| it.send_data(vec![0; 200_000].into(), true));
    peer.written();
    let mut grow = |stream| {
        let look = |peer: &Peer| peer.streams.iter().map(Sender::progress).collect::<Vec<_>>();
        let before = look(&peer);
        peer.receive(&frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 100])).unwrap();
        peer.written();
        let after = look(&peer);
        let moved = after.iter().zip(&before).map(|(after, before)| after.has_moved_since(before));
        moved.collect::<Vec<_>>()
    };
    assert_eq!(grow(0), [true, true, false], "by whomever");
    assert_eq!(grow(1), [false, false, false], "the connection has no window");
    assert_eq!(grow(5), [false, false, false], "the connection has no window");
    assert_eq!(grow(0), [true, true, true], "each has a window");
}

#[test]
fn what_is_read_may_be_sent_anew() {
    let mut peer = Peer::new();
    peer.post(1);
    let piece = frame(DATA, 0, 1, &[0; 16 * 1024]);
    let mut received = 0;
    for _ in 0..100 {
        peer.receive(&piece).unwrap();
        received += read(&mut peer.bodies[0]).unwrap().unwrap().len();
    }
    assert_eq!(received, 100 * 16 * 1024);
    let updates = peer.written();
    assert_eq!(grown(&updates, 1), received as u32 / (STREAM_WINDOW / 2) * (STREAM_WINDOW / 2));
    let of_connection = received as u32 / (CONNECTION_WINDOW / 2) * (CONNECTION_WINDOW / 2);
    assert_eq!(grown(&updates, 0), of_connection);
}

/// By how much a stream, or for 0 the connection, was widened.
fn grown(updates: &Written, stream: u32) -> u32 {
    let of_stream = updates.iter().filter(|frame| frame.0 == WINDOW_UPDATE && frame.2 == stream);
    of_stream.map(|frame| u32::from_be_bytes(*frame.3.first_chunk().unwrap())).sum()
}

#[test]
fn uploads_that_nobody_takes_leave_room_for_one_that_is_taken() {
    let mut peer = Peer::new();
    [1, 3, 5, 7].iter().for_each(|stream| peer.post(*stream));
    let piece = |stream| frame(DATA, 0, stream, &[0; 16 * 1024]);
    for standing in [1, 3, 5] {
        for _ in 0..STREAM_WINDOW as usize / (16 * 1024) {
            peer.receive(&piece(standing)).unwrap();
        }
    }
    let mut may_send = i64::from(CONNECTION_WINDOW - 3 * STREAM_WINDOW);
    for _ in 0..100 {
        assert!(may_send >= 16 * 1024, "it would wait for those who stand");
        peer.receive(&piece(7)).unwrap();
        read(&mut peer.bodies[3]).unwrap().unwrap();
        may_send += i64::from(grown(&peer.written(), 0)) - 16 * 1024;
    }
}

#[test]
fn what_came_for_a_socket_that_is_let_go_may_be_sent_anew() {
    let mut peer = Peer::new();
    for stream in (1..).step_by(2).take(CONNECTION_WINDOW as usize / (16 * 1024)) {
        peer.receive(&frame(HEADERS, END_HEADERS, stream, CONNECT)).unwrap();
        peer.receive(&frame(DATA, END_STREAM, stream, &[0; 16 * 1024])).unwrap();
        head(&peer.streams.pop().unwrap(), true);
        peer.sockets.clear();
    }
    assert_eq!(grown(&peer.written(), 0), CONNECTION_WINDOW);
}

#[test]
fn a_body_is_given_in_pieces() {
    let mut peer = Peer::new();
    peer.post(1);
    for _ in 0..5 {
        peer.receive(&frame(DATA, 0, 1, &[0; 16 * 1024])).unwrap();
    }
    let mut pieces = std::iter::from_fn(|| read(&mut peer.bodies[0]));
    let lengths: Vec<usize> = pieces.by_ref().map(|piece| piece.unwrap().len()).collect();
    assert_eq!(lengths, [32 * 1024, 32 * 1024, 16 * 1024]);
}

#[test]
fn a_client_that_sends_more_than_it_may_is_stopped() {
    let mut peer = Peer::new();
    peer.post(1);
    let piece = frame(DATA, 0, 1, &[0; 16 * 1024]);
    for _ in 0..STREAM_WINDOW as usize / (16 * 1024) {
        peer.receive(&piece).unwrap();
    }
    assert_eq!(peer.resets(), []);
    peer.receive(&piece).unwrap();
    assert_eq!(peer.resets(), [(1, code::FLOW_CONTROL_ERROR)]);
    assert_eq!(read(&mut peer.bodies[0]), Some(Err(UploadFailure::Malformed)));
}

#[test]
fn content_goes_on_before_its_frame_has_come_in_full() {
    let mut peer = Peer::new();
    peer.post(1);
    let bytes = frame(DATA, END_STREAM, 1, b"content");
    for (piece, content) in [(&bytes[..5], ""), (&bytes[5..12], "con"), (&bytes[12..], "tent")] {
        peer.receive(piece).unwrap();
        let read = read(&mut peer.bodies[0]).map(|read| String::from_utf8(read.unwrap()).unwrap());
        assert_eq!(read.unwrap_or_default(), content);
    }
    assert_eq!(read(&mut peer.bodies[0]), Some(Ok(vec![])));
}

#[test]
fn content_on_a_stream_that_we_reset_may_fill_its_window_and_no_more() {
    let mut peer = Peer::new();
    peer.post(1);
    peer.streams.clear();
    peer.bodies.clear();
    let piece = frame(DATA, 0, 1, &[0; 16 * 1024]);
    for _ in 0..STREAM_WINDOW as usize / (16 * 1024) {
        peer.receive(&piece).unwrap();
    }
    let broken = peer.receive(&piece).unwrap_err();
    assert_eq!(broken.code, code::FLOW_CONTROL_ERROR);
}

#[test]
fn content_on_a_stream_that_we_reset_has_one_end() {
    let mut peer = Peer::new();
    peer.post(1);
    peer.streams.clear();
    peer.bodies.clear();
    let end = frame(DATA, END_STREAM, 1, &[]);
    peer.receive(&end).unwrap();
    assert_eq!(peer.receive(&end).unwrap_err().code, code::STREAM_CLOSED);
}
