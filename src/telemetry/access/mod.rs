//! The access log: one line per request, and never a worker that waits for a disk.
//!
//! A worker formats its line into a buffer of its own and appends it to a shared page under a lock
//! that is held for one copy of a few hundred bytes. One thread swaps the page for an empty one and
//! writes it, so that a line costs no allocation, no system call and, under load, no wake-up. When
//! the output is slower than the traffic the page is full at some point: then lines are dropped and
//! counted, and the traffic goes on.

mod format;
mod queue;

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

pub use format::{Entry, Format};
use queue::Queue;

/// How long the last owner waits for an output that takes nothing.
const LAST_WRITE: Duration = Duration::from_secs(1);

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The access log, on or off. Clones write to the same place; when the last one is dropped, what was
/// logged is written before it returns (within a second).
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Writer>);

#[derive(Debug)]
struct Writer {
    /// One of the numbers of formats, or [`OFF`].
    format: AtomicU8,
    queue: Arc<Queue>,
}

/// No format: nothing is logged.
const OFF: u8 = u8::MAX;

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        self.queue.flush(LAST_WRITE);
    }
}

impl AccessLog {
    /// One that is off, until [`switch`](Self::switch).
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn new() -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let end = Arc::clone(&queue);
        std::thread::Builder::new().name("access-log".into()).spawn(move || end.run())?;
        Ok(AccessLog(Arc::new(Writer { format: AtomicU8::new(OFF), queue })))
    }

    /// Requests that end from now on are logged there in this format, or not at all. What was logged
    /// before goes to where it was to go.
    pub fn switch(&self, to: Option<(Format, Output)>) {
        let (format, output) =
            to.map_or((OFF, None), |(format, output)| (format as u8, Some(output)));
        self.0.queue.switch(output);
        self.0.format.store(format, Ordering::Relaxed);
    }

    /// Whether requests are logged.
    pub fn is_on(&self) -> bool {
        self.format().is_some()
    }

    fn format(&self) -> Option<Format> {
        let number = self.0.format.load(Ordering::Relaxed);
        [Format::Json, Format::Combined].into_iter().find(|format| *format as u8 == number)
    }

    /// Logs one request, if it is on. Never waits for the output.
    pub fn log(&self, entry: &Entry<'_>) {
        let Some(format) = self.format() else { return };
        LINE.with_borrow_mut(|line| {
            line.clear();
            format::write(format, entry, line);
            self.0.queue.append(line);
        });
    }

    /// Lines that were lost because the output was too slow or refused them.
    pub fn dropped(&self) -> u64 {
        self.0.queue.dropped()
    }

    /// Opens the file anew, for log rotation: lines logged from now on go to the new file. If that
    /// fails the old one is kept, and an error is logged.
    pub fn reopen(&self) {
        self.0.queue.reopen();
    }

    /// Waits until all that was logged before is written; whether it was, within `timeout`.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.0.queue.flush(timeout)
    }
}

/// Where lines go, ready to be written to.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: Option<PathBuf>,
}

impl Output {
    /// The file at `path`, which is appended to and made if needed, or stdout.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = match &path {
            // Not by `io::stdout`: its buffer would write again at every line end.
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            // Who visited what is not for everybody on the machine.
            Some(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path)?,
        };
        Ok(Output { file, path })
    }

    fn reopen(&mut self) {
        if self.path.is_none() {
            return;
        }
        match Output::open(self.path.clone()) {
            Ok(output) => *self = output,
            Err(error) => {
                let path = self.path.as_deref().unwrap_or(Path::new("")).display();
                tracing::error!(
                    %path, %error,
                    "the access log cannot be reopened and goes on into the old file; \
                     check the directory's permissions and send SIGUSR1 again"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
