//! Is a backend well: rise and fall thresholds and what follows. Pure: time is an argument, given as
//! the time since the process started.
//!
//! One state machine ([`Health`]) takes what probes find and what real traffic shows, and returns
//! transitions with a reason in words; reporting them is the caller's. What counts as a pass is in
//! [`expect`], what real traffic shows in [`outliers`], what is enough to ask again in
//! [`suspicion`]. Beside it stand a [`Breaker`] and what is learned of idle connections,
//! [`keep_alive`].

mod breaker;
pub mod expect;
mod flaps;
pub mod keep_alive;
mod machine;
pub mod outliers;
mod reason;
pub mod suspicion;

pub use breaker::{
    Admission, Breaker, BreakerReason, BreakerSettings, BreakerState, BreakerTransition, Trial,
};
pub use expect::{DrainWish, Expect, ProbeFailure, StatusRanges};
pub use flaps::{FlapSettings, Hold};
pub use keep_alive::KeepAlive;
pub use machine::{ByHand, Hand, Health, Settings, State, Transition};
pub use reason::{EjectionReason, Reason};

#[cfg(test)]
mod tests;
