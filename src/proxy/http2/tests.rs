//! What a connection makes of frames, without a socket.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http_body::Body as _;

use super::core::{CONNECTION_WINDOW, FIRST_WINDOW, STREAM_WINDOW};
use super::*;
use crate::framing::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FrameHead, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::framing::hpack::encode;
use crate::proxy::body::UploadFailure;

const LIMITS: Limits = Limits { streams: 128, max_header_bytes: 32 * 1024 };
const WHOLE: u8 = END_HEADERS | END_STREAM;
/// GET and POST for `http://a/`.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];

thread_local! {
    static NOW: Cell<Instant> = Cell::new(Instant::now());
}

/// A connection, and what it has written.
struct Peer {
    core: Rc<RefCell<Core>>,
    streams: Vec<Sender>,
    bodies: Vec<Body>,
}

type Written = Vec<(u8, u8, u32, Vec<u8>)>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = FrameHead { length: payload.len(), kind, flags, stream };
    [&head.bytes(), payload].concat()
}

impl Peer {
    /// After both sides have sent their settings.
    fn new() -> Peer {
        let core = Core::new(LIMITS, Rc::default(), || NOW.get());
        let mut peer = Peer { core: Rc::new(RefCell::new(core)), streams: vec![], bodies: vec![] };
        peer.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        peer.receive(&frame(SETTINGS, 0, 0, &[])).unwrap();
        let greeting = peer.written();
        let kinds: Vec<_> = greeting.iter().map(|frame| (frame.0, frame.1)).collect();
        assert_eq!(kinds, [(SETTINGS, 0), (WINDOW_UPDATE, 0), (SETTINGS, ACK)]);
        peer
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let verdict = self.core.borrow_mut().receive(bytes);
        let accepted = std::mem::take(&mut self.core.borrow_mut().accepted);
        for Accepted { key, form, .. } in accepted {
            self.streams.push(Sender::new(&self.core, key));
            if form == Form::Body {
                self.bodies.push(Body::new(&self.core, key));
            }
        }
        verdict
    }

    /// Writes out everything that can be, as far as windows go.
    fn written(&mut self) -> Written {
        let core = &mut *self.core.borrow_mut();
        let mut bytes = Vec::new();
        loop {
            core.fill();
            let all: Vec<u8> = core.out.pieces().iter().flat_map(|piece| piece.to_vec()).collect();
            core.out.advance(all.len());
            if all.is_empty() {
                break;
            }
            bytes.extend(all);
        }
        let (mut frames, mut rest) = (Vec::new(), &bytes[..]);
        while let Some(head) = FrameHead::read(rest) {
            let (payload, behind) = rest[FrameHead::BYTES..].split_at(head.length);
            frames.push((head.kind, head.flags, head.stream, payload.to_vec()));
            rest = behind;
        }
        assert!(rest.is_empty());
        frames
    }

    /// The codes of streams that were reset since the last look.
    fn resets(&mut self) -> Vec<(u32, u32)> {
        let reset = |frame: &(u8, u8, u32, Vec<u8>)| {
            let code = frame.3.first_chunk().map(|code| u32::from_be_bytes(*code));
            (frame.0 == RST_STREAM).then(|| (frame.2, code.unwrap()))
        };
        self.written().iter().filter_map(reset).collect()
    }

    /// How often this may come at once, and why no more often.
    fn most(&mut self, frame: &[u8]) -> (usize, H2Abuse) {
        for count in 0..100_000 {
            if let Err(broken) = self.receive(frame) {
                return (count, broken.kind);
            }
            self.written();
        }
        panic!("no end to {frame:?}");
    }

    fn ask(&mut self, stream: u32) {
        self.receive(&frame(HEADERS, WHOLE, stream, GET)).unwrap();
    }

    fn post(&mut self, stream: u32) {
        self.receive(&frame(HEADERS, END_HEADERS, stream, POST)).unwrap();
    }
}

fn head(sender: &Sender, ends: bool) {
    sender.send_head(ends, |out| encode::status(out, http::StatusCode::OK));
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn read(body: &mut Body) -> Option<Result<Vec<u8>, UploadFailure>> {
    match std::pin::Pin::new(body).poll_frame(&mut cx()) {
        Poll::Pending => None,
        Poll::Ready(None) => Some(Ok(Vec::new())),
        Poll::Ready(Some(frame)) => Some(
            frame.map(|frame| frame.into_data().map_or(b"trailers".to_vec(), |it| it.to_vec())),
        ),
    }
}

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
    let grown = |stream| -> u32 {
        let of_stream =
            updates.iter().filter(|frame| frame.0 == WINDOW_UPDATE && frame.2 == stream);
        of_stream.map(|frame| u32::from_be_bytes(*frame.3.first_chunk().unwrap())).sum()
    };
    assert_eq!(grown(1), received as u32 / (STREAM_WINDOW / 2) * (STREAM_WINDOW / 2));
    assert_eq!(grown(0), received as u32 / (CONNECTION_WINDOW / 2) * (CONNECTION_WINDOW / 2));
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
