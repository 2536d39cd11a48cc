//! What one worker has towards one backend.

mod connection;
mod failure;
mod idle;
mod lease;
mod upgrade;
mod warm;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub use self::connection::Connection;
use self::connection::Kind;
use self::failure::{DialFailure, DialFailureKind};
pub use self::lease::Lease;
pub use self::upgrade::UpgradeAnswer;
use super::dial::{UpstreamStream, dial};
use super::http1::Http1;
use super::http2::Http2;
use super::{Error, Spare};
use crate::state::pool::{Protocol, UpstreamSettings};
use crate::state::{Backend, Files, WorkerId};

/// The connections of one worker to one backend.
#[derive(Debug)]
pub struct Lane {
    backend: Arc<Backend>,
    worker: WorkerId,
    workers: usize,
    files: Arc<Files>,
    spare: Rc<Spare>,
    settings: RefCell<Arc<UpstreamSettings>>,
    /// Last in, first out: the warmest connection serves next and the surplus grows old.
    idle: RefCell<Vec<Idle>>,
    http2: RefCell<Vec<Http2>>,
    /// Connections of an earlier epoch are not used again.
    epoch: Cell<u32>,
    /// What ALPN settled on, once it is known.
    speaks_h2: Cell<Option<bool>>,
    /// Held while an HTTP/2 connection is being opened, so that a burst opens one and not many.
    opening: tokio::sync::Mutex<()>,
    dials: Cell<u64>,
    last_failure: RefCell<Option<DialFailure>>,
    /// For how long an unused connection is good: what the pool allows, or less by what was learned.
    keep_for: Cell<Duration>,
    /// What the backend last said about that, and when it was passed on.
    announced: Cell<Option<(Duration, Instant)>>,
    /// Before this, no connection is opened ahead of need.
    warm_from: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct Idle {
    connection: Http1,
    since: Instant,
    /// When it was last seen open.
    seen: Instant,
}

/// A connection that nobody has used.
#[derive(Debug)]
enum Opened {
    Http1(Http1),
    Http2(Http2),
}

impl Lane {
    pub(super) fn new(
        backend: Arc<Backend>,
        settings: Arc<UpstreamSettings>,
        spare: Rc<Spare>,
        (worker, workers): (WorkerId, usize),
        files: Arc<Files>,
    ) -> Self {
        Lane {
            keep_for: Cell::new(settings.keepalive_timeout),
            announced: Cell::new(None),
            warm_from: Cell::new(None),
            backend,
            worker,
            workers,
            files,
            spare,
            settings: RefCell::new(settings),
            idle: RefCell::default(),
            http2: RefCell::default(),
            epoch: Cell::new(0),
            speaks_h2: Cell::new(None),
            opening: tokio::sync::Mutex::new(()),
            dials: Cell::new(0),
            last_failure: RefCell::new(None),
        }
    }

    /// The backend that it leads to.
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Takes up settings; if they are others than before, the present connections are retired.
    pub(super) fn adopt(&self, settings: &Arc<UpstreamSettings>) {
        if !Arc::ptr_eq(&self.settings.borrow(), settings) {
            *self.settings.borrow_mut() = Arc::clone(settings);
            self.speaks_h2.set(None);
            self.keep_for.set(settings.keepalive_timeout);
            self.retire_connections();
        }
    }

    /// Closes unused connections now and those in use when their request is done.
    pub(super) fn retire_connections(&self) {
        self.epoch.set(self.epoch.get().wrapping_add(1));
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        self.cells().idle_out.add(idle.len() as u64);
        // Dropping the senders lets each connection finish its streams and then close.
        self.http2.borrow_mut().clear();
    }

    /// Opens a connection for one request, or waits for the place on a shared one that somebody else
    /// opens, where there is [none unused](Self::take_unused).
    ///
    /// # Errors
    /// Those of [`dial`]; nothing was sent.
    pub async fn open(self: &Rc<Self>) -> Result<Connection, Error> {
        let may_speak_h2 = match self.settings.borrow().protocol {
            Protocol::Http1 => false,
            Protocol::H2 => true,
            Protocol::Auto => self.speaks_h2.get().unwrap_or(self.settings.borrow().tls.is_some()),
        };
        if !may_speak_h2 {
            return self.open_own().await;
        }
        let seen = self.dials.get();
        let _opening = self.opening.lock().await;
        if let Some(connection) = self.take_unused(Instant::now()) {
            return Ok(connection);
        }
        // Whoever waited for a dial that failed shares its failure: to dial again one after
        // another would make the last of them wait for all.
        if let Some(failure) = &*self.last_failure.borrow()
            && failure.dial > seen
        {
            return Err(failure.again());
        }
        self.dials.set(self.dials.get() + 1);
        let opened = self.open_own().await;
        *self.last_failure.borrow_mut() = opened
            .as_ref()
            .err()
            .map(|error| DialFailure { dial: self.dials.get(), kind: DialFailureKind::of(error) });
        opened
    }

