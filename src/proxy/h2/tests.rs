//! What the meter takes and refuses, by frames.

use std::time::Duration;

use super::*;
use crate::framing::frames::{PADDED, WITH_PRIORITY};

const LIMITS: MeterLimits = MeterLimits { streams: 128, max_header_bytes: 32 * 1024 };

struct Connection {
    meter: Meter,
    now: Instant,
}

impl Connection {
    fn new() -> Connection {
        let now = Instant::now();
        let mut meter = Meter::new(LIMITS, now);
        meter.received(&[0; 24], || now).unwrap();
        meter.received(&frame(SETTINGS, 0, 0, &[]), || now).unwrap();
        Connection { meter, now }
    }

    fn receive(&mut self, frame: &[u8]) -> Result<(), H2Abuse> {
        self.meter.received(frame, || self.now)
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), H2Abuse> {
        self.meter.sent(frame, || self.now)
    }

    /// How often this may come at once, and why no more often.
    fn most(&mut self, frame: &[u8]) -> (usize, H2Abuse) {
        for count in 0..100_000 {
            if let Err(abuse) = self.receive(frame) {
                return (count, abuse);
            }
        }
        panic!("no end to {frame:?}");
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[test]
fn floods_end_by_kind() {
    for (bytes, most, kind) in [
        (frame(RST_STREAM, 0, 1, &[0; 4]), 256, H2Abuse::RapidReset),
        (frame(SETTINGS, 0, 0, &[]), 99, H2Abuse::Settings),
        (frame(SETTINGS, 0, 0, &[0; 600]), 9, H2Abuse::Settings),
        (frame(PING, 0, 0, &[0; 8]), 100, H2Abuse::Ping),
        (frame(PRIORITY, 0, 1, &[0; 5]), 500, H2Abuse::Priority),
        (frame(DATA, 0, 1, &[]), 50, H2Abuse::EmptyData),
        (frame(HEADERS, END_HEADERS, 1, &[]), 20, H2Abuse::EmptyHeaders),
        (frame(WINDOW_UPDATE, 0, 0, &[0; 4]), 1000, H2Abuse::WindowUpdate),
        (frame(0x42, 0, 0, &[0; 4]), 500, H2Abuse::UnknownFrames),
    ] {
        assert_eq!(Connection::new().most(&bytes), (most, kind));
    }
}

#[test]
fn data_that_ends_or_holds_something_is_free() {
    let mut connection = Connection::new();
    for _ in 0..10_000 {
        connection.receive(&frame(DATA, END_STREAM, 1, &[])).unwrap();
        connection.receive(&frame(DATA, 0, 1, &[1])).unwrap();
    }
}

#[test]
fn streams_that_are_answered_are_free() {
    let mut connection = Connection::new();
    for stream in (1..100_000).step_by(2) {
        connection.receive(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x82])).unwrap();
        connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88])).unwrap();
    }
}

#[test]
fn streams_that_are_not_answered_run_out() {
    let mut connection = Connection::new();
    let opened = (1..).step_by(2).take_while(|stream| {
        connection.receive(&frame(HEADERS, END_HEADERS, *stream, &[0x82])).is_ok()
    });
    assert_eq!(opened.count(), 200 + 2 * 128);
}

#[test]
fn answers_and_time_pay_for_resets() {
    let mut connection = Connection::new();
    let reset = frame(RST_STREAM, 0, 1, &[0; 4]);
    connection.most(&reset);
    connection.send(&frame(HEADERS, END_HEADERS, 1, &[0x88])).unwrap();
    assert_eq!(connection.most(&reset).0, 1);
    connection.now += Duration::from_secs(2);
    assert_eq!(connection.most(&reset).0, 60);
}

#[test]
fn a_download_pays_for_window_updates_and_pings() {
    let mut connection = Connection::new();
    // Two updates for each 4 KiB read, and a ping in each round trip of 64 KiB.
    for piece in 0..100_000 {
        connection.send(&frame(DATA, 0, 1, &[0; 4096])).unwrap();
        connection.receive(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 16, 0])).unwrap();
        connection.receive(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 16, 0])).unwrap();
        if piece % 16 == 0 {
            connection.receive(&frame(PING, 0, 0, &[0; 8])).unwrap();
        }
    }
    // A window of one byte, again and again, is not a download.
    let dribble = (0..10_000).find_map(|_| {
        connection.send(&frame(DATA, 0, 1, &[0])).unwrap();
        connection.receive(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).err()
    });
    assert_eq!(dribble, Some(H2Abuse::WindowUpdate));
}

#[test]
fn only_resets_for_the_clients_mistakes_count() {
    let reset = |code: u32| frame(RST_STREAM, 0, 1, &code.to_be_bytes());
    for (code, most) in [(PROTOCOL_ERROR, Some(100)), (FLOW_CONTROL_ERROR, Some(100))] {
        let mut connection = Connection::new();
        let count = (0..10_000).find(|_| connection.send(&reset(code)).is_err());
        assert_eq!(count, most, "{code}");
    }
    let mut connection = Connection::new();
    for code in [NO_ERROR, REFUSED_STREAM, 2, 8] {
        for _ in 0..10_000 {
            connection.send(&reset(code)).unwrap();
        }
    }
}

