//! Connections that are opened before anybody needs them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Connection, Kind, Lane, Opened};
use crate::upstream::Error;

/// Between a connection that could not be opened and the next try.
const REST: Duration = Duration::from_secs(5);

impl Lane {
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

    /// Whether there are fewer unused connections than the pool wants on this worker, and it is time to
    /// do something about it. Then one is to be opened by [`top_up`](Self::top_up).
    pub fn is_short(&self, now: Instant) -> bool {
        let rests = self.warm_from.get().is_some_and(|from| now < from);
        !rests && self.unused() < self.share_of_min_idle()
    }

    /// Opens a connection more, should there still be too few after `delay`. After a failure there is a
    /// rest.
    pub async fn top_up(self: &Rc<Self>, delay: Duration) {
        self.warm_from.set(Some(Instant::now() + delay + REST));
        tokio::time::sleep(delay).await;
        let wanted = self.unused().saturating_add(1).min(self.share_of_min_idle());
        match self.warm_up(wanted).await {
            Ok(_) => self.warm_from.set(None),
            Err(error) => {
                tracing::debug!(backend = &*self.backend.label, %error, "cannot open ahead");
            }
        }
    }

    /// Takes one of the unused connections that the pool wants and that has rested for so long, so that
    /// something is asked on it.
    pub fn take_rested(self: &Rc<Self>, now: Instant, rest: Duration) -> Option<Connection> {
        let epoch = self.epoch.get();
        let has_rested = |since: Instant| now.saturating_duration_since(since) >= rest;
        let shared = self.http2.borrow().iter().find_map(|http2| {
            http2.idle_since().is_some_and(has_rested).then(|| http2.stream())?
        });
        if let Some(stream) = shared {
            return Some(self.taken(Kind::Http2(stream), epoch, Duration::ZERO));
        }
        let idle = {
            let mut idle = self.idle.borrow_mut();
            let surplus = idle.len().saturating_sub(self.share_of_min_idle());
            let at = (surplus..idle.len()).find(|&at| has_rested(idle[at].since))?;
            idle.remove(at)
        };
        self.cells().idle_out.add(1);
        let age = now.saturating_duration_since(idle.since);
        Some(self.taken(Kind::Http1(idle.connection), epoch, age))
    }

    /// What of `min_idle` falls to this worker.
    fn share_of_min_idle(&self) -> usize {
        let min_idle = self.settings.borrow().min_idle;
        let one_more = self.worker.index() < min_idle % self.workers;
        (min_idle / self.workers + usize::from(one_more)).min(self.limit())
    }
}
