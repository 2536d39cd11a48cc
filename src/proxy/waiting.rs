//! Attempts that wait for a response head: one slab per worker, shared with nobody, so that coming
//! and going cost next to nothing.
//!
//! Only while somebody waits is it looked through, a few dozen times a second: who waits for
//! unusually long counts as late then, without an answer, and makes its backend suspect. And when a
//! backend is judged unfit, those who wait on it are woken, to be sent elsewhere if that is safe.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::body::Upload;
use super::timer::Timer;
use super::worker::Worker;
use crate::health::suspicion::Silence;
use crate::state::BackendId;
use crate::state::attempts::Marks;
use crate::upstream::Lane;

/// Between two looks. Who has not waited for so long is passed over.
const LOOK: Duration = Duration::from_millis(25);

/// The attempts of one worker that wait for a response head.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    entries: RefCell<Slab<Entry>>,
    /// Somebody is looking, or about to.
    watched: Cell<bool>,
    occupied: Notify,
}

#[derive(Debug)]
struct Entry {
    lane: Rc<Lane>,
    began: Instant,
    upload: Option<Rc<Upload>>,
    marks: Marks,
    rescued: bool,
    /// What wakes the attempt.
    timer: Option<usize>,
}

impl Entry {
    /// Since when the backend is waited for; until it has the whole request, it is not.
    fn since(&self) -> Option<Instant> {
        match &self.upload {
            None => Some(self.began),
            Some(upload) => upload.finished().map(|sent| sent.max(self.began)),
        }
    }
}

/// The place of one attempt, left when dropped.
#[derive(Debug)]
pub struct Place {
    worker: Rc<Worker>,
    key: usize,
}

impl Place {
    /// An attempt on the backend of this lane begins to wait at `began`.
    pub fn take(
        worker: &Rc<Worker>,
        lane: &Rc<Lane>,
        upload: Option<&Rc<Upload>>,
        began: Instant,
    ) -> Place {
        let room = &worker.waiting;
        let key = room.entries.borrow_mut().insert(Entry {
            lane: Rc::clone(lane),
            began,
            upload: upload.map(Rc::clone),
            marks: Marks::default(),
            rescued: false,
            timer: None,
        });
        if !room.watched.replace(true) {
            room.occupied.notify_one();
        }
        Place { worker: Rc::clone(worker), key }
    }

    /// The timer that is polled while it waits: it expires early when the attempt is to be rescued.
    pub fn wake_by(&self, timer: &Timer) {
        self.with(|entry| entry.timer = timer.key());
    }

    /// When its backend was picked.
    pub fn began(&self) -> Instant {
        self.with(|entry| entry.began)
    }

    /// Whether its backend was judged unfit while it waited.
    pub fn is_rescued(&self) -> bool {
        self.with(|entry| entry.rescued)
    }

    /// Whether its backend's requests are cut.
    pub fn is_cut(&self) -> bool {
        self.with(|entry| entry.lane.backend().cut.load(Ordering::Relaxed))
    }

    /// As what it has been counted so far.
    pub fn marks(&self) -> Marks {
        self.with(|entry| entry.marks)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Entry) -> T) -> T {
        act(&mut self.worker.waiting.entries.borrow_mut()[self.key])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The last handle to a lane closes its connections: not while the slab is borrowed.
        let entry = self.worker.waiting.entries.borrow_mut().remove(self.key);
        entry.lane.backend().note_waited(self.worker.id, entry.marks);
        drop(entry);
    }
}

impl WaitingRoom {
    /// Those who wait on this backend are woken: it was judged unfit.
    pub fn rescue(&self, worker: &Worker, backend: BackendId) {
        let mut timers = Vec::new();
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            if entry.lane.backend().id == backend {
                entry.rescued = true;
                timers.extend(entry.timer);
            }
        }
        timers.into_iter().for_each(|timer| worker.wheel.expire(timer));
    }

    fn look(&self, worker: &Worker) {
        let now = worker.tick();
        let mut backends: HashMap<BackendId, (Silence, Duration), foldhash::fast::FixedState> =
            HashMap::default();
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            let Some(since) = entry.since() else { continue };
            if now.saturating_duration_since(since) < LOOK {
                continue;
            }
            let (now, began) = (worker.uptime_at(now), worker.uptime_at(since));
            let backend = entry.lane.backend();
            backend.note_waiting(worker.id, now, began, &mut entry.marks);
            if backend.suspected.load(Ordering::Relaxed) {
                continue;
            }
            let (silence, patience) = backends
                .entry(backend.id)
                .or_insert_with(|| (backend.silence(), backend.yardstick.patience()));
            if silence.is_suspect(now, began, *patience) {
                worker.suspect(backend);
            }
        }
    }
}

/// Looks through the waiting room of a worker, as long as it lives.
pub async fn watch(worker: Rc<Worker>) {
    let room = &worker.waiting;
    loop {
        if room.entries.borrow().is_empty() {
            room.watched.set(false);
            room.occupied.notified().await;
        }
        tokio::time::sleep(LOOK).await;
        room.look(&worker);
    }
}
