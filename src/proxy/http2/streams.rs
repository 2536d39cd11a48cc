//! The streams of a connection, from their opening until nobody holds them (RFC 9113 section 5.1).

use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::core::{Broken, Core, FIRST_WINDOW, code};
use super::untaken::Untaken;
use crate::framing::frames::RST_STREAM;
use crate::proxy::body::UploadFailure;
use crate::state::H2Abuse;

/// Streams that we reset are remembered, since frames of them may be on their way.
const RESETS: usize = 256;

/// What may still come on a stream that we reset: what the client sent before it heard of that.
#[derive(Debug)]
pub(super) struct Reset {
    id: u32,
    /// The client's window. It gets no more.
    window: i64,
    /// The client has ended its side.
    ended: bool,
}

impl Reset {
    /// Content has come, which nobody wants.
    pub(super) fn data(&mut self, bytes: usize, ends: bool) -> Result<(), Broken> {
        self.window -= bytes as i64;
        if self.ended {
            return Err(Broken::error(code::STREAM_CLOSED));
        }
        if self.window < 0 {
            return Err(Broken::error(code::FLOW_CONTROL_ERROR));
        }
        self.ended = ends;
        Ok(())
    }
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// Who holds it. It is kept until nobody does.
    holders: u8,
    /// What may be sent.
    pub(super) send_window: i64,
    /// What is to be sent as soon as windows allow it, and whether it is the last.
    pub(super) pending: Bytes,
    pub(super) pending_end: bool,
    /// What it was when it came: it is held as a whole.
    pub(super) piece: usize,
    /// It stands in line.
    pub(super) in_line: bool,
    pub(super) sent_head: bool,
    pub(super) send_ended: bool,
    /// Whoever sends, and waits.
    pub(super) sender: Option<Waker>,
    /// What may still come.
    pub(super) receive_window: i64,
    /// What has been taken of it since the client was last told.
    pub(super) taken: u32,
    /// The width of the window: what may still come, what is not taken, and what the client was not told
    /// that it was.
    pub(super) window: u32,
    /// What has come and was not taken.
    pub(super) untaken: Untaken,
    /// What is still to come of the length that was announced.
    pub(super) length_left: Option<u64>,
    pub(super) trailers: Option<Box<HeaderMap>>,
    /// Why what came last is not to be passed on, although the client may have an answer.
    pub(super) unfit: Option<UploadFailure>,
    pub(super) receive_ended: bool,
    /// Whoever receives, and waits.
    pub(super) receiver: Option<Waker>,
    /// Nobody wants what still comes.
    pub(super) discards: bool,
    /// The client waits for a word before it sends its body.
    pub(super) expects: bool,
    /// It carries another protocol.
    pub(super) is_socket: bool,
    /// Bytes of content that went on, either way.
    pub(super) moved: u64,
    /// Since when what waits on it has stood, and at what.
    pub(super) stands: Option<(Instant, u64)>,
    /// It was reset, by whomever.
    pub(super) failure: Option<UploadFailure>,
}

impl Stream {
    pub(super) fn is_closed(&self) -> bool {
        self.failure.is_some() || (self.send_ended && self.receive_ended)
    }

    /// Whether more may come, or wait to be taken.
    pub(super) fn is_uploading(&self) -> bool {
        let ended = self.receive_ended || self.discards || self.failure.is_some();
        !ended || !self.untaken.is_empty()
    }

    /// Wakes whoever waits for it.
    pub(super) fn wake(&mut self) {
        self.sender.take().into_iter().chain(self.receiver.take()).for_each(Waker::wake);
    }
}

impl Core {
    /// Whether so many streams are open that no more may be. What was closed by both sides counts as long
    /// as something of it waits to be taken: a tunnel whose backend does not read.
    pub(super) fn is_full(&self) -> bool {
        let most = self.limits.streams as usize;
        let waits = |stream: &Stream| stream.is_closed() && !stream.untaken.is_empty();
        let waiting = || self.streams.iter().filter(|(_, stream)| waits(stream)).count();
        self.streams.len() >= most && self.open.len() + waiting() >= most
    }

