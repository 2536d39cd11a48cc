//! The test kit: honest fakes that the tests tell their stories with.
//!
//! A [`backend::Backend`] is a server that does what its script says, on the level of bytes, and
//! an [`h2_backend::H2Backend`] one on the level of HTTP/2 streams; a
//! [`wire::Wire`] is a client that says exactly what a test wants to say; a [`proxy::Proxy`] is a
//! whole Tidegate on ports of its own. Nothing sleeps to wait for something: it waits for the thing.

#![allow(dead_code, reason = "every test binary uses its own part of the kit")]

pub mod backend;
pub mod h2_backend;
pub mod h2_client;
pub mod h2_wire;
pub mod proxy;
pub mod tls;
pub mod wire;

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// No step of a test takes this long unless something hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that is about to be true.
///
/// # Panics
/// If it does not come true.
pub async fn eventually(what: &str, check: impl AsyncFnMut() -> bool) {
    eventually_within(PATIENCE, what, check).await;
}

/// The same for what takes longer than any step of ours.
///
/// # Panics
/// If it does not come true in that time.
pub async fn eventually_within(
    patience: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> bool,
) {
    let deadline = tokio::time::Instant::now() + patience;
    let mut looks = every(Duration::from_millis(10));
    loop {
        looks.tick().await;
        if check().await {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "never came true: {what}");
    }
}

/// The beat of whoever does something now and then, which gets no faster when it was held up. The
/// first is at once.
pub fn every(time: Duration) -> Interval {
    let mut beat = interval(time);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

/// Fails a test that hangs, in words.
///
/// # Panics
/// If the future does not end.
pub async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("hangs: {what}"),
    }
}
