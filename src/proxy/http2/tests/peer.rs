//! A connection without a socket, and what it has written.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http_body::Body as _;
use tokio::time::Instant;

use crate::framing::frames::{
    ACK, END_HEADERS, END_STREAM, FrameHead, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::framing::hpack::encode;
use crate::proxy::body::UploadFailure;
use crate::proxy::http2::core::{Accepted, Broken, Core, Form, Limits};
use crate::proxy::http2::sides::{Body, Sender, Socket};
use crate::state::H2Abuse;

pub const LIMITS: Limits = Limits { streams: 128, max_header_bytes: 32 * 1024, max_headers: 100 };
pub const WHOLE: u8 = END_HEADERS | END_STREAM;
/// GET and POST for `http://a/`.
pub const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
pub const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];
/// CONNECT for a WebSocket there (RFC 8441 section 4).
pub const CONNECT: &[u8] = b"\x02\x07CONNECT\x00\x09:protocol\x09websocket\x86\x84\x41\x01a";

thread_local! {
    pub static NOW: Cell<Instant> = Cell::new(Instant::now());
}

/// A connection, and what it has written.
pub struct Peer {
    pub core: Rc<RefCell<Core>>,
    pub streams: Vec<Sender>,
    pub bodies: Vec<Body>,
    pub sockets: Vec<Socket>,
}

pub type Written = Vec<(u8, u8, u32, Vec<u8>)>;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = FrameHead { length: payload.len(), kind, flags, stream };
    [&head.bytes(), payload].concat()
}

impl Peer {
    /// After both sides have sent their settings.
    pub fn new() -> Peer {
        let core = Core::new(LIMITS, Rc::default(), || NOW.get());
        let core = Rc::new(RefCell::new(core));
        let mut peer = Peer { core, streams: vec![], bodies: vec![], sockets: vec![] };
        peer.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        peer.receive(&frame(SETTINGS, 0, 0, &[])).unwrap();
        let greeting = peer.written();
        let kinds: Vec<_> = greeting.iter().map(|frame| (frame.0, frame.1)).collect();
        assert_eq!(kinds, [(SETTINGS, 0), (WINDOW_UPDATE, 0), (SETTINGS, ACK)]);
        peer
    }

    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let verdict = self.core.borrow_mut().receive(bytes);
        let accepted = std::mem::take(&mut self.core.borrow_mut().accepted);
        for Accepted { key, form, .. } in accepted {
            self.streams.push(Sender::new(&self.core, key));
            match form {
                Form::None => {}
                Form::Body => self.bodies.push(Body::new(&self.core, key)),
                Form::Socket(it) => self.sockets.push(Socket::new(&self.core, key, it)),
            }
        }
        verdict
    }

    /// Writes out everything that can be, as far as windows go.
    pub fn written(&mut self) -> Written {
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
    pub fn resets(&mut self) -> Vec<(u32, u32)> {
        let reset = |frame: &(u8, u8, u32, Vec<u8>)| {
            let code = frame.3.first_chunk().map(|code| u32::from_be_bytes(*code));
            (frame.0 == RST_STREAM).then(|| (frame.2, code.unwrap()))
        };
        self.written().iter().filter_map(reset).collect()
    }

    /// How often this may come at once, and why no more often.
    pub fn most(&mut self, frame: &[u8]) -> (usize, H2Abuse) {
        for count in 0..100_000 {
            if let Err(broken) = self.receive(frame) {
                return (count, broken.kind);
            }
            self.written();
        }
        panic!("no end to {frame:?}");
    }

    pub fn ask(&mut self, stream: u32) {
        self.receive(&frame(HEADERS, WHOLE, stream, GET)).unwrap();
    }

    pub fn post(&mut self, stream: u32) {
        self.receive(&frame(HEADERS, END_HEADERS, stream, POST)).unwrap();
    }
}

pub fn head(sender: &Sender, ends: bool) {
    sender.send_head(ends, |out| encode::status(out, http::StatusCode::OK));
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

pub fn read(body: &mut Body) -> Option<Result<Vec<u8>, UploadFailure>> {
    match std::pin::Pin::new(body).poll_frame(&mut cx()) {
        Poll::Pending => None,
        Poll::Ready(None) => Some(Ok(Vec::new())),
        Poll::Ready(Some(frame)) => Some(
            frame.map(|frame| frame.into_data().map_or(b"trailers".to_vec(), |it| it.to_vec())),
        ),
    }
}
