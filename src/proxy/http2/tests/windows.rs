//! Flow control in both directions (RFC 9113, section 5.2).

use std::collections::HashMap;

use super::peer::{CONNECT, LIMITS, Peer, Written, frame, head, read};
use crate::framing::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, WINDOW_UPDATE};
use crate::proxy::body::UploadFailure;
use crate::proxy::http2::core::{FIRST_WINDOW, code};
use crate::proxy::http2::sides::Sender;
use crate::proxy::http2::untaken::PIECE_BYTES;
use crate::proxy::http2::windows::{TOLD_BYTES, WIDE_BYTES, connection_window};

/// A large frame of content.
const FRAME: usize = 16 * 1024;

/// A client that sends content as far as it may.
struct Uploads {
    peer: Peer,
    /// What it may send, on the connection and on each stream.
    windows: HashMap<u32, i64>,
}

impl Uploads {
    /// With so many uploads, which begin to be read in the order of their numbers.
    fn new(count: usize) -> Uploads {
        let mut uploads = Uploads { peer: Peer::new(), windows: HashMap::new() };
        uploads.windows.insert(0, connection_window(LIMITS.streams));
        for stream in (1..).step_by(2).take(count) {
            uploads.peer.post(stream);
            uploads.windows.insert(stream, FIRST_WINDOW.into());
        }
        uploads
    }

    /// Sends all that may be sent on a stream, and says how much that was.
    fn send(&mut self, stream: u32) -> i64 {
        let all = self.windows[&stream].min(self.windows[&0]);
        let mut left = usize::try_from(all).unwrap();
        while left > 0 {
            let length = left.min(FRAME);
            self.peer.receive(&frame(DATA, 0, stream, &vec![0; length])).unwrap();
            left -= length;
        }
        for of in [0, stream] {
            *self.windows.get_mut(&of).unwrap() -= all;
        }
        all
    }

    /// Takes all that has come on a stream, and tells the client of that.
    fn take(&mut self, stream: u32) {
        let body = &mut self.peer.bodies[stream as usize / 2];
        while read(body).is_some() {}
        let written = self.peer.written();
        for (of, window) in &mut self.windows {
            *window += i64::from(grown(&written, *of));
        }
    }

    /// Goes on with these for a while.
    fn send_and_take(&mut self, streams: &[u32]) {
        for stream in streams.repeat(20) {
            self.send(stream);
            self.take(stream);
        }
    }

    /// By how much the windows are wider than in the beginning.
    fn widths(&self) -> Vec<u32> {
        let core = self.peer.core.borrow();
        core.streams.iter().map(|(_, stream)| stream.window - FIRST_WINDOW).collect()
    }
}

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
    let mut uploads = Uploads::new(1);
    let mut sent = 0;
    while sent < 20_000_000 {
        let more = uploads.send(1);
        assert!(more > 0, "it waits for nobody");
        sent += more;
        uploads.take(1);
    }
    let told = connection_window(LIMITS.streams) - uploads.windows[&0];
    assert!((0..i64::from(TOLD_BYTES)).contains(&told), "{told} bytes were taken and not told");
}

#[test]
fn the_window_of_what_is_taken_as_it_comes_widens() {
    let mut uploads = Uploads::new(1);
    let sent = [0; 5].map(|_| {
        let sent = uploads.send(1);
        uploads.take(1);
        sent
    });
    let first = i64::from(FIRST_WINDOW);
    let most = first + i64::from(WIDE_BYTES / 2);
    assert_eq!(sent, [first, 4 * first, 16 * first, most, most]);
}

#[test]
fn the_window_of_what_is_not_taken_as_it_comes_stays() {
    let mut uploads = Uploads::new(1);
    for _ in 0..50 {
        uploads.send(1);
        read(&mut uploads.peer.bodies[0]).unwrap().unwrap();
        let more = grown(&uploads.peer.written(), 1);
        assert!(more as usize <= 2 * PIECE_BYTES, "no more than was taken");
        *uploads.windows.get_mut(&1).unwrap() += i64::from(more);
    }
}

