//! Connections that are opened before anybody needs them.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::{Lane, Opened};
use crate::upstream::Error;

impl<B> Lane<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Opens connections until so many lie unused, and gives their number then. One of HTTP/2 is as
    /// good as many. No more are opened than are kept, but one at least is, if there is none.
    ///
    /// # Errors
    /// Those of dialling, of the first connection that cannot be opened.
    pub async fn warm_up(self: &Rc<Self>, connections: usize) -> Result<usize, Error> {
        let wanted = connections.min(self.limit());
        loop {
            let _opening = self.opening.lock().await;
            let unused = self.unused();
            if unused >= wanted.max(1) {
                return Ok(unused);
            }
            let epoch = self.epoch.get();
            match Box::pin(self.dial()).await? {
                Opened::Http1(mut http1) => {
                    http1.lay_aside();
                    self.put_back(http1, epoch, Instant::now());
                }
                Opened::Http2(http2) => {
                    http2.lay_aside();
                    self.share(http2, epoch);
                }
            }
            // Where none is kept, to have opened one is all there is to do.
            if self.unused() <= unused {
                return Ok(unused);
            }
        }
    }

    /// Connections that lie unused.
    pub fn unused(&self) -> usize {
        let shared = self.http2.borrow().iter().any(|http2| http2.has_room());
        if shared { usize::MAX } else { self.idle.borrow().len() }
    }
}
