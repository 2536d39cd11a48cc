//! Heavy work of the control plane on threads that let everybody else go first.
//!
//! To make a configuration of ten thousand backends ready takes a tenth of a second of a processor,
//! which may be the only one that a worker has. In the scheduling class for idle work (`SCHED_IDLE`)
//! it is done in the pauses between requests. Where there are none, it is not left waiting for them.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::memory;

/// What such a thread is called.
const THREAD: &str = "control-beside";
/// `SCHED_IDLE` of sched(7): whoever else wakes up runs at once. A thread that is merely nice goes on
/// until its slice is over, which is milliseconds.
const IDLE: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
/// The lowest priority, for where that class cannot be had.
const NICENESS: i32 = 19;
/// Whoever waits for the work has waited for long enough. Ten thousand backends take a tenth of it on an
/// idle processor, and a quarter beside requests that keep one half busy.
const PATIENCE: Duration = Duration::from_secs(1);
/// Memory is given back a second after it was let go of,
const UNTIL_CLEAN: Duration = Duration::from_millis(1200);
/// and whoever looks that often is mostly the first to see it.
const CLEAN_UP: Duration = Duration::from_millis(2);

/// Begins with `work` at low priority. Nothing comes of it if it panics, or if there is no thread to
/// be had.
pub(super) fn begin<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (done, outcome) = oneshot::channel();
    let thread = thread::Builder::new().name(THREAD.to_owned());
    let begun = thread.spawn(move || {
        step_back();
        // Who asked may have left meanwhile.
        let _ = done.send(work());
        clean_up();
    });
    if let Err(error) = begun {
        tracing::warn!(%error, "there is no thread for work of low priority");
    }
    outcome
}

/// Lets everybody else go first from now on. If that is refused the work is done all the same.
fn step_back() {
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, IDLE);
    // Linux has one for each thread.
    let _ = setpriority_process(None, NICENESS);
}

/// Gives back the memory that the work has needed as soon as the allocator does that. Left to whoever
/// looks next, it would often be a worker that has to.
fn clean_up() {
    let until = Instant::now() + UNTIL_CLEAN;
    while Instant::now() < until {
        thread::sleep(CLEAN_UP);
        memory::give_back();
    }
}

/// Does `work` at low priority, and if that takes long once more at the usual one: what is done first
/// counts. It must change nothing but what it gives. `None` if it panics.
pub(super) async fn run<T, W>(work: W) -> Option<T>
where
    T: Send + 'static,
    W: Fn() -> T + Clone + Send + 'static,
{
    let mut patient = begin(work.clone());
    match timeout(PATIENCE, &mut patient).await {
        Ok(Ok(done)) => Some(done),
        // It panicked, or there was no thread.
        Ok(Err(_)) => spawn_blocking(work).await.ok(),
        Err(_elapsed) => tokio::select! {
            Ok(done) = patient => Some(done),
            done = spawn_blocking(work) => done.ok(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;
    use std::sync::{Arc, Barrier};

    use rustix::process::getpriority_process;
    use thread_priority::thread_schedule_policy;

    use super::*;

    fn priority() -> (ThreadSchedulePolicy, i32) {
        (thread_schedule_policy().unwrap(), getpriority_process(None).unwrap())
    }

    fn is_beside() -> bool {
        std::thread::current().name() == Some(THREAD)
    }

    #[tokio::test]
    async fn work_has_the_lowest_priority_and_nobody_else_has() {
        let before = priority();
        assert_eq!(begin(priority).await, Ok((IDLE, NICENESS)));
        assert_eq!((priority(), spawn_blocking(priority).await.unwrap()), (before, before));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_gets_no_processor_is_done_at_the_usual_priority() {
        let starved = Arc::new(Barrier::new(2));
        let in_there = Arc::clone(&starved);
        let work = move || {
            if is_beside() {
                in_there.wait();
            }
            is_beside()
        };
        assert_eq!(run(work).await, Some(false));
        starved.wait();
    }

    #[tokio::test]
    async fn nothing_comes_of_work_that_panics() {
        // Without a word, which at low priority can take long.
        assert_eq!(run(|| -> u8 { resume_unwind(Box::new("on purpose")) }).await, None);
    }
}
