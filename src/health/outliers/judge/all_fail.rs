//! A set whose backends fail alike: nobody stands out, so nobody is ejected, and that is to be said.

use std::fmt;
use std::time::Duration;

use super::{Court, PLAIN, Peer};
use crate::health::outliers::traffic::SLICES;
use crate::health::outliers::{Mode, Settings};

/// The latest part of the window, in slices, that tells if it holds enough requests.
const LATEST: usize = SLICES as usize / 4;

/// Most requests to a set of backends fail, and no backend stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllFail {
    /// How many of the latest requests failed.
    pub failed: u64,
    /// Of how many.
    pub requests: u64,
    /// How many backends are in service.
    pub backends: usize,
}

/// Whether the backends of a set fail alike, as of their last
/// [observation](crate::health::outliers::Traffic::observe). It begins where half of the latest
/// requests fail, and if it was so `before` it ends where only a quarter does.
#[must_use]
pub fn all_fail(
    now: Duration,
    settings: &Settings,
    peers: &[Peer<'_>],
    before: bool,
) -> Option<AllFail> {
    let threshold = if before { PLAIN / 2.0 } else { PLAIN };
    let enough = u64::from(settings.min_requests.max(1));
    let serving = || peers.iter().filter(|peer| peer.in_service);
    let failures: u64 = serving().map(|peer| peer.traffic.tally_since(0).failures).sum();
    if settings.mode == Mode::Off || (failures as f64) < threshold * enough as f64 {
        return None;
    }
    let court = Court::new(now, settings, peers);
    let tally = court.tallies[LATEST..].iter().find(|tally| tally.requests >= enough)?;
    let fails = tally.failures as f64 >= threshold * tally.requests as f64;
    let alike = || serving().all(|peer| court.failing(peer.traffic).is_none());
    (fails && alike()).then(|| AllFail {
        failed: tally.failures,
        requests: tally.requests,
        backends: serving().count(),
    })
}

impl fmt::Display for AllFail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failed, requests, backends } = self;
        write!(f, "{failed} of the latest {requests} requests failed on ")?;
        f.write_str(match backends {
            1 => "the only backend in service, so it is not ejected",
            _ => "all backends alike, so none is ejected for it",
        })
    }
}
