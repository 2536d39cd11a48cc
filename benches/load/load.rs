//! Runs a plan against a target.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::LoadError;
use crate::arguments::Plan;
use crate::lane::Lane;
use crate::measured::{Failure, Measured};
use crate::pace::Pace;
use crate::target::Target;

/// After a connection that could not be opened, so as not to storm a server that is down.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two lines of progress.
const TELL: Duration = Duration::from_secs(1);

/// What all lanes share.
struct Shared {
    target: Target,
    plan: Plan,
    pace: Pace,
    /// What was due before that is warm-up.
    counts_from: Instant,
    measured: Mutex<Measured>,
}

/// Loads the target, and gives what came out.
///
/// # Errors
/// If it cannot even begin.
pub async fn run(plan: Plan, target: Target) -> Result<Measured, LoadError> {
    let measured =
        Measured::new().map_err(|error| LoadError::Setup("no histogram", error.to_string()))?;
    let start = Instant::now();
    let counts_from = start + plan.warm_up;
    let until = counts_from + plan.duration;
    let pace = Pace::new(plan.rate, start, until, plan.timeout);
    let shared =
        Arc::new(Shared { target, plan, pace, counts_from, measured: Mutex::new(measured) });

    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..shared.plan.connections {
        for lane in Lane::of_connection(shared.target.protocol, shared.plan.streams) {
            lanes.spawn(drive(lane, Arc::clone(&shared)));
        }
    }
    let telling = shared.plan.progress.then(|| tokio::spawn(tell(Arc::clone(&shared))));
    lanes.join_all().await;
    if let Some(telling) = telling {
        telling.abort();
        let _ = telling.await;
    }

    let left = shared.pace.left(counts_from).await;
    let Ok(shared) = Arc::try_unwrap(shared).map_err(|_| ()) else {
        return Err(LoadError::Setup("no result", "something still uses it".to_owned()));
    };
    let mut measured = shared.measured.into_inner().unwrap_or_else(PoisonError::into_inner);
    measured.fail(Failure::NotSent, left);
    measured.elapsed = Instant::now().max(until).duration_since(counts_from);
    Ok(measured)
}

/// One lane, from the first request to the end.
async fn drive(mut lane: Lane, shared: Arc<Shared>) {
    while let Some(due) = shared.pace.next().await {
        let exchange = lane.exchange(&shared.target);
        let answer = match tokio::time::timeout(shared.plan.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                lane.let_go();
                Err(Failure::Timeout)
            }
        };
        if due >= shared.counts_from {
            let mut measured = shared.measured.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(bytes) => measured.record(due.elapsed(), bytes),
                Err(failure) => measured.fail(failure, 1),
            }
        }
        if let Err(Failure::Connect | Failure::Handshake) = answer {
            tokio::time::sleep(PAUSE).await;
        }
        if !shared.plan.keepalive {
            lane.close().await;
        }
    }
}

/// A line a second.
async fn tell(shared: Arc<Shared>) {
    tokio::time::sleep_until(shared.counts_from.into()).await;
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(TELL).await;
        let since = last.elapsed();
        last += since;
        let second = shared.counts_from.elapsed().as_secs();
        let mut measured = shared.measured.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("{second:5} s {}", measured.progress(since));
    }
}
