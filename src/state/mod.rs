//! The types that both planes touch, and nothing else.
//!
//! The planes meet here in four ways: one [`Snapshot`] behind an `ArcSwap` for what a reload
//! changes; inside each pool one [`Split`] behind an `ArcSwap` for which version serves; atomics
//! inside each [`Backend`] for condition and counts; and one mailbox ([`Mail`]) per worker for
//! what must wake it. All writes to the first two come from the governor in `control`.

pub mod abuse;
pub mod address;
pub mod attempts;
pub mod backend;
pub mod breaker;
pub mod budget;
pub mod counters;
pub mod feed;
pub mod files;
pub mod findings;
pub mod history;
pub mod keep_alive;
pub mod mail;
pub mod once_a_second;
pub mod overload;
pub mod pace;
pub mod places;
pub mod pool;
pub mod ratio;
pub mod route;
pub mod shadow;
pub mod shared;
pub mod snapshot;
pub mod split;
pub mod swap_counts;
pub mod tls;
pub mod trust;
pub mod unsaved;
pub mod version;
pub mod waiting;

pub use abuse::H2Abuse;
pub use address::Address;
pub use backend::{Backend, BackendId, Slot};
pub use breaker::PoolBreaker;
pub use budget::RetryBudget;
pub use feed::{Event, Feed, Happening, SwapEvent};
pub use files::{ClientFile, Files, OpenFile};
pub use mail::{
    CloseTunnels, Handover, ListeningSocket, Mail, Notice, SocketId, WarmUp, WarmedUp, WorkerSocket,
};
pub use pace::Pace;
pub use places::{Idleness, Place, Places};
pub use pool::{Pool, PoolState};
pub use ratio::Ratio;
pub use shared::{Lifecycle, Shared, WorkerId};
pub use snapshot::{Listener, ListenerState, Redirect, Route, Snapshot, Target};
pub use split::{Share, Split};
pub use unsaved::{Document, Unsaved};
pub use version::{Choice, Member, NotPicked, Picked, UsableSet, Version};
pub use waiting::WaitingLine;
