//! The control plane: decides, and is never on a request's path.
//!
//! [`governor`] takes reloads one after another: [`compile`] makes the next generation beside the
//! one in force, [`sockets`] binds what it needs, and only then a pointer is swapped. [`probers`]
//! keep asking the backends how they are. Others speak to all this by a [`Handle`].

mod beside;
pub mod by_hand;
mod changes;
pub mod compile;
pub mod explain;
mod files;
pub mod governor;
pub mod handle;
mod health_memory;
mod in_service;
pub mod notify;
mod outliers;
pub mod plan;
pub mod probe;
mod prober;
pub mod probers;
mod publisher;
mod slices;
pub mod sockets;
pub mod state_dir;
pub mod status;
pub mod store;
pub mod swaps;
pub mod ticket_keys;
mod transition;
mod trial;

pub use compile::AdminAccess;
pub use governor::{Governor, Prepared};
pub use handle::{Handle, Readiness, ReloadError, ReloadReport};
pub use state_dir::{StateDir, StateDirError};
pub use status::Status;
pub use store::Store;
pub use swaps::{SwapId, SwapOptions, SwapRefused};
