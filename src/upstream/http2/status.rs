//! What the driver of a connection publishes, its reader counts, and the lane asks.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use slab::Slab;

use super::MAX_STREAMS;
use super::inflow::Inflow;
use crate::framing::Violation;
use crate::upstream::framing::MAX_INTERIM;

/// Heads that may come for each stream: interim ones, and the answer's.
const HEADS: u32 = MAX_INTERIM as u32 + 1;
/// Streams that were given up and whose heads may still be on their way, generously.
const LEFT: usize = 32;
/// Small pieces that may lie untaken before they are drawn together. For each there is an entry in a
/// queue, and the whole read that it came with.
const SMALL_PIECES: u32 = 512;
/// h2 ends a connection at the 101st piece that is empty and not the last of its answer.
const EMPTY_PIECES: u32 = 50;

/// What has come from the backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heard {
    #[default]
    Nothing,
    /// An answer to a ping, room for an upload.
    Something,
    /// Part of an answer.
    Words,
}

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Status {
    /// For further streams, as long as there may be any.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// h2 queues without bound above the peer's limit, so we never go beyond it, nor beyond ours.
    max_streams: Cell<usize>,
    streams: Cell<usize>,
    /// How many may still come. h2 keeps each one until the request's future is polled, without end.
    heads: Cell<u32>,
    small_pieces: Cell<u32>,
    empty_pieces: Cell<u32>,
    served: Cell<bool>,
    idle_since: Cell<Instant>,
    /// What was read since it was last asked.
    heard: Cell<Heard>,
    /// How many streams were open when the connection ended.
    streams_at_end: Cell<Option<usize>>,
    /// A ping was left without answer.
    silent: Cell<bool>,
    /// The answers that are being read.
    answers: RefCell<Slab<Rc<RefCell<Inflow>>>>,
}

impl Status {
    pub(super) fn new() -> Rc<Status> {
        Rc::new(Status {
            sender: RefCell::default(),
            max_streams: Cell::new(0),
            streams: Cell::new(0),
            heads: Cell::new(0),
            small_pieces: Cell::new(0),
            empty_pieces: Cell::new(0),
            served: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            heard: Cell::new(Heard::Nothing),
            streams_at_end: Cell::new(None),
            silent: Cell::new(false),
            answers: RefCell::default(),
        })
    }

    /// The backend has told that it takes so many streams.
    pub(super) fn begin(&self, sender: SendRequest<Bytes>, streams: usize) {
        *self.sender.borrow_mut() = Some(sender);
        self.allow(streams);
        self.idle_since.set(Instant::now());
    }

    /// The backend takes so many streams.
    pub(super) fn allow(&self, streams: usize) {
        self.max_streams.set(streams.min(MAX_STREAMS));
    }

    /// No further stream is opened: the connection closes when those that there are are over.
    pub(super) fn retire(&self) {
        drop(self.sender.take());
    }

    /// Looks whether further streams can be opened.
    pub(super) fn review(&self, cx: &mut Context<'_>) {
        let mut sender = self.sender.borrow_mut();
        let worn = self.empty_pieces.get() > EMPTY_PIECES || self.max_streams.get() == 0;
        // It is never pending, since each request has a sender of its own.
        let ready =
            |sender: &mut SendRequest<Bytes>| matches!(sender.poll_ready(cx), Poll::Ready(Ok(())));
        if worn || !sender.as_mut().is_some_and(ready) {
            *sender = None;
        }
    }

    pub(super) fn takes_streams(&self) -> bool {
        self.sender.borrow().is_some()
    }

    pub(super) fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.sender.borrow().clone()
    }

    pub(super) fn has_room(&self) -> bool {
        self.takes_streams() && self.streams.get() < self.max_streams.get()
    }

    pub(super) fn has_streams(&self) -> bool {
        self.streams.get() > 0
    }

    /// The connection is over. Its streams learn of it one after another, and go.
    pub(super) fn note_end(&self) {
        self.streams_at_end.set(Some(self.streams.get()));
    }

    /// Whether no more than one stream is open, or was when the connection ended.
    pub(super) fn is_alone(&self) -> bool {
        self.streams_at_end.get().unwrap_or(self.streams.get()) == 1
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        (!self.has_streams()).then(|| self.idle_since.get())
    }

    /// It carries a request, or will have lain unused before it does; whether it had before.
    pub(super) fn serve(&self) -> bool {
        self.served.replace(true)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent.get()
    }

    pub(super) fn fall_silent(&self) {
        self.silent.set(true);
    }

    /// Something has come.
    pub(super) fn note_heard(&self) {
        self.heard.set(self.heard.get().max(Heard::Something));
    }

    /// Something has come on a stream.
    pub(super) fn note_words(&self) {
        self.heard.set(Heard::Words);
    }

    /// Whether something has come on a stream.
    pub(super) fn has_spoken(&self) -> bool {
        self.heard.get() == Heard::Words
    }

    /// What has come since this was last asked.
    pub(super) fn take_heard(&self) -> Heard {
        self.heard.take()
    }

    /// A head has come.
    pub(super) fn note_head(&self) -> io::Result<()> {
        let refused =
            || io::Error::new(io::ErrorKind::InvalidData, Violation::TooManyInterim.reason());
        self.heads.set(self.heads.get().checked_sub(1).ok_or_else(refused)?);
        Ok(())
    }

    /// A small piece of an answer has come.
    pub(super) fn note_small(&self) {
        self.small_pieces.set(self.small_pieces.get() + 1);
    }

    /// A piece of an answer has come that h2 may count as empty.
    pub(super) fn note_empty(&self) {
        self.empty_pieces.set(self.empty_pieces.get() + 1);
    }

    /// Whether so many small pieces have come that they are to be drawn together before more is read.
    pub(super) fn is_crowded(&self) -> bool {
        self.small_pieces.get() >= SMALL_PIECES
    }

    /// Draws together what nobody has taken yet, if it is in too many pieces.
    pub(super) fn gather(&self) {
        if self.is_crowded() {
            self.small_pieces.set(0);
            for (_, inflow) in &*self.answers.borrow() {
                inflow.borrow_mut().gather();
            }
        }
    }
}

/// A stream's place among those of its connection, for as long as either half of it lasts.
#[derive(Debug)]
pub(super) struct Place(Rc<Status>);

impl Place {
    pub(super) fn take(status: &Rc<Status>) -> Rc<Place> {
        let streams = status.streams.get() + 1;
        status.streams.set(streams);
        let most = HEADS.saturating_mul(u32::try_from(streams + LEFT).unwrap_or(u32::MAX));
        status.heads.set(status.heads.get().saturating_add(HEADS).min(most));
        Rc::new(Place(Rc::clone(status)))
    }

    pub(super) fn status(&self) -> &Status {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0 {
            self.0.idle_since.set(Instant::now());
        }
    }
}

/// An answer that is read.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) inflow: Rc<RefCell<Inflow>>,
    key: usize,
    place: Rc<Place>,
}

impl Registered {
    pub(super) fn new(inflow: Inflow, place: &Rc<Place>) -> Registered {
        let inflow = Rc::new(RefCell::new(inflow));
        let key = place.0.answers.borrow_mut().insert(Rc::clone(&inflow));
        Registered { inflow, key, place: Rc::clone(place) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.place.0.answers.borrow_mut().remove(self.key);
    }
}
