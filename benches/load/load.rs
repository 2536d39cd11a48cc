//! Runs a plan against a target.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::arguments::Plan;
use crate::lane::Lane;
use crate::measured::{Failed, Failure, Measured};
use crate::pace::Pace;
use crate::target::Target;
use crate::{LoadError, say};

/// After a connection that gave nothing, so as not to storm a server that is down.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two lines of progress.
const TELL: Duration = Duration::from_secs(1);

/// What all lanes share.
struct Shared {
    target: Target,
    plan: Plan,
    pace: Pace,
    /// What has ended before that is warm-up. What has not is waited for in the time that is
    /// measured, whenever it was due.
    counts_from: Instant,
    /// The end of that time.
    until: Instant,
    measured: Mutex<Measured>,
}

/// Loads the target, and gives what came out; what has come out so far where it is interrupted.
///
/// # Errors
/// If it cannot even begin.
pub async fn run(
    plan: Plan,
    target: Target,
    mut interrupted: watch::Receiver<bool>,
) -> Result<Measured, LoadError> {
    let measured =
        Measured::new().map_err(|error| LoadError::Setup("no histogram", error.to_string()))?;
    let start = Instant::now();
    let counts_from = start + plan.warm_up;
    let until = counts_from + plan.duration;
    let pace = Pace::new(plan.rate, start, until, plan.timeout);
    let shared =
        Arc::new(Shared { target, plan, pace, counts_from, until, measured: Mutex::new(measured) });

    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..shared.plan.connections {
        for lane in Lane::of_connection(shared.target.protocol, shared.plan.streams) {
            lanes.spawn(drive(lane, Arc::clone(&shared)));
        }
    }
    let telling = shared.plan.progress.then(|| tokio::spawn(tell(Arc::clone(&shared))));
    let all = async { while lanes.join_next().await.is_some() {} };
    let (until, interrupted) = tokio::select! {
        () = all => (until, false),
        _ = interrupted.wait_for(|now| *now) => (until.min(Instant::now()), true),
    };
    lanes.shutdown().await;
    if let Some(telling) = telling {
        telling.abort();
        let _ = telling.await;
    }

    let left = shared.pace.left().await;
    let Ok(shared) = Arc::try_unwrap(shared).map_err(|_| ()) else {
        return Err(LoadError::Setup("no result", "something still uses it".to_owned()));
    };
    let mut measured = shared.measured.into_inner().unwrap_or_else(PoisonError::into_inner);
    if interrupted {
        // What waited for its turn, or for its answer, may well have got it.
        measured.interrupted = Some(left);
    } else {
        measured.not_sent(left);
    }
    measured.span = until.saturating_duration_since(counts_from);
    Ok(measured)
}

/// One lane, from the first request to the end.
async fn drive(mut lane: Lane, shared: Arc<Shared>) {
    // Whether an answer has come since the last failure.
    let mut worked = false;
    while let Some(due) = shared.pace.next().await {
        let exchange = lane.exchange(&shared.target);
        let answer = match tokio::time::timeout(shared.plan.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                lane.let_go();
                Err(Failed::from(Failure::Timeout))
            }
        };
        let failure = answer.as_ref().err().map(|failed| failed.kind);
        let now = Instant::now();
        if now >= shared.counts_from {
            let mut measured = shared.measured.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(answer) => measured.record(now - due, answer, now <= shared.until),
                Err(failed) => measured.fail(failed),
            }
        }
        let failure = failure.filter(|failure| failure.ends_the_connection());
        if failure.is_some_and(|failure| !worked || failure.is_of_opening()) {
            tokio::time::sleep(PAUSE).await;
        }
        worked = failure.is_none();
        if !shared.plan.keepalive {
            lane.close().await;
        }
    }
}

/// A line a second, as long as there is something to wait for.
async fn tell(shared: Arc<Shared>) {
    let begin = shared.counts_from;
    while Instant::now() < begin {
        tokio::time::sleep_until(begin.min(Instant::now() + TELL).into()).await;
        let left = begin.saturating_duration_since(Instant::now()).as_secs_f64();
        if left > 0.0 {
            say(&format_args!("        warming up, {left:.1} s to go"));
        }
    }
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(TELL).await;
        let since = last.elapsed();
        last += since;
        let second = begin.elapsed().as_secs();
        // Not where this line is only a little late.
        let is_over = last > shared.until + TELL / 2;
        let note = if is_over { ", waiting for the last answers" } else { "" };
        let mut measured = shared.measured.lock().unwrap_or_else(PoisonError::into_inner);
        say(&format_args!("{second:5} s {}{note}", measured.progress(since)));
    }
}
