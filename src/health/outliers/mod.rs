//! Outlier detection: which backend of a set is ill by what real traffic shows.
//!
//! Nearly all of it is comparison. A backend is not ill because it fails or is slow, but because it
//! does so while its siblings do not; what all of them do is a bug in every replica, or the load,
//! and ejecting some would only make it worse for the others. So one judgement looks at all
//! backends of one set (the versions of a pool are judged apart) with the counts of all workers,
//! four times a second. Only what cannot wait for that is counted where it happens: failures in a
//! row and broken-off responses, by [`Streak`].
//!
//! | sign | measured against | costs |
//! |---|---|---|
//! | failures in a row | nothing, unless most of the siblings' requests fail too | an ejection |
//! | share of failures over the window, or of plain illness over its latest part | siblings | an ejection |
//! | broken-off responses: in a row, or five that are a share of its responses | siblings | an ejection |
//! | median time to the response head | median of the siblings' | first its share, then an ejection |
//! | late heads in a row, where it has few | how many of the siblings' are late | the same |
//!
//! Where all fail alike, [`all_fail`] says so.
//!
//! Nothing here ejects by itself: the caller hands a [`Finding`] to
//! [`Health`](super::Health::on_ejection), which knows for how long.

mod judge;
mod latency;
mod pace;
mod streak;
mod traffic;

use std::time::Duration;

pub use judge::{
    Action, AllFail, Finding, Peer, Withheld, all_fail, judge, judge_alarm, may_eject,
};
pub use latency::{BUCKETS, bucket};
pub use pace::TRIED_AT_ONCE;
pub use streak::{Alarm, Outcome, Streak};
pub use traffic::{Totals, Traffic};

/// What counts as an outlier; `[pools.X.outliers]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Failures in a row that eject; 0: off.
    pub consecutive_failures: u32,
    /// Share of failed requests that ejects, above 0.0 ...
    pub failure_rate: f64,
    /// ... if it is also this many times that of the rest.
    pub failure_factor: f64,
    /// Requests below which a rate says nothing.
    pub min_requests: u32,
    /// How far back rates look.
    pub window: Duration,
    /// Slow is a median of this many times the siblings'; `None`: off ...
    pub latency_factor: Option<f64>,
    /// ... and never one below this.
    pub latency_floor: Duration,
    /// Share of the set that may be out at once, for whatever reason.
    pub max_ejected: f64,
    /// What findings lead to.
    pub mode: Mode,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_rate: 0.2,
            failure_factor: 5.0,
            min_requests: 20,
            window: Duration::from_secs(10),
            latency_factor: Some(5.0),
            latency_floor: Duration::from_millis(250),
            max_ejected: 0.5,
            mode: Mode::Enforce,
        }
    }
}

/// What findings lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ejections, and smaller shares.
    Enforce,
    /// Reports of what they would have led to.
    Observe,
    /// There are none.
    Off,
}

#[cfg(test)]
mod tests;
