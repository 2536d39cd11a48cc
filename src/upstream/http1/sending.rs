//! Writing a request: its head, then its body as fast as the client sends and the backend takes it.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderName;
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use super::head::encode;
use crate::framing::fields::{announced, chunk_size, last_chunk};
use crate::upstream::Error;
use crate::upstream::dial::UpstreamStream;
use crate::upstream::request::{Framing, RequestHead};

/// A request that is being written.
#[derive(Debug)]
pub(super) struct Sending<B> {
    /// What frames the body: the head, the sizes of chunks. Written up to `at`.
    framing: Vec<u8>,
    at: usize,
    /// Goes behind it,
    data: Bytes,
    /// and this behind that, if it is a chunk.
    chunk_end: &'static [u8],
    body: Option<B>,
    /// The end of a body of known length, until it is sure that nothing follows.
    last: Bytes,
    /// The trailers that may follow chunks.
    announced: SmallVec<[HeaderName; 1]>,
    form: Framing,
    /// What the body still owes of its announced length, in bytes.
    owed: u64,
}

impl<B> Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// Written by way of `framing`, which is empty.
    pub(super) fn new(head: &RequestHead, body: B, mut framing: Vec<u8>) -> Self {
        let form = Framing::of(&body);
        encode(head, form, &mut framing);
        let owed = if let Framing::Length(length) = form { length } else { 0 };
        let body = (form != Framing::None).then_some(body);
        Sending {
            framing,
            at: 0,
            data: Bytes::new(),
            body,
            last: Bytes::new(),
            announced: if form == Framing::Chunked {
                announced(&head.headers)
            } else {
                SmallVec::new()
            },
            form,
            chunk_end: b"",
            owed,
        }
    }

    /// Gives the buffer back for the next request, once everything has been written.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        self.at = 0;
        std::mem::take(&mut self.framing)
    }

    /// Writes on. Ready when everything has been written.
    ///
    /// # Errors
    /// [`Error::RequestBody`] if the body fails. A failed write shows when the answer is read, and
    /// not here: see [`Socket`](crate::upstream::dial::Socket).
    pub(super) fn poll(
        &mut self,
        stream: &mut UpstreamStream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        loop {
            // Ahead of the write, so that the first bytes of the body go with the head.
            if self.is_written_but_framing() && self.body.is_some() && self.take_in(cx)?.is_ready()
            {
                // An empty frame brings nothing to write, and there may be another.
                if self.at == self.framing.len() && self.is_written_but_framing() {
                    continue;
                }
            }
            if self.at == self.framing.len() && self.is_written_but_framing() {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                return match (&self.body, flushed) {
                    (Some(_), _) | (None, Poll::Pending) => Poll::Pending,
                    (None, Poll::Ready(_)) => Poll::Ready(Ok(())),
                };
            }
            ready!(self.write(stream, cx));
        }
    }

    fn is_written_but_framing(&self) -> bool {
        self.data.is_empty() && self.chunk_end.is_empty()
    }

    /// Asks the body for more.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Error> {
        let Some(body) = &mut self.body else { return Ok(Poll::Ready(())) };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else { return Ok(Poll::Pending) };
        if self.at == self.framing.len() {
            self.framing.clear();
            self.at = 0;
        }
        match frame.transpose().map_err(|_| Error::RequestBody)? {
            None => self.end(None)?,
            Some(frame) => match frame.into_data() {
                Ok(data) => self.add(data)?,
                Err(frame) => self.end(frame.trailers_ref())?,
            },
        }
        Ok(Poll::Ready(()))
    }

    fn add(&mut self, data: Bytes) -> Result<(), Error> {
        match self.form {
            Framing::Chunked => {
                // An empty chunk would be the last one.
                if !data.is_empty() {
                    chunk_size(&mut self.framing, data.len());
                    self.data = data;
                    self.chunk_end = b"\r\n";
                }
            }
            _ => {
                self.owed = self.owed.checked_sub(data.len() as u64).ok_or(Error::RequestBody)?;
                if self.body.as_ref().is_some_and(B::is_end_stream) {
                    self.last = data;
                    return self.end(None);
                }
                // With its last byte the request is whole, and the backend acts on it: not before
                // the client has really ended it.
                if self.owed > 0 {
                    self.data = data;
                } else if !data.is_empty() {
                    self.last = data;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), Error> {
        self.body = None;
        match self.form {
            Framing::Chunked => last_chunk(&mut self.framing, trailers, &self.announced),
            _ if self.owed > 0 => return Err(Error::RequestBody),
            _ => self.data = std::mem::take(&mut self.last),
        }
        Ok(())
    }

    fn write(&mut self, stream: &mut UpstreamStream, cx: &mut Context<'_>) -> Poll<()> {
        let stream = Pin::new(stream);
        let framing = &self.framing[self.at..];
        let result = if self.is_written_but_framing() {
            stream.poll_write(cx, framing)
        } else {
            let slices = [framing, &self.data, self.chunk_end].map(IoSlice::new);
            stream.poll_write_vectored(cx, &slices)
        };
        // TLS gave up. What is left goes nowhere, and the answer tells.
        let mut written = ready!(result).unwrap_or(usize::MAX);
        let mut take = |length: usize| {
            let taken = written.min(length);
            written -= taken;
            taken
        };
        self.at += take(framing.len());
        self.data.advance(take(self.data.len()));
        if self.data.is_empty() {
            // An empty rest would still hold the buffer that the client's bytes were read into.
            self.data = Bytes::new();
        }
        self.chunk_end = &self.chunk_end[take(self.chunk_end.len())..];
        Poll::Ready(())
    }
}
