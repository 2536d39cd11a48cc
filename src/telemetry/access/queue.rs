//! The page between the workers and the thread that writes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Output;

/// Lines are collected this long before they are written together.
const GATHER: Duration = Duration::from_millis(100);
/// A page of this size is written at once, in bytes.
const ENOUGH: usize = 64 * 1024;
/// A page takes no more than this, in bytes; what comes then is dropped.
const CAPACITY: usize = 4 * 1024 * 1024;
/// Between two complaints about an output that refuses lines.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// Before another try on an output that takes nothing just now.
const BUSY_RETRY: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The writing thread has something to do.
    work: Condvar,
    /// The writing thread has done something.
    done: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    page: Vec<u8>,
    /// Bytes put into pages, ever.
    appended: u64,
    /// Bytes taken out of pages and written or lost, ever.
    settled: u64,
    hurry: bool,
    reopen: bool,
    /// Where lines are to go from now on.
    next: Option<Option<Output>>,
    closed: bool,
}

impl State {
    fn urgent(&self) -> bool {
        let is_told = self.hurry || self.reopen || self.closed || self.next.is_some();
        self.page.len() >= ENOUGH || is_told
    }
}

/// What the writing thread is told beside a page.
struct Told {
    reopen: bool,
    next: Option<Option<Output>>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two writes to the state that must agree.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or drops and counts it if the page is full.
    pub(super) fn append(&self, line: &[u8]) {
        let mut state = self.lock();
        let before = state.page.len();
        let after = before + line.len();
        if after > CAPACITY {
            drop(state);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.page.extend_from_slice(line);
        state.appended += line.len() as u64;
        drop(state);
        if before == 0 || (before < ENOUGH && after >= ENOUGH) {
            self.work.notify_one();
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.work.notify_one();
    }

    /// Lines go there from now on, or nowhere.
    pub(super) fn switch(&self, output: Option<Output>) {
        self.lock().next = Some(output);
        self.work.notify_one();
    }

    #[cfg(test)]
    pub(super) fn is_about_to_switch(&self) -> bool {
        self.lock().next.is_some()
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let mut state = self.lock();
        let goal = state.appended;
        state.hurry = true;
        self.work.notify_one();
        let (state, _) = self
            .done
            .wait_timeout_while(state, timeout, |state| state.settled < goal)
            .unwrap_or_else(PoisonError::into_inner);
        state.settled >= goal
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(&self) {
        let mut output: Option<Output> = None;
        let mut page = Vec::new();
        let mut complained: Option<Instant> = None;
        loop {
            let Told { reopen, mut next, closed } = self.take(&mut page);
            // What was logged until now belongs to the output before, if there was one.
            if output.is_none() {
                output = next.take().flatten();
            }
            if let Some(output) = &mut output
                && let Err((error, lost)) = write_all(&mut output.file, &page)
            {
                self.dropped.fetch_add(lost, Ordering::Relaxed);
                if complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
                    complained = Some(Instant::now());
                    tracing::error!(%error, "the access log cannot be written, lines are lost");
                }
            }
            if reopen && let Some(output) = &mut output {
                output.reopen();
            }
            if let Some(next) = next {
                output = next;
            }
            self.lock().settled += page.len() as u64;
            self.done.notify_all();
            page.clear();
            // What a stalled output made grow is given back.
            page.shrink_to(ENOUGH);
            if closed {
                return;
            }
        }
    }

    /// Waits for work and swaps the page.
    fn take(&self, page: &mut Vec<u8>) -> Told {
        let mut state = self
            .work
            .wait_while(self.lock(), |state| state.page.is_empty() && !state.urgent())
            .unwrap_or_else(PoisonError::into_inner);
        if !state.urgent() {
            (state, _) = self
                .work
                .wait_timeout_while(state, GATHER, |state| !state.urgent())
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(page, &mut state.page);
        state.hurry = false;
        let (reopen, next) = (std::mem::take(&mut state.reopen), state.next.take());
        Told { reopen, next, closed: state.closed }
    }
}

/// Writes the page, waiting where the output is busy. On an error returns how many lines are lost.
fn write_all(output: &mut impl Write, page: &[u8]) -> Result<(), (io::Error, u64)> {
    let mut rest = page;
    while !rest.is_empty() {
        let error = match output.write(rest) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(written) => {
                rest = &rest[written..];
                continue;
            }
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            // Another process may have made the terminal or pipe that we share non-blocking.
            io::ErrorKind::WouldBlock => std::thread::sleep(BUSY_RETRY),
            _ => return Err((error, rest.iter().filter(|byte| **byte == b'\n').count() as u64)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, is busy in between, and refuses from a point on.
    struct Fussy {
        taken: Vec<u8>,
        limit: usize,
        busy: bool,
    }

    impl Write for Fussy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.busy = !self.busy;
            if self.taken.len() >= self.limit {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if self.busy {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = bytes.len().min(3);
            self.taken.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_busy_output_gets_every_byte() {
        let mut output = Fussy { taken: Vec::new(), limit: usize::MAX, busy: false };
        write_all(&mut output, b"one\ntwo\n").unwrap();
        assert_eq!(output.taken, b"one\ntwo\n");
    }

    #[test]
    fn an_output_that_refuses_loses_the_lines_left() {
        let mut output = Fussy { taken: Vec::new(), limit: 6, busy: false };
        let (_, lost) = write_all(&mut output, b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!(lost, 2);
    }

    #[test]
    fn a_full_page_drops_and_counts() {
        let queue = Queue::default();
        let line = vec![b'x'; CAPACITY / 2];
        for _ in 0..3 {
            queue.append(&line);
        }
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn an_output_that_never_comes_does_not_hold_up_a_flush_for_ever() {
        let queue = Queue::default();
        queue.append(b"line\n");
        assert!(!queue.flush(Duration::from_millis(1)));
    }
}
