//! The one value that both planes hold.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::counters::Counter;
use super::once_a_second::{OnceASecond, OnceIn};
use super::overload::Overload;
use super::unsaved::Unsaved;
use super::{Feed, Files, Mail, Notice, Snapshot};

/// Index of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(usize);

impl WorkerId {
    /// The worker with this index.
    pub fn new(index: usize) -> Self {
        WorkerId(index)
    }

    /// The index, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known of one worker outside of it.
#[derive(Debug)]
pub struct WorkerPort {
    mail: mpsc::UnboundedSender<Mail>,
    /// It has [`Mail::MakeRoom`] to take up.
    room_wanted: AtomicBool,
    /// Client connections that live on the worker.
    pub connections: AtomicUsize,
    /// How often its thread had to be started again after a panic.
    pub restarts: AtomicU32,
    /// What the worker counts for the process as a whole.
    pub cells: WorkerCells,
}

/// What one worker counts for the process as a whole.
#[derive(Debug, Default)]
pub struct WorkerCells {
    /// Accepts that failed, whatever the reason.
    pub accept_errors: Counter,
    /// Times that accepting paused at the process's limit of connections or of files.
    pub accept_pauses: Counter,
    /// Connections handed to a less busy worker.
    pub handovers: Counter,
    /// Tasks that panicked; the connection they served was closed.
    pub panics: Counter,
    /// Times that a connection was parked: it holds no buffers until a request comes.
    pub parked: Counter,
    /// Times that a connection was parked no more.
    pub unparked: Counter,
    /// Requests that began.
    pub requests_begun: Counter,
    /// Requests that ended.
    pub requests_ended: Counter,
}

impl WorkerPort {
    /// Puts a message into the worker's mailbox. A worker that has ended takes none, which is
    /// right for every kind of mail; an [`Mail::Adopt`] comes back so that it is not lost.
    pub fn send(&self, mail: Mail) -> Result<(), Mail> {
        self.mail.send(mail).map_err(|refused| refused.0)
    }

    /// Client connections of the worker that are parked.
    pub fn parked(&self) -> u64 {
        let unparked = self.cells.unparked.get();
        self.cells.parked.get().saturating_sub(unparked)
    }

