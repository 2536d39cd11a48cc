//! Is a backend well: rise and fall thresholds and what follows. Pure: time is an argument, given as
//! the time since the process started.
//!
//! One state machine ([`Health`]) takes what probes find and what real traffic shows, and returns
//! transitions with a reason in words; reporting them is the caller's. What counts as a pass is in
//! [`expect`], what real traffic shows in [`outliers`].

pub mod expect;
mod machine;
pub mod outliers;
mod reason;

pub use expect::{Expect, ProbeFailure, StatusRanges};
pub use machine::{Health, Settings, State, Transition};
pub use reason::{EjectionReason, Reason};
