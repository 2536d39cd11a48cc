//! Which backend: the load-balancing policies. Pure: loads and randomness are arguments.
//!
//! Three questions, asked in this order. Which members may be picked at all ([`usable()`], answered
//! anew whenever a backend changes its condition)? Is the client bound to one of them
//! ([`affinity`])? Else, which one now ([`Candidates`], a table that is built once per change and
//! only read per request)? Beside them stand what [`slow_start`] means for a share, and the
//! [`queue`] for those who found every backend at its limit.

pub mod affinity;
mod draws;
mod hashing;
mod policy;
pub mod queue;
mod rotation;
pub mod slow_start;
mod usable;

pub use hashing::{client_hash, stable_hash};
pub use policy::{Candidates, Draw, Member, Policy, score};
pub use usable::{AllDown, Condition, MemberView, Tier, Usable, usable};