    /// The worker takes [`Mail::MakeRoom`] up now: who wants room from now on sends another.
    pub fn room_is_made(&self) {
        // In one order with who wants it: either that one sends, or what it has counted is seen.
        self.room_wanted.swap(false, Ordering::AcqRel);
    }
}

/// Where the process stands between start and stop.
#[derive(Debug, Default)]
pub struct Lifecycle {
    stopping: AtomicBool,
    draining: AtomicBool,
}

impl Lifecycle {
    /// A stop was asked for: not ready any more, yet still accepting.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The sockets are being closed: every answer asks its client to close.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Marks that a stop was asked for.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Marks that the workers drain.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

/// How reloads went; written by the governor only.
#[derive(Debug, Default)]
pub struct ReloadCounters {
    /// Configurations that came into force, the first one included.
    pub succeeded: Counter,
    /// Configurations that were refused.
    pub failed: Counter,
    /// Whether the latest one came into force.
    pub last_succeeded: AtomicBool,
    /// When the latest one came into force, in seconds since the Unix epoch.
    pub last_success_timestamp: AtomicU64,
}

/// The meeting place of the planes.
#[derive(Debug)]
pub struct Shared {
    /// What a reload changes; written by the governor only.
    pub snapshot: ArcSwap<Snapshot>,
    /// One per worker, by [`WorkerId`].
    pub workers: Box<[WorkerPort]>,
    /// Notices to the control plane.
    pub notices: mpsc::UnboundedSender<Notice>,
    /// Where the process stands.
    pub lifecycle: Lifecycle,
    /// Sockets towards clients and backends, over all workers.
    pub files: Arc<Files>,
    /// Requests in flight that were let in under `max_requests`; without it nobody counts. Apart from
    /// the others, since those that were refused must not keep out who comes next.
    pub admitted: AtomicUsize,
    /// Those that were refused for it.
    pub overload: Overload,
    /// How often it is told that connections cannot be accepted.
    pub accept_complaints: OnceASecond,
    /// How often it is said that connections are refused at a limit.
    pub refusal_complaints: OnceASecond,
    /// What could not be written of late.
    pub unsaved: Unsaved,
    /// How often workers are reminded that there is hardly any room.
    room_reminders: OnceIn<20>,
    /// How often it is said that idle connections are closed to make room.
    pub scarcity_complaints: OnceASecond,
    /// Of too much that is held for clients.
    pub memory_complaints: OnceASecond,
    /// How reloads went.
    pub reloads: ReloadCounters,
    /// What happens, for people.
    pub feed: Feed,
    /// Tells this process from others in a loop of proxies; random, never shown as anything else.
    pub instance: Arc<str>,
    /// When the process started; monotonic times elsewhere count from here.
    pub started: Instant,
}

/// The receiving ends that belong to a new [`Shared`].
#[derive(Debug)]
pub struct Mailboxes {
    /// One per worker, in order.
    pub workers: Vec<mpsc::UnboundedReceiver<Mail>>,
    /// For the control plane.
    pub notices: mpsc::UnboundedReceiver<Notice>,
}

impl Shared {
    /// The meeting place for `workers` workers, with the first snapshot, in a process that may have
    /// so many files open.
    pub fn new(
        workers: usize,
        instance: Arc<str>,
        snapshot: Snapshot,
        open_files: u64,
    ) -> (Arc<Self>, Mailboxes) {
        let (notices, notices_end) = mpsc::unbounded_channel();
        let (ports, ends) = (0..workers)
            .map(|_| {
                let (mail, end) = mpsc::unbounded_channel();
                let port = WorkerPort {
                    mail,
                    room_wanted: AtomicBool::new(false),
                    connections: AtomicUsize::new(0),
                    restarts: AtomicU32::new(0),
                    cells: WorkerCells::default(),
                };
                (port, end)
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let shared = Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            workers: ports.into(),
            notices,
            lifecycle: Lifecycle::default(),
            files: Files::new(open_files),
            admitted: AtomicUsize::new(0),
            overload: Overload::default(),
            accept_complaints: OnceASecond::default(),
            refusal_complaints: OnceASecond::default(),
            unsaved: Unsaved::default(),
            room_reminders: OnceIn::default(),
            scarcity_complaints: OnceASecond::default(),
            memory_complaints: OnceASecond::default(),
            reloads: ReloadCounters::default(),
            feed: Feed::default(),
            instance,
            started: Instant::now(),
        };
        (Arc::new(shared), Mailboxes { workers: ends, notices: notices_end })
    }

    /// Requests in flight now, over all workers.
    pub fn requests_in_flight(&self) -> u64 {
        let in_flight = |port: &WorkerPort| {
            // In this order, lest one that ends meanwhile is taken off without having been there.
            let ended = port.cells.requests_ended.get();
            port.cells.requests_begun.get().saturating_sub(ended)
        };
        self.workers.iter().map(in_flight).sum()
    }

    /// Sends the same mail to every worker.
    pub fn broadcast(&self, mail: impl Fn() -> Mail) {
        for worker in &self.workers {
            // A worker that has ended needs no mail.
            let _ = worker.send(mail());
        }
    }

    /// Reminds the workers that room is wanted. Who waits does it again and again, and so do all others
    /// who wait: one is enough for all.
    pub fn remind_of_room(&self) {
        if self.room_reminders.admit(self.uptime()).is_some() {
            self.make_room();
        }
    }

    /// Has the workers ask connections to leave, each once for all who want it meanwhile.
    pub fn make_room(&self) {
        for worker in &self.workers {
            if !worker.room_wanted.swap(true, Ordering::AcqRel) {
                // A worker that has ended has nobody to ask.
                let _ = worker.send(Mail::MakeRoom);
            }
        }
    }

    /// Tells the control plane; once it has ended there is nobody to tell.
    pub fn notify(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    /// Time since the process started.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_want_room_each_worker_is_told_once() {
        let (shared, mut mailboxes) = Shared::new(2, "test".into(), Snapshot::empty(), 1024);
        let mut told = || {
            let mails = |mail: &mut mpsc::UnboundedReceiver<Mail>| {
                std::iter::from_fn(|| mail.try_recv().ok()).count()
            };
            mailboxes.workers.iter_mut().map(mails).collect::<Vec<_>>()
        };
        shared.make_room();
        shared.make_room();
        assert_eq!(told(), [1, 1]);
        shared.make_room();
        assert_eq!(told(), [0, 0], "it is yet to do what it was told");
        shared.workers[1].room_is_made();
        shared.make_room();
        assert_eq!(told(), [0, 1]);
    }
}
