//! Writing an answer: its head, then its body as fast as the backend sends and the client takes it.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{io, mem};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderName, StatusCode};
use http_body::Body;
use smallvec::SmallVec;

use super::head::{Asked, COMMON_BYTES, Form, encode, may_have_body};
use super::link::Link;
use crate::framing::fields::{announced, chunk_size, last_chunk};
use crate::proxy::body::ResponseBody;
use crate::proxy::reply::Reply;
use crate::proxy::worker::Worker;

/// Up to here the kernel takes one copied piece faster than several where they lie.
const FLAT_BYTES: usize = 4096;

/// An answer that is being written.
#[derive(Debug)]
pub(super) struct Answer {
    /// As long as more of it is to come.
    body: Option<ResponseBody>,
    form: Form,
    /// The trailers that may follow chunks.
    announced: SmallVec<[HeaderName; 1]>,
    /// A piece of the body that is too large to be copied,
    data: Bytes,
    /// what it was when it came,
    piece: usize,
    /// and what stands behind it, if it is a chunk.
    end: &'static [u8],
    /// Nothing was missing.
    whole: bool,
    last: bool,
    /// It is another protocol's behind it.
    switches: bool,
}

impl Answer {
    /// Begins an answer. `last` is whether the connection is to end behind it in any case.
    pub(super) fn begin(
        link: &mut Link,
        Reply { head, body }: Reply,
        asked: Asked,
        last: bool,
        worker: &Worker,
    ) -> Self {
        let form = form_of(&body, asked);
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let last = last
            || !asked.keeps_open
            || form == Form::UntilClose
            || (!switches && head.headers.contains_key(CONNECTION));
        let has_body = form != Form::None && may_have_body(head.status, asked);
        let small = match form {
            Form::Length(length) if has_body && length <= FLAT_BYTES as u64 => length as usize,
            _ => 0,
        };
        let out = link.begin_answer(&worker.upstreams.spare);
        out.reserve(COMMON_BYTES + small);
        worker.with_date(|date| {
            encode((&head, body.request_id()), form, asked, last, date, out);
        });
        let announced = if form == Form::Chunked && asked.trailers {
            announced(&head.headers)
        } else {
            SmallVec::new()
        };
        worker.upstreams.spare.keep_head(head);
        Answer {
            body: has_body.then_some(body),
            form,
            announced,
            data: Bytes::new(),
            piece: 0,
            end: b"",
            whole: true,
            last,
            switches,
        }
    }

    /// Whether the connection ends behind it.
    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    /// Whether all of it has been written, once no more is to be written.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The piece of the body of which something has to be written: it is held as a whole, in bytes.
    pub(super) fn held(&self) -> usize {
        if self.data.is_empty() { 0 } else { self.piece }
    }

    /// Writes on. Ready when everything has been written, or as much as there is.
    ///
    /// # Errors
    /// The client cannot be written to.
    pub(super) fn poll(
        &mut self,
        link: &RefCell<Link>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            // Ahead of the write, so that what there is of the body goes with the head, and small
            // pieces go together.
            while self.body.is_some()
                && self.has_room()
                && link.borrow().unwritten() < FLAT_BYTES
                && self.take_in(link, cx).is_ready()
            {}
            let mut link = link.borrow_mut();
            if link.unwritten() == 0 && self.has_room() {
                let flushed = link.poll_flush(cx)?;
                return if self.body.is_some() { Poll::Pending } else { flushed.map(Ok) };
            }
            if self.last && self.whole && self.body.is_none() && !self.switches {
                link.end_with_this();
            }
            ready!(link.poll_write(cx, &mut self.data, &mut self.end))?;
        }
    }

    fn has_room(&self) -> bool {
        self.data.is_empty() && self.end.is_empty()
    }

    /// Asks the body for more.
    fn take_in(&mut self, link: &RefCell<Link>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(body) = &mut self.body else { return Poll::Ready(()) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let ended = body.is_end_stream();
        let out = link.borrow_mut();
        let out = &mut { out }.out;
        match frame {
            None => self.end(out),
            Some(Err(_)) => {
                self.whole = false;
                self.body = None;
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.add(data, ended, out),
                Err(frame) => {
                    if self.form == Form::Chunked {
                        last_chunk(out, frame.trailers_ref(), &self.announced);
                    }
                    self.body = None;
                }
            },
        }
        Poll::Ready(())
    }

    /// Takes in a piece of the body, and whether it is the last.
    fn add(&mut self, mut data: Bytes, ended: bool, out: &mut Vec<u8>) {
        let chunked = self.form == Form::Chunked && !data.is_empty();
        if let Form::Length(left) = &mut self.form {
            // More than was announced is no part of this answer.
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
        }
        if chunked {
            chunk_size(out, data.len());
            self.end = if ended { b"\r\n0\r\n\r\n" } else { b"\r\n" };
        }
        if data.len() <= FLAT_BYTES {
            out.extend_from_slice(&data);
            out.extend_from_slice(mem::take(&mut self.end));
        } else {
            self.piece = data.len();
            self.data = data;
        }
        match ended {
            true if chunked => self.body = None,
            true => self.end(out),
            false => {}
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        match self.form {
            Form::Chunked => last_chunk(out, None, &[]),
            Form::Length(left) => self.whole = left == 0,
            Form::None | Form::UntilClose => {}
        }
        self.body = None;
    }
}

fn form_of(body: &ResponseBody, asked: Asked) -> Form {
    if body.is_end_stream() {
        return Form::None;
    }
    match body.size_hint().exact() {
        Some(length) => Form::Length(length),
        None if asked.http10 => Form::UntilClose,
        None => Form::Chunked,
    }
}
