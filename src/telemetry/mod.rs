//! What the process tells of itself: metrics, the access log, the log, and the events that are both
//! a line of the log and a count.

pub mod access;
mod civil;
pub mod events;
pub mod log;
pub mod metrics;

pub use access::AccessLog;
pub use civil::date;
pub use log::Log;
