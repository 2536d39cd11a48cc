//! What costs more than it is worth runs out, and what is served pays for it.

use std::time::Duration;

use super::peer::{GET, NOW, Peer, WHOLE, frame, head};
use crate::framing::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};
use crate::proxy::http2::core::code;
use crate::state::H2Abuse;

#[test]
fn floods_end_by_kind() {
    for (bytes, most, kind) in [
        (frame(RST_STREAM, 0, 1, &[0; 4]), 256, H2Abuse::RapidReset),
        (frame(SETTINGS, 0, 0, &[]), 99, H2Abuse::Settings),
        (frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0].repeat(100)), 9, H2Abuse::Settings),
        (frame(PING, 0, 0, &[0; 8]), 100, H2Abuse::Ping),
        (frame(PRIORITY, 0, 1, &[0; 5]), 500, H2Abuse::Priority),
        (frame(DATA, 0, 1, &[]), 50, H2Abuse::EmptyData),
        (frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 1000, H2Abuse::WindowUpdate),
        (frame(0x42, 0, 0, &[0; 4]), 500, H2Abuse::UnknownFrames),
    ] {
        let mut peer = Peer::new();
        peer.post(1);
        assert_eq!(peer.most(&bytes), (most, kind));
    }
}

#[test]
fn streams_that_are_answered_are_free() {
    let mut peer = Peer::new();
    for stream in (1..20_000).step_by(2) {
        peer.ask(stream);
        head(&peer.streams.pop().unwrap(), true);
        peer.written();
    }
    assert!(peer.core.borrow().is_at_rest());
}

#[test]
fn streams_that_are_reset_behind_the_head_of_their_answer_are_free() {
    let mut peer = Peer::new();
    for stream in (1..20_000).step_by(2) {
        peer.ask(stream);
        head(&peer.streams[0], false);
        peer.receive(&frame(RST_STREAM, 0, stream, &[0; 4])).unwrap();
        peer.streams.clear();
        peer.written();
    }
}

#[test]
fn streams_that_are_not_answered_run_out() {
    let mut peer = Peer::new();
    let opened = (1..)
        .step_by(2)
        .take_while(|stream| peer.receive(&frame(HEADERS, WHOLE, *stream, GET)).is_ok());
    assert_eq!(opened.count(), 200 + 2 * 128);
    // Those beyond the limit were refused.
    assert_eq!(peer.streams.len(), 128);
    let resets = peer.resets();
    assert!(resets.iter().all(|(_, code)| *code == code::REFUSED_STREAM));
    assert_eq!(resets.len(), 200 + 128);
}

#[test]
fn heads_on_streams_that_we_reset_run_out() {
    let mut peer = Peer::new();
    peer.post(1);
    peer.streams.clear();
    assert_eq!(peer.resets(), [(1, code::INTERNAL_ERROR)]);
    let (most, kind) = peer.most(&frame(HEADERS, WHOLE, 1, GET));
    assert_eq!(kind, H2Abuse::StreamChurn);
    assert!(most < 1000, "{most} heads taken");
}

#[test]
fn answers_and_time_pay_for_resets() {
    let mut peer = Peer::new();
    peer.ask(1);
    let reset = frame(RST_STREAM, 0, 1, &[0; 4]);
    peer.most(&reset);
    peer.ask(3);
    head(&peer.streams[1], true);
    assert_eq!(peer.most(&reset).0, 1);
    NOW.set(NOW.get() + Duration::from_secs(2));
    assert_eq!(peer.most(&reset).0, 60);
}

#[test]
fn a_download_pays_for_window_updates_and_pings() {
    let mut peer = Peer::new();
    peer.ask(1);
    head(&peer.streams[0], false);
    let grow = |by: u32, stream| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    // Two updates for each 4 KiB read, and a ping in each round trip of 64 KiB.
    for piece in 0..10_000 {
        peer.streams[0].send_data(vec![0; 4096].into(), false);
        peer.written();
        peer.receive(&[grow(4096, 0), grow(4096, 1)].concat()).unwrap();
        if piece % 16 == 0 {
            peer.receive(&frame(PING, 0, 0, &[0; 8])).unwrap();
        }
    }
    // A window of one byte, again and again, is not a download.
    let dribble = (0..10_000).find_map(|_| {
        peer.streams[0].send_data(vec![0].into(), false);
        peer.written();
        peer.receive(&grow(1, 1)).err()
    });
    assert_eq!(dribble.unwrap().kind, H2Abuse::WindowUpdate);
}

#[test]
fn header_blocks_have_few_frames_and_few_bytes() {
    let begin = frame(HEADERS, END_STREAM, 1, &GET[..1]);
    let mut peer = Peer::new();
    peer.receive(&begin).unwrap();
    assert_eq!(peer.most(&frame(CONTINUATION, 0, 1, &[])), (5, H2Abuse::Continuation));
    let mut peer = Peer::new();
    peer.receive(&begin).unwrap();
    let large = frame(CONTINUATION, 0, 1, &[0; 16 * 1024]);
    assert_eq!(peer.most(&large), (3, H2Abuse::Continuation));
    // One block after the other is free of this charge.
    let mut peer = Peer::new();
    for stream in (1..200).step_by(2) {
        peer.receive(&frame(HEADERS, END_STREAM, stream, &GET[..1])).unwrap();
        assert!(peer.core.borrow().is_within_fields());
        for _ in 0..5 {
            peer.receive(&frame(CONTINUATION, 0, stream, &[])).unwrap();
        }
        peer.receive(&frame(CONTINUATION, END_HEADERS, stream, &GET[1..])).unwrap();
        assert!(!peer.core.borrow().is_within_fields());
    }
    assert_eq!(peer.streams.len(), 100);
}
