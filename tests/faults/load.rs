//! Requests that are due at a fixed rate, whether or not earlier ones were answered. Latency counts
//! from the moment a request was due, so that a stall is seen by all who came meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, Target};
use crate::support::in_time;

/// One request and what became of it. Times count from the begin of the load.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it should have been sent.
    pub due: Duration,
    /// How much later it was sent: what the machine, and not the proxy, made it wait.
    pub late: Duration,
    /// From `due` to the last byte, or to the failure.
    pub took: Duration,
    /// The replica that answered 200, or what went wrong.
    pub outcome: Result<String, String>,
}

/// A load under way.
pub struct Load {
    /// When it began.
    pub began: Instant,
    over: Arc<AtomicBool>,
    /// Requests that have had their outcome.
    done: watch::Receiver<u64>,
    running: JoinHandle<Vec<Sample>>,
}

impl Load {
    /// Sends `rate` requests a second there for so long.
    pub fn start(target: impl Into<Target>, rate: u32, length: Duration) -> Load {
        let (began, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let (counts, done) = watch::channel(0);
        let running = run(target.into(), rate, length, began, Arc::clone(&over), counts);
        Load { began, over, done, running: tokio::spawn(running) }
    }

    /// Waits until the load has lasted so long.
    pub async fn reaches(&self, time: Duration) {
        sleep_until(self.began + time).await;
    }

    /// Waits until so many more requests have had their outcome, or the load is over.
    pub async fn goes_on(&self, requests: u32) {
        let mut done = self.done.clone();
        let enough = *done.borrow() + u64::from(requests);
        let _ = in_time("further requests", done.wait_for(|done| *done >= enough)).await;
    }

    /// Ends it before its time, and waits for the last answer.
    pub async fn stop(self) -> Vec<Sample> {
        self.over.store(true, Ordering::Relaxed);
        self.end().await
    }

    /// Waits for the last answer.
    pub async fn end(self) -> Vec<Sample> {
        self.running.await.unwrap()
    }
}

async fn run(
    target: Target,
    rate: u32,
    length: Duration,
    began: Instant,
    over: Arc<AtomicBool>,
    counts: watch::Sender<u64>,
) -> Vec<Sample> {
    let counts = Arc::new(counts);
    let kept: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let count = (length.as_secs_f64() * f64::from(rate)) as u32;
    let mut asked = Vec::new();
    for number in 0..count {
        let due = Duration::from_secs(1) * number / rate;
        sleep_until(began + due).await;
        if over.load(Ordering::Relaxed) {
            break;
        }
        let (kept, target, counts) = (Arc::clone(&kept), target.clone(), Arc::clone(&counts));
        asked.push(tokio::spawn(async move {
            let late = began.elapsed() - due;
            let mut connection = kept.lock().unwrap().pop().unwrap_or_default();
            let outcome = connection.ask(&target).await;
            let took = began.elapsed() - due;
            counts.send_modify(|done| *done += 1);
            if connection.is_open() {
                kept.lock().unwrap().push(connection);
            }
            Sample { due, late, took, outcome }
        }));
    }
    let mut samples = Vec::new();
    for asked in asked {
        samples.push(asked.await.unwrap());
    }
    samples
}