    /// Where an open stream is kept.
    pub(super) fn find(&self, id: u32) -> Option<usize> {
        let place = self.open.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.open[place].1)
    }

    /// A stream that we have reset lately.
    pub(super) fn find_reset(&mut self, id: u32) -> Option<&mut Reset> {
        self.resets.iter_mut().find(|reset| reset.id == id)
    }

    /// Opens the client's next stream.
    pub(super) fn open(&mut self, id: u32) -> usize {
        let key = self.streams.insert(Stream {
            id,
            holders: 0,
            send_window: self.first_send_window,
            pending: Bytes::new(),
            pending_end: false,
            piece: 0,
            in_line: false,
            sent_head: false,
            send_ended: false,
            sender: None,
            receive_window: i64::from(FIRST_WINDOW),
            taken: 0,
            window: FIRST_WINDOW,
            untaken: Untaken::default(),
            length_left: None,
            trailers: None,
            unfit: None,
            receive_ended: false,
            receiver: None,
            discards: false,
            expects: false,
            is_socket: false,
            moved: 0,
            stands: None,
            failure: None,
        });
        self.open.push((id, key));
        key
    }

    /// Somebody holds a stream from now on.
    pub(super) fn hold(&mut self, key: usize) {
        self.streams[key].holders += 1;
    }

    /// Somebody holds a stream no longer. What is left of it when nobody does is reset.
    pub(super) fn let_go(&mut self, key: usize) {
        let stream = &mut self.streams[key];
        stream.holders -= 1;
        if stream.holders > 0 {
            return;
        }
        if !stream.is_closed() {
            // RFC 9113 section 8.1: what was answered in full is declined without an error.
            let code = if stream.send_ended { code::NO_ERROR } else { code::CANCEL };
            self.reset(key, code, UploadFailure::Left);
        }
        self.streams.remove(key);
        self.wake_if_over();
    }

    /// Nobody reads any more what comes on a stream.
    pub(super) fn discard(&mut self, key: usize) {
        let stream = &mut self.streams[key];
        stream.discards = true;
        stream.receiver = None;
        let unread = stream.untaken.clear();
        self.credit(unread);
    }

    fn wake_if_over(&mut self) {
        if self.streams.is_empty() {
            self.wake();
        }
    }

    /// Resets a stream, if that is not over.
    pub(super) fn reset(&mut self, key: usize, code: u32, failure: UploadFailure) {
        let stream = &self.streams[key];
        if stream.is_closed() {
            return;
        }
        let (id, window, ended) = (stream.id, stream.receive_window, stream.receive_ended);
        self.note_reset(Reset { id, window, ended }, code);
        if matches!(code, code::CANCEL | code::INTERNAL_ERROR) {
            self.budgets.ended_stream();
        }
        self.fail(key, failure);
    }

    /// Resets a stream that is kept nowhere.
    pub(super) fn reset_unheld(&mut self, id: u32, code: u32) {
        self.note_reset(Reset { id, window: i64::from(FIRST_WINDOW), ended: false }, code);
    }

    fn note_reset(&mut self, reset: Reset, code: u32) {
        self.out.frame(RST_STREAM, 0, reset.id, &code.to_be_bytes());
        if self.resets.len() == RESETS {
            self.resets.pop_front();
        }
        self.resets.push_back(reset);
        self.wake();
    }

    /// Resets a stream for the client's mistake: a malformed request, among others (RFC 9113 section
    /// 5.4.2).
    pub(super) fn refuse(&mut self, key: usize, code: u32) -> Result<(), Broken> {
        self.reset(key, code, UploadFailure::Malformed);
        self.note_mistake()
    }

    /// Refuses a stream that is kept nowhere.
    pub(super) fn refuse_unheld(&mut self, id: u32, code: u32) -> Result<(), Broken> {
        self.reset_unheld(id, code);
        self.note_mistake()
    }

    fn note_mistake(&mut self) -> Result<(), Broken> {
        self.mistakes += 1;
        Ok(self.budgets.take(H2Abuse::MadeYouReset, 1.0)?)
    }

    /// A stream has come to an end that is none.
    pub(super) fn fail(&mut self, key: usize, failure: UploadFailure) {
        let stream = &mut self.streams[key];
        stream.failure = Some(failure);
        stream.pending = Bytes::new();
        stream.trailers = None;
        let unread = stream.untaken.clear();
        stream.wake();
        let (id, in_line) = (stream.id, std::mem::take(&mut stream.in_line));
        if in_line {
            self.line.retain(|waiting| *waiting != key);
        }
        self.credit(unread);
        self.forget(id);
    }

    /// Takes a stream out of those that are open, if it is no longer.
    pub(super) fn close_if_over(&mut self, key: usize) {
        let stream = &self.streams[key];
        if stream.is_closed() {
            self.forget(stream.id);
        }
    }

    fn forget(&mut self, id: u32) {
        if let Ok(place) = self.open.binary_search_by_key(&id, |(id, _)| *id) {
            self.open.remove(place);
        }
    }
}