    /// Takes an unused connection, or a place on a shared one, if there is any.
    pub fn take_unused(self: &Rc<Self>, now: Instant) -> Option<Connection> {
        let connection = self.unused_one(now)?;
        if connection.is_reused() {
            self.cells().reuses.add(1);
        }
        Some(connection)
    }

    fn unused_one(self: &Rc<Self>, now: Instant) -> Option<Connection> {
        let epoch = self.epoch.get();
        {
            let mut http2 = self.http2.borrow_mut();
            http2.retain(Http2::is_alive);
            if let Some(stream) = http2.iter().find_map(Http2::stream) {
                return Some(self.taken(Kind::Http2(stream), epoch, Duration::ZERO));
            }
        }
        let (connection, age) = self.take_idle(now)?;
        Some(self.taken(Kind::Http1(connection), epoch, age))
    }

    async fn open_own(self: &Rc<Self>) -> Result<Connection, Error> {
        let epoch = self.epoch.get();
        let kind = match self.dial().await? {
            Opened::Http1(http1) => Kind::Http1(http1),
            Opened::Http2(http2) => {
                let gone = || Error::Connect(io::ErrorKind::NotConnected.into());
                let stream = http2.stream().ok_or_else(gone)?;
                self.share(http2, epoch);
                Kind::Http2(stream)
            }
        };
        Ok(self.taken(kind, epoch, Duration::ZERO))
    }

    fn taken(self: &Rc<Self>, kind: Kind, epoch: u32, idle: Duration) -> Connection {
        Connection { lane: Rc::clone(self), epoch, idle, kind }
    }

    async fn dial(&self) -> Result<Opened, Error> {
        let settings = Arc::clone(&self.settings.borrow());
        let began = Instant::now();
        let dialled = dial(&self.backend, &settings, false, &self.files)
            .await
            .inspect_err(|error| self.count_dial_error(error))?;
        self.speaks_h2.set(Some(dialled.h2));
        if !dialled.h2 {
            return Ok(Opened::Http1(self.connection(dialled.stream)));
        }
        let left = settings.connect_timeout.saturating_sub(began.elapsed());
        let opening = Http2::open(dialled.stream, &self.backend, self.worker);
        tokio::time::timeout(left, opening)
            .await
            .unwrap_or(Err(Error::ConnectTimeout))
            .inspect_err(|error| self.count_dial_error(error))
            .map(Opened::Http2)
    }

    fn share(&self, http2: Http2, epoch: u32) {
        if epoch == self.epoch.get() {
            self.http2.borrow_mut().push(http2);
        }
    }

    /// How many unused connections are kept.
    fn limit(&self) -> usize {
        self.settings.borrow().keepalive_connections.div_ceil(self.workers)
    }

    fn connection(&self, stream: UpstreamStream) -> Http1 {
        Http1::open(stream, &self.backend, self.worker, Rc::clone(&self.spare))
    }

    fn put_back(&self, connection: Http1, epoch: u32, now: Instant) {
        let limit = self.limit();
        let mut idle = self.idle.borrow_mut();
        // The lane of a backend that is gone is nobody's who would look after what lies unused.
        let gone = self.backend.gone.load(Ordering::Relaxed);
        let wanted = !gone && epoch == self.epoch.get() && self.files.has_room_for_unused();
        if wanted && idle.len() < limit && connection.is_reusable() {
            idle.push(Idle { connection, since: now, seen: now });
            self.cells().idle_in.add(1);
        }
    }

    fn count_dial_error(&self, error: &Error) {
        match error {
            // Without files of our own nobody was asked.
            Error::OutOfFiles => return,
            Error::ConnectTimeout => self.cells().timeouts.connect.add(1),
            _ => {}
        }
        self.count_connect_error();
    }

    fn count_connect_error(&self) {
        self.cells().connect_errors.add(1);
    }

    fn cells(&self) -> &crate::state::backend::BackendCells {
        self.backend.cells.cell(self.worker)
    }
}