#[test]
fn wide_windows_are_shared() {
    let mut uploads = Uploads::new(3);
    uploads.send_and_take(&[1]);
    assert_eq!(uploads.widths(), [WIDE_BYTES / 2, 0, 0], "alone it has half");
    uploads.send_and_take(&[1, 3, 5]);
    let equal = |width: &u32| width.abs_diff(WIDE_BYTES / 4) < WIDE_BYTES / 1000;
    assert!(uploads.widths().iter().all(equal), "{:?}", uploads.widths());
    // What is silent has what it had.
    uploads.send_and_take(&[3]);
    assert_eq!(uploads.widths()[1], (WIDE_BYTES - uploads.widths()[0] - uploads.widths()[2]) / 2);
    // What has ended leaves its part to the others.
    uploads.peer.receive(&frame(DATA, END_STREAM, 5, &[])).unwrap();
    uploads.send_and_take(&[3]);
    assert_eq!(uploads.widths()[1], (WIDE_BYTES - uploads.widths()[0]) / 2);
}

#[test]
fn tunnels_that_have_ended_and_are_not_read_leave_no_place_for_others() {
    let mut peer = Peer::new();
    let streams = (1..).step_by(2).take(LIMITS.streams as usize);
    for stream in streams {
        peer.receive(&frame(HEADERS, END_HEADERS, stream, CONNECT)).unwrap();
        peer.receive(&frame(DATA, END_STREAM, stream, &[0; FRAME])).unwrap();
        head(peer.streams.last().unwrap(), true);
    }
    let next = 2 * LIMITS.streams + 1;
    peer.written();
    peer.post(next);
    assert_eq!(peer.resets(), [(next, code::REFUSED_STREAM)]);
    peer.sockets.pop();
    peer.post(next + 2);
    assert_eq!(peer.resets(), []);
}

/// By how much a stream, or for 0 the connection, was widened.
fn grown(updates: &Written, stream: u32) -> u32 {
    let of_stream = updates.iter().filter(|frame| frame.0 == WINDOW_UPDATE && frame.2 == stream);
    of_stream.map(|frame| u32::from_be_bytes(*frame.3.first_chunk().unwrap())).sum()
}

#[test]
fn uploads_that_nobody_takes_leave_room_for_one_that_is_taken() {
    let count = LIMITS.streams as usize;
    let mut uploads = Uploads::new(count);
    let last = 2 * count as u32 - 1;
    // One of them was wide when it came to stand.
    for _ in 0..5 {
        uploads.send(1);
        uploads.take(1);
    }
    for standing in (1..last).step_by(2) {
        assert!(uploads.send(standing) >= i64::from(FIRST_WINDOW));
    }
    for _ in 0..100 {
        assert!(uploads.send(last) >= i64::from(FIRST_WINDOW / 2), "it would wait for the others");
        uploads.take(last);
    }
}

#[test]
fn what_came_for_a_socket_that_is_let_go_may_be_sent_anew() {
    let mut peer = Peer::new();
    let (mut told, all) = (0, connection_window(LIMITS.streams) as usize);
    for stream in (1..).step_by(2).take(all / FRAME) {
        peer.receive(&frame(HEADERS, END_HEADERS, stream, CONNECT)).unwrap();
        peer.receive(&frame(DATA, END_STREAM, stream, &[0; FRAME])).unwrap();
        head(&peer.streams.pop().unwrap(), true);
        peer.sockets.clear();
        told += grown(&peer.written(), 0) as usize;
    }
    assert!(all - told < FRAME + TOLD_BYTES as usize, "{told} of {all}");
}

#[test]
fn a_body_is_given_in_pieces() {
    let mut peer = Peer::new();
    peer.post(1);
    for _ in 0..3 {
        peer.receive(&frame(DATA, 0, 1, &[0; FRAME])).unwrap();
    }
    let mut pieces = std::iter::from_fn(|| read(&mut peer.bodies[0]));
    let lengths: Vec<usize> = pieces.by_ref().map(|piece| piece.unwrap().len()).collect();
    assert_eq!(lengths, [32 * 1024, 16 * 1024]);
}

#[test]
fn a_client_that_sends_more_than_it_may_is_stopped() {
    let mut peer = Peer::new();
    peer.post(1);
    let piece = frame(DATA, 0, 1, &[0; FRAME]);
    for _ in 0..FIRST_WINDOW as usize / FRAME {
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
    let piece = frame(DATA, 0, 1, &[0; FRAME]);
    for _ in 0..FIRST_WINDOW as usize / FRAME {
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