#[test]
fn header_blocks_have_few_frames_and_few_bytes() {
    let begin = frame(HEADERS, 0, 1, &[0x82]);
    let mut connection = Connection::new();
    connection.receive(&begin).unwrap();
    let small = frame(CONTINUATION, 0, 1, &[]);
    assert_eq!(connection.most(&small), (5, H2Abuse::Continuation));
    let mut connection = Connection::new();
    connection.receive(&begin).unwrap();
    let large = frame(CONTINUATION, 0, 1, &[0; 16 * 1024]);
    assert_eq!(connection.most(&large), (3, H2Abuse::Continuation));
    // One block after the other is free of this charge.
    let mut connection = Connection::new();
    for _ in 0..1000 {
        connection.receive(&begin).unwrap();
        for _ in 0..5 {
            connection.receive(&small).unwrap();
        }
        connection.receive(&frame(CONTINUATION, END_HEADERS, 1, &[])).unwrap();
    }
}

#[test]
fn blocks_are_followed_through_padding_and_frames() {
    let good = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let ends = |bytes: &[u8]| {
        let mut connection = Connection::new();
        let verdict = connection.receive(bytes);
        verdict.map_err(|_| u32::from(connection.meter.farewell().unwrap()[16]))
    };
    let padded = |padding: u8, block: &[u8]| {
        let padding = vec![0; usize::from(padding)];
        [&[padding.len() as u8][..], &[0, 0, 0, 0, 7], block, &padding].concat()
    };
    for (bytes, code) in [
        (frame(HEADERS, END_HEADERS, 1, &good), Ok(())),
        (frame(HEADERS, END_HEADERS, 1, &good[..5]), Err(COMPRESSION_ERROR)),
        (frame(HEADERS, 0, 1, &good[..5]), Ok(())),
        (frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 1, &padded(200, &good)), Ok(())),
        (frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 1, &padded(9, &good[..5])), {
            Err(COMPRESSION_ERROR)
        }),
        (
            [
                frame(HEADERS, 0, 1, &good[..4]),
                frame(CONTINUATION, 0, 1, &[]),
                frame(CONTINUATION, END_HEADERS, 1, &good[4..]),
            ]
            .concat(),
            Ok(()),
        ),
        (
            [frame(HEADERS, 0, 1, &good[..5]), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            Err(COMPRESSION_ERROR),
        ),
        // What is wrong with the frame itself h2 refuses.
        (frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x80]), Ok(())),
        (frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, &[0x80]), Ok(())),
        (frame(HEADERS, END_HEADERS, 1, &[0x80; 17_000]), Ok(())),
        // A second block with an end is of trailers.
        (
            [
                frame(HEADERS, END_HEADERS, 1, &good),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xbe]),
            ]
            .concat(),
            Err(PROTOCOL_ERROR),
        ),
    ] {
        assert_eq!(ends(&bytes), code, "{bytes:02x?}");
    }
}

#[test]
fn where_fields_are_still_to_come() {
    let mut connection = Connection::new();
    assert!(!connection.meter.within_fields());
    connection.receive(&frame(HEADERS, 0, 1, &[0x82])).unwrap();
    assert!(connection.meter.within_fields());
    connection.receive(&frame(CONTINUATION, END_HEADERS, 1, &[0x86])).unwrap();
    assert!(!connection.meter.within_fields());
}

#[test]
fn what_h2_says_to_the_client_tells_the_kind() {
    for (why, kind) in [
        ("header_list_way_too_large", H2Abuse::HeaderList),
        ("too_many_data_frames", H2Abuse::EmptyData),
    ] {
        let payload = [&[0, 0, 0, 1, 0, 0, 0, 11][..], why.as_bytes()].concat();
        let mut connection = Connection::new();
        connection.send(&frame(GOAWAY, 0, 0, &payload)).unwrap();
        assert_eq!(connection.meter.ended(), Some(kind));
    }
    let mut connection = Connection::new();
    connection.send(&frame(GOAWAY, 0, 0, &[0; 8])).unwrap();
    assert_eq!(connection.meter.ended(), None);
}

#[test]
fn a_farewell_stands_between_frames() {
    let mut connection = Connection::new();
    connection.receive(&frame(HEADERS, END_HEADERS, 5, &[0x82])).unwrap();
    let data = frame(DATA, 0, 5, &[0; 100]);
    connection.send(&data[..50]).unwrap();
    assert_eq!(connection.meter.farewell(), None);
    connection.send(&data[50..]).unwrap();
    let farewell = connection.meter.farewell().unwrap();
    assert_eq!(farewell.to_vec(), frame(GOAWAY, 0, 0, &[0, 0, 0, 5, 0, 0, 0, 11]));
}

#[test]
fn what_is_against_the_form_ends_with_its_code() {
    for (bytes, code) in [
        (frame(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        (frame(RST_STREAM, 0, 1, &[0; 5]), FRAME_SIZE_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, &[0; 3]), FRAME_SIZE_ERROR),
        (frame(PRIORITY, 0, 1, &[0; 4]), FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        (frame(SETTINGS, ACK, 0, &[0; 6]), FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 64, 0, 0, 4, 128, 0, 0, 0]), FLOW_CONTROL_ERROR),
    ] {
        let mut connection = Connection::new();
        assert_eq!(connection.receive(&bytes), Err(H2Abuse::Protocol));
        let farewell = connection.meter.farewell().unwrap();
        assert_eq!(farewell[13..], code.to_be_bytes(), "{bytes:?}");
    }
    let mut connection = Connection::new();
    connection.receive(&frame(SETTINGS, 0, 0, &[0, 4, 127, 255, 255, 255])).unwrap();
    connection.receive(&frame(SETTINGS, ACK, 0, &[])).unwrap();
}
