//! What happened lately, and what happens, for whoever listens.
//!
//! Events are rare (a backend goes down, a configuration comes into force, a swap takes a step) and
//! are told to people, so a lock around the few that are kept is fine. A listener that does not keep
//! up loses events and is told so; nobody ever waits for one.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;

/// Events that are kept for those who come later, and that a listener may lag behind.
const KEPT: usize = 256;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts the events of this process, from 1.
    pub id: u64,
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: Happening,
}

/// What can happen. Every kind is told in words too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A backend is in another state.
    Transition {
        /// Its pool.
        pool: Arc<str>,
        /// Its address.
        backend: Arc<str>,
        /// What it was.
        from: &'static str,
        /// What it is.
        to: &'static str,
        /// Why, in words.
        reason: String,
    },
    /// A configuration came into force.
    Reloaded {
        /// Its number.
        generation: u64,
        /// What it changed, in words; empty if nothing.
        changes: String,
    },
    /// A configuration was refused; the one before stays in force.
    ReloadRefused {
        /// Why.
        error: String,
    },
    /// A swap came to something.
    Swap(SwapEvent),
    /// Something else that people should know of.
    Note {
        /// The pool that it is about, if it is about one.
        pool: Option<Arc<str>>,
        /// What, in words.
        words: String,
    },
}

/// What a swap came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapEvent {
    /// Number of the swap and of its report.
    pub id: u64,
    /// Its pool.
    pub pool: Arc<str>,
    /// The version that served when it began.
    pub from: Arc<str>,
    /// The version that it is about.
    pub to: Arc<str>,
    /// Who asked for it, in words.
    pub asked_by: Arc<str>,
    /// What it came to, in a word: `started`, `refused`, `switched`, `rolled_back`, `kept`, ...
    pub milestone: &'static str,
    /// The same in words.
    pub words: String,
}

impl Happening {
    /// The word for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Transition { .. } => "transition",
            Self::Reloaded { .. } => "reload",
            Self::ReloadRefused { .. } => "reload_refused",
            Self::Swap(_) => "swap",
            Self::Note { .. } => "note",
        }
    }

    /// It as a line for people.
    #[must_use]
    pub fn words(&self) -> Cow<'_, str> {
        match self {
            Self::Transition { pool, backend, to, reason, .. } => {
                format!("{pool}: {backend} is {to}: {reason}").into()
            }
            Self::Reloaded { generation, changes } if changes.is_empty() => {
                format!("configuration {generation} is in force; it changes nothing").into()
            }
            Self::Reloaded { generation, changes } => {
                format!("configuration {generation} is in force: {changes}").into()
            }
            Self::ReloadRefused { error } => format!("configuration refused: {error}").into(),
            Self::Swap(swap) => {
                let SwapEvent { id, pool, milestone, words, .. } = swap;
                format!("{pool}: swap {id} {}: {words}", milestone.replace('_', " ")).into()
            }
            Self::Note { pool: Some(pool), words } => format!("{pool}: {words}").into(),
            Self::Note { pool: None, words } => words.into(),
        }
    }
}

/// The events of this process.
#[derive(Debug)]
pub struct Feed {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Kept {
    last_id: u64,
    events: VecDeque<Arc<Event>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { kept: Mutex::default(), live: broadcast::channel(KEPT).0 }
    }
}

impl Feed {
    /// Tells of something that happened now.
    pub fn tell(&self, what: Happening) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last_id += 1;
        let event = Arc::new(Event { id: kept.last_id, at: SystemTime::now(), what });
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        // Told under the lock, so that a listener misses none between those kept and those to
        // come. Without listeners it is told to nobody.
        let _ = self.live.send(event);
    }

    /// Those that are kept and came after the event with this number, and a receiver of all that
    /// follow. A number from another process is taken for none.
    pub fn listen(&self, after: u64) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let after = if after > kept.last_id { 0 } else { after };
        let missed = kept.events.iter().filter(|event| event.id > after).cloned();
        (missed.collect(), self.live.subscribe())
    }

    /// The last events, the latest last, at most `many`.
    pub fn latest(&self, many: usize) -> Vec<Arc<Event>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = kept.events.len().saturating_sub(many);
        kept.events.iter().skip(skip).cloned().collect()
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.live.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: usize) -> Happening {
        Happening::Note { pool: None, words: number.to_string() }
    }

    #[test]
    fn who_comes_later_gets_what_was_kept_and_what_follows() {
        let feed = Feed::default();
        (1..=KEPT + 10).for_each(|number| feed.tell(note(number)));
        let (missed, mut live) = feed.listen(0);
        assert_eq!((missed.len(), missed[0].id), (KEPT, 11));
        feed.tell(note(0));
        assert_eq!(live.try_recv().unwrap().id, 267);
        assert_eq!(feed.listen(265).0.len(), 2);
        assert_eq!(feed.latest(1)[0].id, 267);
    }

    #[test]
    fn a_number_of_an_earlier_process_hides_nothing() {
        let feed = Feed::default();
        feed.tell(note(1));
        assert_eq!(feed.listen(900).0.len(), 1);
    }

    #[test]
    fn who_lags_behind_is_told_how_far() {
        let feed = Feed::default();
        let (_, mut live) = feed.listen(0);
        (0..KEPT + 3).for_each(|number| feed.tell(note(number)));
        assert_eq!(live.try_recv(), Err(broadcast::error::TryRecvError::Lagged(3)));
    }
}
