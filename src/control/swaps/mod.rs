//! Guarded swaps: what the machine of [`deploy`](crate::deploy) decides is carried out here, and
//! told to whoever asks.
//!
//! [`view`] is what others read, [`board`] where they find it.

pub mod board;
pub mod view;

pub use board::Board;
pub use view::{OverrideStatus, PoolSwaps, RunningSwap, SwapId, SwapOptions, SwapRefused};

use crate::deploy::Held;
use crate::state::Version;

/// What a version holds now.
pub fn held(version: &Version) -> Held {
    let mut held = Held::default();
    for member in &version.members {
        let cells = &member.backend.cells;
        let closed = cells.sum(|cells| cells.tunnels_closed.get());
        let tunnels = cells.sum(|cells| cells.tunnels_opened.get()).saturating_sub(closed);
        held.tunnels += tunnels;
        held.requests += u64::from(member.backend.in_flight()).saturating_sub(tunnels);
    }
    held
}
