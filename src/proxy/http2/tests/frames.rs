//! Frames against the form, split anyhow, and any at all.

use std::time::Duration;

use super::peer::{GET, NOW, POST, Peer, WHOLE, frame, read};
use crate::framing::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};
use crate::proxy::http2::core::code;
use crate::state::H2Abuse;

#[test]
fn what_is_against_the_form_ends_with_its_code() {
    for (bytes, code) in [
        (frame(PING, 0, 0, &[0; 7]), code::FRAME_SIZE_ERROR),
        (frame(RST_STREAM, 0, 1, &[0; 5]), code::FRAME_SIZE_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, &[0; 3]), code::FRAME_SIZE_ERROR),
        (frame(PRIORITY, 0, 1, &[0; 4]), code::FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 0, &[0; 7]), code::FRAME_SIZE_ERROR),
        (frame(SETTINGS, ACK, 0, &[0; 6]), code::FRAME_SIZE_ERROR),
        (frame(DATA, 0, 1, &[0; 16_385]), code::FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 64, 0, 0, 4, 128, 0, 0, 0]), {
            code::FLOW_CONTROL_ERROR
        }),
        (frame(HEADERS, WHOLE, 1, &[0x80]), code::COMPRESSION_ERROR),
        (frame(HEADERS, WHOLE, 2, GET), code::PROTOCOL_ERROR),
    ] {
        let broken = Peer::new().receive(&bytes).unwrap_err();
        assert_eq!((broken.kind, broken.code), (H2Abuse::Protocol, code), "{bytes:?}");
    }
}

#[test]
fn frames_are_the_same_however_they_are_split() {
    let mut random = fastrand::Rng::with_seed(5);
    let bytes = [
        frame(HEADERS, END_HEADERS, 1, POST),
        frame(DATA, 0, 1, &[1; 5000]),
        frame(HEADERS, WHOLE, 3, GET),
        frame(DATA, END_STREAM, 1, &[2; 10]),
    ]
    .concat();
    for _ in 0..200 {
        let mut peer = Peer::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.usize(1..=rest.len().min(3000)));
            peer.receive(piece).unwrap();
            rest = behind;
        }
        assert_eq!(peer.streams.len(), 2);
        let body = read(&mut peer.bodies[0]).unwrap().unwrap();
        assert_eq!(body, [vec![1; 5000], vec![2; 10]].concat());
        assert_eq!(read(&mut peer.bodies[0]), Some(Ok(vec![])));
    }
}

#[test]
fn any_frames_are_taken_or_refused() {
    let mut random = fastrand::Rng::with_seed(6);
    for _ in 0..3000 {
        let mut peer = Peer::new();
        for _ in 0..20 {
            let block = if random.bool() { GET } else { POST };
            let noise: Vec<u8> = (0..random.usize(..20)).map(|_| random.u8(..)).collect();
            let payload = if random.u8(..3) == 0 { &noise[..] } else { block };
            let kind = if random.bool() { HEADERS } else { random.u8(..11) };
            let bytes = frame(kind, random.u8(..), random.u32(..6), payload);
            if peer.receive(&bytes).is_err() {
                break;
            }
            match random.u8(..4) {
                0 => drop(peer.streams.pop()),
                1 => drop(peer.bodies.pop()),
                2 => peer.bodies.iter_mut().for_each(|body| drop(read(body))),
                _ => drop(peer.written()),
            }
        }
        peer.core.borrow_mut().abandon();
    }
}

#[test]
fn each_head_has_a_time_of_its_own() {
    let mut peer = Peer::new();
    let start = NOW.get();
    let mut since = None;
    let mut after = |seconds, bytes: &[u8]| {
        peer.receive(bytes).unwrap();
        let now = start + Duration::from_secs(seconds);
        since = peer.core.borrow_mut().head_since(since, || now);
        since.map(|since| (since - start).as_secs())
    };
    let [first, second] = [1, 3].map(|stream| frame(HEADERS, WHOLE, stream, GET));
    assert_eq!(after(1, &first[..10]), Some(1));
    assert_eq!(after(2, &first[10..11]), Some(1), "it is the same");
    assert_eq!(after(3, &[&first[11..], &second[..10]].concat()), Some(3), "it is another");
    assert_eq!(after(4, &second[10..11]), Some(3));
    assert_eq!(after(5, &second[11..]), None);
}
